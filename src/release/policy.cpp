#include "release/policy.h"

#include <algorithm>
#include <initializer_list>

#include "base/file.h"
#include "base/hash.h"
#include "data/spec_file.h"
#include "formats/json.h"

namespace retort::release {

namespace fs = std::filesystem;
using formats::Json;

namespace {

// One table of the policy, every key of which must be known.
class Table {
  public:
    Table(const Json& json, std::string name, const fs::path& folder)
        : json_(json), name_(std::move(name)), folder_(folder) {}

    [[nodiscard]] Status only(std::initializer_list<std::string_view> keys) const {
        if (!json_.is_object()) return fail(ErrorCode::invalid_argument, "{} is no table", name_);
        for (const auto& [key, value] : json_.items()) {
            if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
                return fail(ErrorCode::invalid_argument, "{}: unknown key \"{}\"; there are {}", name_, key,
                            fmt::join(keys, ", "));
            }
        }
        return {};
    }
    [[nodiscard]] Result<std::string> text(std::string_view key) const {
        auto value = formats::json_string(json_, key);
        if (!value) return fail(ErrorCode::invalid_argument, "{}: {}", name_, value.error().message);
        return value;
    }
    [[nodiscard]] Result<fs::path> path(std::string_view key) const {
        RETORT_TRY(const std::string value, text(key));
        return folder_ / value;
    }
    [[nodiscard]] Result<std::vector<std::string>> texts(std::string_view key) const {
        std::vector<std::string> out;
        const Json* list = formats::json_find(json_, key);
        if (list == nullptr) return out;
        for (const Json& each : list->is_array() ? *list : Json::array({*list})) {
            if (!each.is_string())
                return fail(ErrorCode::invalid_argument, "{}: {} holds something that is no text", name_,
                            key);
            out.push_back(each.get<std::string>());
        }
        return out;
    }
    [[nodiscard]] Result<std::vector<fs::path>> paths(std::string_view key) const {
        RETORT_TRY(const std::vector<std::string> names, texts(key));
        std::vector<fs::path> out;
        for (const std::string& each : names) out.push_back(folder_ / each);
        return out;
    }
    [[nodiscard]] Result<std::int64_t> count(std::string_view key, std::int64_t fallback,
                                             std::int64_t least = 0) const {
        auto value = formats::json_integer(json_, key, fallback);
        if (!value) return fail(ErrorCode::invalid_argument, "{}: {}", name_, value.error().message);
        if (*value < least || *value > 1'000'000) {
            return fail(ErrorCode::invalid_argument, "{}: {} = {}; from {} to 1000000", name_, key, *value,
                        least);
        }
        return value;
    }
    [[nodiscard]] Result<bool> flag(std::string_view key, bool fallback) const {
        auto value = formats::json_boolean(json_, key, fallback);
        if (!value) return fail(ErrorCode::invalid_argument, "{}: {}", name_, value.error().message);
        return value;
    }
    // at_least or at_most, whichever the item takes.
    [[nodiscard]] Result<Bound> bound(bool at_least, std::optional<double> fallback = std::nullopt) const {
        const std::string_view key = at_least ? "at_least" : "at_most";
        Bound out;
        out.at_least = at_least;
        if (formats::json_find(json_, key) == nullptr && !fallback) {
            return fail(ErrorCode::invalid_argument, "{}: {} is missing", name_, key);
        }
        auto limit = formats::json_number(json_, key, fallback.value_or(0));
        if (!limit) return fail(ErrorCode::invalid_argument, "{}: {}", name_, limit.error().message);
        if (!(*limit >= 0 && *limit <= 1)) {
            return fail(ErrorCode::invalid_argument, "{}: {} = {}; a share from 0 to 1", name_, key, *limit);
        }
        out.limit = *limit;
        auto by = formats::json_string(json_, "by", "value");
        if (!by || (*by != "value" && *by != "interval")) {
            return fail(ErrorCode::invalid_argument, "{}: by is \"value\" or \"interval\"", name_);
        }
        out.by_interval = *by == "interval";
        return out;
    }

