// Small questions about text that several parts ask. ASCII only; knows nothing of Unicode or of any format.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace retort::base {

// Without spaces, tabs and line ends at either end.
std::string_view trimmed(std::string_view text);

// Its lines that are not empty, without the spaces and '\r' at their ends; into `text`.
std::vector<std::string_view> filled_lines(std::string_view text);

// For a log: control characters as '?', so that a line stays one, and cut to `most` bytes.
std::string one_line(std::string_view text, std::size_t most);

// Levenshtein's, in bytes: for "did you mean".
std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace retort::base
