// Values as Python writes them: str(), repr(), json.dumps() and the % operator. Strings are in
// jinja_strings.h.
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

// 'a %s b %d' % arguments: %s %r %d %i %u %f %.Nf %x %%.
Result<std::string> printf_format(std::string_view format, const std::vector<Value>& arguments,
                                  std::size_t limit);

}  // namespace retort::text::jinja
