// The style sheet of report.html.
#pragma once

#include <string_view>

namespace retort::evaluate {

extern const std::string_view report_style;

}  // namespace retort::evaluate
