// part: evaluate
// A report.json that is read must be drawn, printed and written back without a fault, and what was written
// must read as the same. The lines of metrics.jsonl are read by the same part.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "evaluate/report.h"
#include "evaluate/training_curve.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort::evaluate;
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const auto curve = parse_training_curve(input, "fuzz");
    const auto report = report_from_json(input);
    if (!report) return 0;
    const std::string text = report_to_json(*report);
    const auto again = report_from_json(text);
    if (!again || report_to_json(*again) != text) std::abort();
    if (report_to_html(*report).find("<script") != std::string::npos) std::abort();
    render_table(*report, 80);
    return 0;
}
