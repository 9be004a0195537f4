// part: audit
// Plans and evidence of a bundle, which come from the other side in court: read or refused, and a p-value is
// one.
#include <cstdlib>
#include <string_view>

#include "audit/evidence.h"
#include "audit/plan.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto json = formats::parse_json(text, "fuzz");
    if (!json) return 0;
    if (const auto plan = audit::parse_plan(*json)) {
        const auto again = audit::parse_plan(audit::write_plan(*plan));
        if (!again || audit::plan_text(*again) != audit::plan_text(*plan)) std::abort();
    }
    if (const auto result = audit::test_evidence(*json)) {
        if (result->log_p > 0) std::abort();
        (void)audit::null_p_values(*json, 3, 1);
    }
    return 0;
}
