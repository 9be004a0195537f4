#include "release/provenance.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/file.h"
#include "base/hash.h"
#include "data/lineage.h"
#include "data/manifest.h"
#include "http/url.h"

namespace retort::release {

namespace fs = std::filesystem;
using formats::Json;

namespace {

constexpr int most_generations = 64;

// The folders that records' terms may lie in: the records' own, those beside it (a run's stages), and more.
class TermsShelf {
  public:
    explicit TermsShelf(std::vector<fs::path> folders) : folders_(std::move(folders)) {}

    void look_in(const fs::path& folder) {
        if (std::find(folders_.begin(), folders_.end(), folder) == folders_.end()) folders_.push_back(folder);
    }
    // The terms of that hash; none: not found.
    std::optional<collect::Terms> find(const std::string& sha256) {
        read();
        const auto found = known_.find(sha256);
        return found == known_.end() ? std::nullopt : std::optional(found->second);
    }

  private:
    void read() {
        for (; read_ < folders_.size(); ++read_) {
            std::error_code error;
            for (fs::directory_iterator at(folders_[read_], error); !error && at != fs::directory_iterator();
                 at.increment(error)) {
                const fs::path& path = at->path();
                const bool is_terms =
                    path.extension() == ".toml" || path.filename().string().starts_with("terms");
                std::error_code size_error;
                if (!is_terms || !at->is_regular_file(size_error) || at->file_size(size_error) > (1U << 20U))
                    continue;
                if (auto terms = collect::read_terms(path)) known_.emplace(terms->sha256, std::move(*terms));
            }
        }
    }
    std::vector<fs::path> folders_;
    std::size_t read_ = 0;
    std::map<std::string, collect::Terms> known_;
};

std::string host_of(const std::string& endpoint) {
    const auto url = http::parse_url(endpoint);
    return url ? url->host : std::string();
}

class Tracer {
  public:
    explicit Tracer(const ProvenanceOptions& options) : options_(options), shelf_(options.terms_folders) {}

    Result<Provenance> run(const fs::path& model) {
        out_.model = model;
        RETORT_TRY(out_.model_sha256, data::hash_of_path(model));
        RETORT_CHECK(weights(model, "model", out_.model_sha256, 0));
        std::set<std::string> licences;
        for (Source& source : out_.sources) {
            judge(source);
            for (const std::string& each : source.missing) out_.missing.push_back(source.name + ": " + each);
            for (const std::string& each : source.objections)
                out_.objections.push_back(source.name + ": " + each);
            for (const std::string& each : source.duties) {
                if (std::find(out_.duties.begin(), out_.duties.end(), each) == out_.duties.end())
                    out_.duties.push_back(each);
            }
            if (source.licence.empty()) continue;
            const auto expression = data::parse_spdx(source.licence);
            const bool compound = source.licence.find(" OR ") != std::string::npos;
            if (expression) licences.insert(compound ? "(" + source.licence + ")" : source.licence);
        }
        out_.licence = fmt::format("{}", fmt::join(licences, " AND "));
        if (const auto whole = data::parse_spdx(out_.licence)) out_.licence = data::write_spdx(*whole);
        return std::move(out_);
    }

  private:
    // A model: through its lineage to what it was made from, else the source that it is itself.
    Status weights(const fs::path& path, const std::string& used_as, const std::string& recorded,
                   int generation) {
        if (generation > most_generations) {
            return fail(ErrorCode::format, "{}: its lineage goes in a circle", path.string());
        }
        std::error_code error;
        if (!fs::exists(path, error)) {
            Source source = begin("weights", path.string(), path, used_as, recorded);
            source.missing.push_back(
                "it is no longer there, so that where it came from cannot be told; put it back");
            return add(std::move(source));
        }
        RETORT_TRY(const std::string sha256, data::hash_of_path(path));
        if (sha256 != recorded) {
            Source source = begin("weights", path.string(), path, used_as, recorded);
            source.missing.push_back(fmt::format(
                "the one that was used has SHA-256 {}, what lies there now has {}; put the old one back",
                recorded, sha256));
            return add(std::move(source));
        }
        if (!walked_.insert(path.string()).second) return {};
        const auto file = data::find_lineage(path);
        if (!file) return pulled(path, used_as, sha256);
        return walk(*file, generation);
    }

    Status walk(const fs::path& file, int generation) {
        RETORT_TRY(const std::string text, base::read_file(file, std::size_t{1} << 24U));
        RETORT_TRY(const data::Lineage lineage, data::parse_lineage(text, file.string()));
        out_.lineages.push_back(file.string());
        for (const data::LineageInput& input : lineage.inputs) RETORT_CHECK(follow(input, generation + 1));
        return {};
    }

