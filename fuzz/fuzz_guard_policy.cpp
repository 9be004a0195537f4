// part: guard
// A policy: whatever the text, an error or a policy whose marks never give anything back.
#include <cstdlib>
#include <string_view>

#include "guard/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const auto policy = guard::parse_policy({reinterpret_cast<const char*>(data), size}, "policy.toml");
    if (!policy) return 0;
    store::Mark mark;
    for (const guard::Level level :
         {guard::Level::suspend, guard::Level::throttle, guard::Level::review, guard::Level::throttle}) {
        const store::Mark after = guard::mark_after(*policy, level, 1, 2, "reason", mark);
        const auto is_looser = [](std::int64_t now, std::int64_t before) {
            return before >= 0 && (now < 0 || now > before);
        };
        if (is_looser(after.requests_per_minute, mark.requests_per_minute) ||
            is_looser(after.tokens_per_day, mark.tokens_per_day) || after.twins < mark.twins ||
            (mark.no_logprobs && !after.no_logprobs) || (mark.review && !after.review) ||
            (mark.watermark && !after.watermark) ||
            (mark.reasoning == "withheld" && after.reasoning != "withheld")) {
            std::abort();
        }
        mark = after;
    }
    return 0;
}