  private:
    const Json& json_;
    std::string name_;
    const fs::path& folder_;
};

Result<TaskItem> task_from(const Json& json, const std::string& name, bool at_least, bool verified,
                           const fs::path& folder) {
    const Table table(json, name, folder);
    RETORT_CHECK(
        table.only({"id", "prompts", "verifier", "max_tokens", "by", at_least ? "at_least" : "at_most"}));
    TaskItem item;
    RETORT_TRY(item.prompts, table.path("prompts"));
    item.id = item.prompts.stem().string();
    if (formats::json_find(json, "id") != nullptr) {
        RETORT_TRY(item.id, table.text("id"));
    }
    if (verified) {
        RETORT_TRY(item.verifier, table.path("verifier"));
    }
    RETORT_TRY(item.max_tokens, table.count("max_tokens", item.max_tokens, 1));
    RETORT_TRY(item.bound, table.bound(at_least));
    return item;
}

Status tasks_from(const Json& json, const char* key, bool at_least, const fs::path& folder,
                  std::vector<TaskItem>& out) {
    const Json* list = formats::json_find(json, key);
    if (list == nullptr) return {};
    if (!list->is_array())
        return fail(ErrorCode::invalid_argument, "{} is a list of tables: [[{}]]", key, key);
    for (const Json& each : *list) {
        RETORT_TRY(TaskItem item, task_from(each, fmt::format("[[{}]]", key), at_least, true, folder));
        out.push_back(std::move(item));
    }
    return {};
}

Status extraction_from(const Json& json, const fs::path& folder, ExtractionItem& item) {
    const Table table(json, "[extraction]", folder);
    RETORT_CHECK(table.only({"works", "prefixes", "prefix_tokens", "answer_tokens", "samples", "span_words",
                             "span_characters", "at_most", "by"}));
    RETORT_TRY(item.works, table.paths("works"));
    if (item.works.empty())
        return fail(ErrorCode::invalid_argument, "[extraction]: works names no file or folder");
    RETORT_TRY(item.prefixes, table.count("prefixes", item.prefixes, 1));
    RETORT_TRY(item.prefix_tokens, table.count("prefix_tokens", item.prefix_tokens, 8));
    RETORT_TRY(item.answer_tokens, table.count("answer_tokens", item.answer_tokens, 8));
    RETORT_TRY(item.samples, table.count("samples", item.samples));
    RETORT_TRY(const std::int64_t words, table.count("span_words", 50));
    RETORT_TRY(const std::int64_t characters, table.count("span_characters", 150));
    item.span_words = static_cast<std::size_t>(words);
    item.span_characters = static_cast<std::size_t>(characters);
    if (words == 0 && characters == 0) {
        return fail(ErrorCode::invalid_argument,
                    "[extraction]: span_words and span_characters are both 0: nothing would count");
    }
    RETORT_TRY(item.bound, table.bound(false, 0));
    return {};
}

Status judged_from(const Json& json, const fs::path& folder, Policy& policy) {
    if (const Json* each = formats::json_find(json, "refusals")) {
        RETORT_TRY(policy.refusals, task_from(*each, "[refusals]", true, false, folder));
        policy.refusals->id = "red lines";
    }
    if (const Json* each = formats::json_find(json, "secrets")) {
        const Table table(*each, "[secrets]", folder);
        RETORT_CHECK(table.only({"planted", "samples", "at_most", "by"}));
        SecretsItem& item = policy.secrets.emplace();
        RETORT_TRY(item.planted, table.path("planted"));
        RETORT_TRY(item.samples, table.count("samples", item.samples));
        RETORT_TRY(item.bound, table.bound(false, 0));
    }
    if (const Json* each = formats::json_find(json, "personal_data")) {
        const Table table(*each, "[personal_data]", folder);
        RETORT_CHECK(table.only({"allowed", "at_most", "by"}));
        policy.personal_data = true;
        RETORT_TRY(policy.personal_data_allowed, table.texts("allowed"));
        RETORT_TRY(policy.personal_data_bound, table.bound(false, 0));
    }
    if (const Json* each = formats::json_find(json, "extraction")) {
        RETORT_CHECK(extraction_from(*each, folder, policy.extraction.emplace()));
    }
    if (const Json* each = formats::json_find(json, "calibration")) {
        const Table table(*each, "[calibration]", folder);
        RETORT_CHECK(table.only({"records", "at_most", "by"}));
        CalibrationItem& item = policy.calibration.emplace();
        RETORT_TRY(item.records, table.path("records"));
        RETORT_TRY(item.bound, table.bound(false));
    }
    return {};
}

Status stated_from(const Json& json, const fs::path& folder, Policy& policy) {
    if (const Json* each = formats::json_find(json, "provenance")) {
        const Table table(*each, "[provenance]", folder);
        RETORT_CHECK(table.only({"complete", "terms_folders"}));
        RETORT_TRY(policy.provenance, table.flag("complete", true));
        RETORT_TRY(policy.terms_folders, table.paths("terms_folders"));
    }
    if (const Json* each = formats::json_find(json, "terms")) {
        const Table table(*each, "[terms]", folder);
        RETORT_CHECK(table.only({"uses"}));
        RETORT_TRY(const std::vector<std::string> names, table.texts("uses"));
        for (const std::string& name : names) {
            RETORT_TRY(const data::Use use, data::use_from_name(name));
            policy.uses.push_back(use);
        }
        if (policy.uses.empty()) return fail(ErrorCode::invalid_argument, "[terms]: uses names none");
    }
    if (const Json* each = formats::json_find(json, "planted")) {
        const Table table(*each, "[planted]", folder);
        RETORT_CHECK(
            table.only({"plant", "watermark", "twins", "prompts", "answers", "answer_tokens", "largest_p"}));
        PlantedItem& item = policy.planted.emplace();
        RETORT_TRY(item.plant, table.path("plant"));
        RETORT_TRY(item.watermark, table.flag("watermark", true));
        RETORT_TRY(item.twins, table.flag("twins", true));
        if (formats::json_find(*each, "prompts") != nullptr) {
            RETORT_TRY(item.prompts, table.path("prompts"));
        }
        RETORT_TRY(item.answers, table.count("answers", item.answers, 1));
        RETORT_TRY(item.answer_tokens, table.count("answer_tokens", item.answer_tokens, 8));
        auto limit = formats::json_number(*each, "largest_p", item.largest_p);
        if (!limit || !(*limit > 0 && *limit < 1)) {
            return fail(ErrorCode::invalid_argument, "[planted]: largest_p is a p-value, between 0 and 1");
        }
        item.largest_p = *limit;
    }
    return {};
}

}  // namespace