    Status follow(const data::LineageInput& input, int generation) {
        if (input.role == "records" || input.role == "held-out" || input.role == "prompts") {
            // What a student was only measured on went into nothing.
            return input.role == "held-out" ? Status{} : records(input);
        }
        if (input.role == "shape" || input.role == "cache" || input.role == "tokenizer")
            return other(input, generation);
        return weights(input.path, input.role, input.sha256, generation);
    }

    // Files that say how, not what: only that they are the same.
    Status other(const data::LineageInput& input, int generation) {
        if (input.role == "shape") return {};
        const auto sha256 = data::hash_of_path(input.path);
        if (sha256 && *sha256 == input.sha256)
            return input.role == "cache" ? cache(input, generation) : Status{};
        Source source = begin(input.role, input.path.string(), input.path, input.role, input.sha256);
        source.missing.push_back(sha256 ? "it was changed since; put the old one back"
                                        : "it is no longer there");
        return add(std::move(source));
    }
    // A cache is a teacher's distribution; one made before caches had a lineage tells by no path whose.
    Status cache(const data::LineageInput& input, int generation) {
        std::error_code error;
        const fs::path file = input.path / "lineage.json";
        if (fs::exists(file, error)) {
            return walked_.insert(input.path.string()).second ? walk(file, generation) : Status{};
        }
        Source source = begin("cache", input.path.string(), input.path, "teacher", input.sha256);
        source.missing.push_back("a cache names its teacher by hash alone: trace the teacher by itself");
        return add(std::move(source));
    }

    Status pulled(const fs::path& path, const std::string& used_as, const std::string& sha256) {
        std::error_code error;
        const fs::path folder = fs::is_directory(path, error) ? path : path.parent_path();
        Source source = begin("weights", path.filename().string(), path, used_as, sha256);
        const auto record = formats::read_json_file(folder / "pull.json");
        if (!record) {
            source.missing.push_back(fmt::format(
                "neither {} nor a pull.json beside it says where it came from; pull it with `retort pull`",
                path.string() + ".lineage.json"));
            return add(std::move(source));
        }
        RETORT_TRY(const std::string resolved, formats::json_string(*record, "resolved", std::string()));
        RETORT_TRY(source.where, formats::json_string(*record, "source", std::string()));
        RETORT_TRY(source.licence, formats::json_string(*record, "licence", std::string()));
        RETORT_TRY(source.date, formats::json_string(*record, "date", std::string()));
        source.name = resolved.empty() ? source.where : resolved;
        if (source.licence.empty())
            source.missing.push_back("pull.json names no licence; add it as \"licence\"");
        return add(std::move(source));
    }

    // A source for each teacher under each terms.
    Status records(const data::LineageInput& input) {
        std::error_code error;
        if (!fs::exists(input.path, error)) {
            Source source = begin("records", input.path.string(), input.path, input.role, input.sha256);
            source.missing.push_back("they are no longer there; put them back");
            return add(std::move(source));
        }
        RETORT_TRY(const std::string sha256, data::hash_of_path(input.path));
        if (sha256 != input.sha256) {
            Source source = begin("records", input.path.string(), input.path, input.role, input.sha256);
            source.missing.push_back(
                fmt::format("those that were trained on have SHA-256 {}, not {}", input.sha256, sha256));
            return add(std::move(source));
        }
        shelf_.look_in(input.path.parent_path());
        for (fs::directory_iterator at(input.path.parent_path().parent_path(), error);
             !error && at != fs::directory_iterator(); at.increment(error)) {
            if (at->is_directory(error)) shelf_.look_in(at->path());
        }
        std::map<std::array<std::string, 4>, std::int64_t> groups;
        RETORT_CHECK(data::read_records(input.path, [&](data::Record&& record) -> Status {
            ++groups[{record.endpoint, record.request.model, record.terms_id, record.terms_sha256}];
            return {};
        }));
        for (const auto& [group, count] : groups) {
            const auto& [endpoint, model, terms_id, terms_sha256] = group;
            Source source =
                begin("records", fmt::format("{} at {}", model, endpoint), input.path, input.role, sha256);
            source.merkle_root = input.merkle_root;
            source.records = count;
            source.terms_id = terms_id;
            source.terms_sha256 = terms_sha256;
            add_terms(source, host_of(endpoint), model);
            RETORT_CHECK(add(std::move(source)));
        }
        return {};
    }

