// What follows from a verdict: a TOML file says for each level what is taken from the accounts it names
// (docs/guard.md). Dry-run is the default. Knows no store and no detector's insides.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "guard/guard.h"
#include "store/marks.h"

namespace retort::guard {

struct Countermeasures {
    bool review = false;
    std::int64_t requests_per_minute = -1;  // −1: as the plan says
    std::int64_t tokens_per_day = -1;
    bool no_logprobs = false;
    std::string reasoning;  // "summarised", "withheld"; empty: as the plan says
    bool watermark = false;
    std::int64_t twins = 1;
    bool suspend = false;  // of the level suspend only, which asks for independent evidence
};

struct Policy {
    bool dry_run = true;
    std::vector<std::string> exempt_plans;  // that allow what is looked for
    std::array<Countermeasures, levels> at{};
};

Result<Policy> parse_policy(std::string_view text, std::string name);
Result<Policy> read_policy(const std::filesystem::path& path);

// The mark that an account has after a verdict of that level; a weaker verdict never gives anything back, and
// an allowed account is left alone.
store::Mark mark_after(const Policy& policy, Level level, std::int64_t verdict, std::int64_t when,
                       const std::string& reason, const store::Mark& before);

}  // namespace retort::guard
