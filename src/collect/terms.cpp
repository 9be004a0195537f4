#include "collect/terms.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "base/file.h"
#include "base/hash.h"
#include "data/spdx.h"
#include "data/spec_file.h"

namespace retort::collect {

using formats::Json;

namespace {

constexpr std::size_t max_terms_bytes = std::size_t{1} << 20U;

bool is_date(std::string_view text) {
    if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
    for (const std::size_t i : {0, 1, 2, 3, 5, 6, 8, 9}) {
        if (text[i] < '0' || text[i] > '9') return false;
    }
    const int month = (text[5] - '0') * 10 + text[6] - '0';
    const int day = (text[8] - '0') * 10 + text[9] - '0';
    return month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return out;
}

Result<std::vector<std::string>> string_list(const Json& object, std::string_view key) {
    std::vector<std::string> list;
    const Json* value = formats::json_find(object, key);
    if (value == nullptr) return list;
    if (!value->is_array()) return fail(ErrorCode::format, "{} is not a list", key);
    for (const Json& entry : *value) {
        if (!entry.is_string()) return fail(ErrorCode::format, "{} holds something that is no text", key);
        list.push_back(entry.get<std::string>());
    }
    return list;
}

Result<Terms> terms_from_json(const Json& json) {
    if (!json.is_object()) return fail(ErrorCode::format, "not a table of keys");
    constexpr std::array<std::string_view, 9> keys = {
        "id",    "permitted_by", "licence", "statement", "allows_training_on_outputs",
        "scope", "date",         "models",  "source"};
    for (const auto& [key, value] : json.items()) {
        if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
            return fail(ErrorCode::format, "unknown key \"{}\"; there are {}", key, fmt::join(keys, ", "));
        }
    }
    Terms terms;
    RETORT_TRY(terms.id, formats::json_string(json, "id", std::string()));
    RETORT_TRY(terms.permitted_by, formats::json_string(json, "permitted_by"));
    RETORT_TRY(terms.licence, formats::json_string(json, "licence", std::string()));
    RETORT_TRY(terms.statement, formats::json_string(json, "statement", std::string()));
    RETORT_TRY(terms.allows_training_on_outputs,
               formats::json_boolean(json, "allows_training_on_outputs", false));
    RETORT_TRY(terms.scope, formats::json_string(json, "scope"));
    RETORT_TRY(terms.date, formats::json_string(json, "date"));
    RETORT_TRY(terms.source, formats::json_string(json, "source", std::string()));
    RETORT_TRY(terms.models, string_list(json, "models"));
    if (terms.permitted_by.empty()) return fail(ErrorCode::format, "permitted_by is empty: name who permits");
    if (terms.licence.empty() && terms.statement.empty()) {
        return fail(ErrorCode::format,
                    "give a licence (SPDX, as \"Apache-2.0\") or a statement (the permission in words)");
    }
    if (!terms.licence.empty()) {
        const auto expression = data::parse_spdx(terms.licence);
        if (!expression) {
            return fail(ErrorCode::format,
                        "licence \"{}\" is no SPDX expression ({}); words go into statement", terms.licence,
                        expression.error().message);
        }
    }
    if (terms.scope.empty()) return fail(ErrorCode::format, "scope is empty: say what the permission covers");
    if (!is_date(terms.date))
        return fail(ErrorCode::format, "date \"{}\" is not of the form YYYY-MM-DD", terms.date);
    if (terms.id.empty()) {
        terms.id = (terms.licence.empty() ? std::string("statement") : terms.licence) + "@" + terms.date;
    }
    return terms;
}

std::string example(std::string_view model) {
    const KnownTerms* known = known_model(model);
    const std::string licence = known != nullptr && !known->licence.empty() ? known->licence : "Apache-2.0";
    const std::string source = known != nullptr ? known->source : "https://…";
    return fmt::format(
        "  permitted_by = \"…\"                  # who permits it: the model's licensor, or the provider\n"
        "  licence = \"{}\"               # or: statement = \"the permission in words\"\n"
        "  allows_training_on_outputs = true\n"
        "  scope = \"answers of {}\"\n"
        "  date = \"YYYY-MM-DD\"                 # when you read it\n"
        "  source = \"{}\"",
        licence, model, source);
}

}  // namespace

bool matches_wildcard(std::string_view pattern, std::string_view text) {
    std::size_t p = 0;
    std::size_t t = 0;
    std::size_t star = std::string_view::npos;
    std::size_t retry = 0;
    while (t < text.size()) {
        if (p < pattern.size() && pattern[p] == '*') {
            star = p++;
            retry = t;
        } else if (p < pattern.size() && pattern[p] == text[t]) {
            ++p;
            ++t;
        } else if (star != std::string_view::npos) {
            p = star + 1;
            t = ++retry;
        } else {
            return false;
        }
    }
    while (p < pattern.size() && pattern[p] == '*') ++p;
    return p == pattern.size();
}

Result<Terms> parse_terms(std::string_view text, std::string_view name) {
    RETORT_TRY(const Json json, data::parse_spec(text, name));
    auto terms = terms_from_json(json);
    if (!terms) return fail_from(terms.error(), name);
    terms->sha256 = base::sha256_hex(text);
    terms->text = text;
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    terms->extension = first != std::string_view::npos && text[first] == '{' ? ".json" : ".toml";
    return terms;
}