    void add_terms(Source& source, const std::string& host, const std::string& model) {
        const auto terms = shelf_.find(source.terms_sha256);
        if (!terms) {
            source.missing.push_back(
                source.terms_sha256.empty()
                    ? "its records name no terms: ask who allows training on them, or leave the source out"
                    : fmt::format(
                          "terms {} (SHA-256 {}…) are not there: put the file beside the records, name its "
                          "folder, or leave the source out",
                          source.terms_id, source.terms_sha256.substr(0, 12)));
            if (const collect::KnownTerms* known = collect::known_host(host) != nullptr
                                                       ? collect::known_host(host)
                                                       : collect::known_model(model);
                known != nullptr) {
                source.missing.back() +=
                    fmt::format(". Published by {} ({}): {} {}", known->name, collect::standing_of(*known),
                                known->note, known->source);
            }
            return;
        }
        source.licence = terms->licence;
        source.permitted_by = terms->permitted_by;
        source.date = terms->date;
        source.where = terms->source;
        if (const Status allowed = collect::check_terms(*terms, host, model); !allowed)
            source.objections.push_back(allowed.error().message);
        const collect::KnownTerms* known = collect::known_model(model);
        if (known != nullptr && !known->duty.empty())
            source.duties.push_back(known->name + ": " + known->duty);
    }

    // What its licence says to the uses asked for. A statement of permission is judged by its own words, that
    // is by whoever reads it: it names uses in its scope.
    void judge(Source& source) {
        if (source.licence.empty()) return;
        const auto expression = data::parse_spdx(source.licence);
        if (!expression) {
            source.missing.push_back(expression.error().message);
            return;
        }
        for (const data::Use use : options_.uses) {
            if (std::string objection = data::licence_objection(*expression, use); !objection.empty())
                source.objections.push_back(std::move(objection));
        }
        for (std::string& duty : data::licence_duties(*expression)) source.duties.push_back(std::move(duty));
    }

    static Source begin(std::string kind, std::string name, const fs::path& path, std::string used_as,
                        std::string sha256) {
        Source source;
        source.kind = std::move(kind);
        source.name = std::move(name);
        source.path = path;
        source.used_as = std::move(used_as);
        source.sha256 = std::move(sha256);
        return source;
    }
    Status add(Source source) {
        out_.sources.push_back(std::move(source));
        return {};
    }

    const ProvenanceOptions& options_;
    TermsShelf shelf_;
    std::set<std::string> walked_;
    Provenance out_;
};

}  // namespace

Result<Provenance> trace(const fs::path& model, const ProvenanceOptions& options) {
    std::error_code error;
    if (!fs::exists(model, error)) return fail(ErrorCode::not_found, "{}: not there", model.string());
    // A distilled student's folder holds the model in model/.
    const fs::path inside = model / "model";
    return Tracer(options).run(
        fs::is_directory(inside, error) && !fs::exists(model / "config.json", error) ? inside : model);
}

Json provenance_json(const Provenance& provenance) {
    Json sources = Json::array();
    for (const Source& source : provenance.sources) {
        Json json = {{"kind", source.kind},          {"name", source.name},
                     {"path", source.path.string()}, {"used_as", source.used_as},
                     {"sha256", source.sha256},      {"licence", source.licence},
                     {"missing", source.missing},    {"date", source.date},
                     {"source", source.where},       {"objections", source.objections},
                     {"duties", source.duties}};
        if (source.kind == "records") {
            json["records"] = source.records;
            json["merkle_root"] = source.merkle_root;
            json["terms"] = {{"id", source.terms_id},
                             {"sha256", source.terms_sha256},
                             {"permitted_by", source.permitted_by}};
        }
        sources.push_back(std::move(json));
    }
    return {{"format", "retort-provenance-1"},         {"model", provenance.model.string()},
            {"model_sha256", provenance.model_sha256}, {"sources", sources},
            {"licence", provenance.licence},           {"missing", provenance.missing},
            {"objections", provenance.objections},     {"duties", provenance.duties},
            {"lineages", provenance.lineages}};
}

std::string provenance_text(const Provenance& provenance) {
    std::string out = fmt::format("{}\n  SHA-256 {}\n", provenance.model.string(), provenance.model_sha256);
    for (const Source& source : provenance.sources) {
        out += fmt::format("{} {}: {}", source.used_as, source.kind, source.name);
        if (source.records > 0) out += fmt::format(", {} records", source.records);
        out += fmt::format("\n  licence {}", source.licence.empty() ? "unknown" : source.licence);
        if (!source.terms_id.empty()) out += fmt::format(", terms {}", source.terms_id);
        if (!source.permitted_by.empty()) out += fmt::format(", permitted by {}", source.permitted_by);
        out += "\n";
    }
    const auto list = [&](std::string_view title, const std::vector<std::string>& lines) {
        if (lines.empty()) return;
        out += fmt::format("{}\n", title);
        for (const std::string& line : lines) out += fmt::format("  - {}\n", line);
    };
    list("Missing:", provenance.missing);
    list("Not allowed:", provenance.objections);
    list("Whoever passes it on must:", provenance.duties);
    if (provenance.missing.empty() && provenance.objections.empty()) {
        out += fmt::format("{} sources, each with licence or terms\n", provenance.sources.size());
    }
    return out;
}

}  // namespace retort::release