Result<Policy> parse_policy(std::string_view text, std::string_view name, const fs::path& folder) {
    RETORT_TRY(const Json json, data::parse_spec(text, name));
    Policy policy;
    const auto read = [&]() -> Status {
        const Table table(json, "the policy", folder);
        RETORT_CHECK(
            table.only({"name", "seed", "evaluation", "ceiling", "refusals", "secrets", "personal_data",
                        "extraction", "calibration", "provenance", "terms", "planted"}));
        RETORT_TRY(policy.name, formats::json_string(json, "name", std::string()));
        RETORT_TRY(const std::int64_t seed, table.count("seed", 1));
        policy.seed = static_cast<std::uint64_t>(seed);
        RETORT_CHECK(tasks_from(json, "evaluation", true, folder, policy.evaluation));
        RETORT_CHECK(tasks_from(json, "ceiling", false, folder, policy.ceilings));
        RETORT_CHECK(judged_from(json, folder, policy));
        RETORT_CHECK(stated_from(json, folder, policy));
        const bool none = policy.evaluation.empty() && policy.ceilings.empty() && !policy.refusals &&
                          !policy.secrets && !policy.personal_data && !policy.extraction &&
                          !policy.calibration && !policy.provenance && policy.uses.empty() && !policy.planted;
        if (none) return fail(ErrorCode::invalid_argument, "the policy asks for nothing");
        return {};
    };
    if (const Status status = read(); !status) return fail_from(status.error(), name);
    policy.text = text;
    policy.sha256 = base::sha256_hex(text);
    return policy;
}

Result<Policy> read_policy(const fs::path& path) {
    RETORT_TRY(const std::string text, base::read_file(path, std::size_t{1} << 20U));
    RETORT_TRY(Policy policy, parse_policy(text, path.string(), path.parent_path()));
    policy.path = path;
    return policy;
}

std::string bound_text(const Bound& bound) {
    return fmt::format("{} {:g}{}", bound.at_least ? "at least" : "at most", bound.limit,
                       bound.by_interval ? ", by its interval" : "");
}

}  // namespace retort::release