Result<Terms> read_terms(const std::filesystem::path& path) {
    RETORT_TRY(const std::string text, base::read_file(path, max_terms_bytes));
    return parse_terms(text, path.string());
}

Result<std::vector<KnownTerms>> parse_known_terms(std::string_view text) {
    RETORT_TRY(const Json json, formats::parse_json(text, "known terms"));
    const Json* entries = formats::json_find(json, "entries");
    if (entries == nullptr || !entries->is_array()) return fail(ErrorCode::format, "known terms: no entries");
    std::vector<KnownTerms> table;
    for (const Json& entry : *entries) {
        KnownTerms known;
        RETORT_TRY(known.name, formats::json_string(entry, "name"));
        RETORT_TRY(known.hosts, string_list(entry, "hosts"));
        RETORT_TRY(known.models, string_list(entry, "models"));
        RETORT_TRY(known.training, formats::json_string(entry, "training"));
        RETORT_TRY(known.licence, formats::json_string(entry, "licence", std::string()));
        RETORT_TRY(known.note, formats::json_string(entry, "note"));
        RETORT_TRY(known.source, formats::json_string(entry, "source"));
        RETORT_TRY(known.date, formats::json_string(entry, "date"));
        RETORT_TRY(known.duty, formats::json_string(entry, "duty", std::string()));
        RETORT_TRY(known.checked, formats::json_string(entry, "checked"));
        if (known.training != "forbidden" && known.training != "allowed" && known.training != "conditional") {
            return fail(ErrorCode::format, "known terms of {}: training is \"{}\"", known.name,
                        known.training);
        }
        if (!is_date(known.date))
            return fail(ErrorCode::format, "known terms of {}: date \"{}\"", known.name, known.date);
        if (!known.checked.empty() && !is_date(std::string_view(known.checked).substr(0, 10)))
            return fail(ErrorCode::format, "known terms of {}: checked \"{}\"", known.name, known.checked);
        table.push_back(std::move(known));
    }
    return table;
}

std::span<const KnownTerms> known_terms() {
    static constexpr std::string_view text =
#include "collect/known_terms.inc"
        ;
    static const std::vector<KnownTerms> table = parse_known_terms(text).value_or(std::vector<KnownTerms>());
    return table;
}

std::string standing_of(const KnownTerms& known) {
    return fmt::format("as of {}; {}", known.date,
                       known.checked.empty() ? "not checked by us" : "checked " + known.checked);
}

const KnownTerms* known_host(std::string_view host) {
    const std::string wanted = lower(host);
    for (const KnownTerms& known : known_terms()) {
        for (const std::string& entry : known.hosts) {
            if (wanted == entry || (entry.starts_with('.') && wanted.ends_with(entry))) return &known;
        }
    }
    return nullptr;
}

const KnownTerms* known_model(std::string_view model) {
    const std::string wanted = lower(model);
    const std::size_t slash = wanted.rfind('/');
    const std::string base_name = slash == std::string::npos ? wanted : wanted.substr(slash + 1);
    for (const KnownTerms& known : known_terms()) {
        for (const std::string& pattern : known.models) {
            if (matches_wildcard(pattern, wanted) || matches_wildcard(pattern, base_name)) return &known;
        }
    }
    return nullptr;
}

Status check_terms(const std::optional<Terms>& terms, std::string_view host, std::string_view model) {
    const KnownTerms* provider = known_host(host);
    const KnownTerms* weights = known_model(model);
    if (!terms) {
        std::string known = "Nothing is known of this teacher's terms: ask whoever offers it.";
        if (const KnownTerms* entry = provider != nullptr ? provider : weights; entry != nullptr) {
            known =
                fmt::format("{} ({}): {} {}", entry->name, standing_of(*entry), entry->note, entry->source);
        }
        return fail(
            ErrorCode::refused,
            "no terms: {} is not asked before you say who allows training on its answers.\n{}\nWrite a file, "
            "say terms.toml, and name it with --terms:\n{}",
            model, known, example(model));
    }
    if (!terms->allows_training_on_outputs) {
        return fail(ErrorCode::refused,
                    "terms {} do not allow training on the answers of {} (allows_training_on_outputs is not "
                    "true); ask "
                    "for another permission or another teacher",
                    terms->id, model);
    }
    if (!terms->models.empty() &&
        std::none_of(terms->models.begin(), terms->models.end(), [&](const std::string& pattern) {
            return matches_wildcard(lower(pattern), lower(model));
        })) {
        return fail(ErrorCode::refused, "terms {} cover the models {}, not {}", terms->id,
                    fmt::join(terms->models, ", "), model);
    }
    // For an API it is the provider's word that counts, not the licence of what it runs.
    const KnownTerms* entry = provider != nullptr ? provider : weights;
    if (entry != nullptr && entry->training == "forbidden" && terms->statement.empty()) {
        return fail(ErrorCode::refused,
                    "terms {} name the licence {}, but the published terms of {} ({}) say otherwise: "
                    "{} {}\nIf they "
                    "gave you leave, put their words into the terms file as statement = \"…\"",
                    terms->id, terms->licence, entry->name, standing_of(*entry), entry->note, entry->source);
    }
    return {};
}

}  // namespace retort::collect
