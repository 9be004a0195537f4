// What Python's own functions give: str(), repr(), json.dumps(), splitlines(), upper() and their like.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/jinja_value.h"

namespace retort::text::jinja {

std::string float_text(double value);  // repr of a float: "1.0", "1e-05", "nan"
// str(); an error for values that have no stable text (a generator, a function). Fails past `limit` bytes.
Result<std::string> str(const Value& value, std::size_t limit);
Result<std::string> repr(const Value& value, std::size_t limit);

struct JsonStyle {
    bool ensure_ascii = false;
    std::optional<std::string> indent;  // one level of it
    std::string item_separator = ", ";
    std::string key_separator = ": ";
    bool sort_keys = false;
};
Result<std::string> json_dumps(const Value& value, const JsonStyle& style, std::size_t limit);

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
// 'a %s b %d' % arguments: %s %r %d %i %u %f %.Nf %x %%.
Result<std::string> printf_format(std::string_view format, const std::vector<Value>& arguments,
                                  std::size_t limit);

}  // namespace retort::text::jinja
