// JSON with its limits checked before the parser sees it, and typed access with errors that name the key.
// nlohmann's types are the currency; its exceptions do not pass this border.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::formats {

using Json = nlohmann::json;

struct JsonLimits {
    std::size_t bytes = std::size_t{1} << 30U;
    int depth = 128;
};

// `name` (a file, or what the text is) stands in the messages.
Result<Json> parse_json(std::string_view text, std::string_view name, const JsonLimits& limits = {});
Result<Json> read_json_file(const std::filesystem::path& path, const JsonLimits& limits = {});

// Never throws: bytes that are no UTF-8 become U+FFFD. indent < 0 writes one line.
std::string write_json(const Json& value, int indent = -1);

// Members of an object. Absent or null gives the fallback; another type is an error that names the key.
Result<std::int64_t> json_integer(const Json& object, std::string_view key, std::int64_t fallback);
Result<double> json_number(const Json& object, std::string_view key, double fallback);
Result<bool> json_boolean(const Json& object, std::string_view key, bool fallback);
Result<std::string> json_string(const Json& object, std::string_view key, std::string fallback);

// A member that must be there.
Result<std::int64_t> json_integer(const Json& object, std::string_view key);
Result<double> json_number(const Json& object, std::string_view key);
Result<std::string> json_string(const Json& object, std::string_view key);

// The member, or null when the key is absent or its value null. object may be of any type.
const Json* json_find(const Json& object, std::string_view key);

}  // namespace retort::formats
