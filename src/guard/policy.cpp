#include "guard/policy.h"

#include <algorithm>

#include "base/file.h"
#include "formats/recipe.h"

namespace retort::guard {

namespace {

using formats::TomlTable;

constexpr std::int64_t most = std::int64_t{1} << 40U;

Result<Countermeasures> read_level(const TomlTable& table, Level level) {
    Countermeasures out;
    RETORT_TRY(out.review, table.boolean_or("review", false));
    RETORT_TRY(out.requests_per_minute, table.integer_or("requests_per_minute", -1, -1, most));
    RETORT_TRY(out.tokens_per_day, table.integer_or("tokens_per_day", -1, -1, most));
    RETORT_TRY(const bool logprobs, table.boolean_or("logprobs", true));
    out.no_logprobs = !logprobs;
    RETORT_TRY(out.reasoning, table.choice_or("reasoning", "", {"", "summarised", "withheld"}));
    RETORT_TRY(out.watermark, table.boolean_or("watermark", false));
    RETORT_TRY(out.twins, table.integer_or("twins", 1, 1, 1000));
    RETORT_TRY(out.suspend, table.boolean_or("suspend", false));
    if (out.suspend && level != Level::suspend) {
        return table.error_at("suspend",
                              "only [suspend] may suspend: the level that asks for independent evidence");
    }
    return out;
}

std::int64_t smaller(std::int64_t a, std::int64_t b) {
    if (a < 0 || b < 0) return std::max(a, b);
    return std::min(a, b);
}

}  // namespace

Result<Policy> parse_policy(std::string_view text, std::string name) {
    RETORT_TRY(const TomlTable root, TomlTable::parse(text, std::move(name)));
    Policy policy;
    RETORT_TRY(policy.dry_run, root.boolean_or("dry_run", true));
    RETORT_TRY(policy.exempt_plans, root.strings_or("exempt_plans", {}));
    for (const Level level : {Level::review, Level::throttle, Level::suspend}) {
        RETORT_TRY(const TomlTable table, root.table_or_empty(level_name(level)));
        RETORT_TRY(policy.at[static_cast<std::size_t>(level)], read_level(table, level));
    }
    RETORT_CHECK(root.check_unknown_keys());
    return policy;
}

Result<Policy> read_policy(const std::filesystem::path& path) {
    RETORT_TRY(const std::string text, base::read_file(path, std::size_t{1} << 20U));
    return parse_policy(text, path.string());
}

store::Mark mark_after(const Policy& policy, Level level, std::int64_t verdict, std::int64_t when,
                       const std::string& reason, const store::Mark& before) {
    if (!before.allowed.empty()) return before;
    const Countermeasures& taken = policy.at[static_cast<std::size_t>(level)];
    store::Mark mark = before;
    mark.level = level_name(level);
    mark.verdict = verdict;
    mark.since = when;
    mark.reason = reason;
    mark.review = before.review || taken.review;
    mark.requests_per_minute = smaller(before.requests_per_minute, taken.requests_per_minute);
    mark.tokens_per_day = smaller(before.tokens_per_day, taken.tokens_per_day);
    mark.no_logprobs = before.no_logprobs || taken.no_logprobs;
    if (mark.reasoning != "withheld" && !taken.reasoning.empty()) mark.reasoning = taken.reasoning;
    mark.watermark = before.watermark || taken.watermark;
    mark.twins = std::max(before.twins, taken.twins);
    return mark;
}

}  // namespace retort::guard
