// part: evaluate
// A report.json that is read must be drawn, printed and written back without a fault, and what was written
// must read as the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "evaluate/report.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort::evaluate;
    const auto report = report_from_json({reinterpret_cast<const char*>(data), size});
    if (!report) return 0;
    const std::string text = report_to_json(*report);
    const auto again = report_from_json(text);
    if (!again || report_to_json(*again) != text) std::abort();
    if (report_to_html(*report).find("<script") != std::string::npos) std::abort();
    render_table(*report, 80);
    return 0;
}
