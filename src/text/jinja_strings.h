// What Python's string methods give: strip(), splitlines(), upper() and their like, on valid UTF-8. Knows
// nothing of a template's values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::text::jinja {

// str.isspace() of one character: Unicode's White_Space and the four ASCII separators.
bool is_python_space(char32_t c);
// str.strip() and its two halves: of white space, or of the characters of `chars`.
std::string_view strip(std::string_view text, std::optional<std::string_view> chars, bool left, bool right);
std::vector<std::string_view> splitlines(std::string_view text, bool keep_ends = false);
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);
std::string capitalize(std::string_view text);
std::size_t length_in_characters(std::string_view text);
// Byte offset of the character `index`; the size when there are fewer.
std::size_t offset_of_character(std::string_view text, std::size_t index);
// Linear in the text whatever the needle.
std::size_t find(std::string_view text, std::string_view needle, std::size_t from = 0);
// str.replace(); at most `count` times, all when negative. Empty `from` matches between characters.
Result<std::string> replace(std::string_view text, std::string_view from, std::string_view to,
                            std::int64_t count, std::size_t limit);

}  // namespace retort::text::jinja
