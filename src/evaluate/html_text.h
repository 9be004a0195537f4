// Text that may hold anything, made safe to stand in HTML as an element's text or in a quoted attribute.
#pragma once

#include <string>
#include <string_view>

namespace retort::evaluate {

// & < > " ' as entities; control characters other than tab and newline, and bytes that are no UTF-8, as
// U+FFFD.
std::string escape_html(std::string_view text);

}  // namespace retort::evaluate
