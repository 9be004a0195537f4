// JSON text to nlohmann values with limits, and back without throwing. Private to this part.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::api {

inline constexpr std::size_t max_json_bytes = std::size_t{64} << 20U;
inline constexpr int max_json_depth = 64;

// Refuses text that is too long, nested too deep, no JSON, or not UTF-8.
Result<nlohmann::json> parse_json(std::string_view text);
// One line; bytes that are not UTF-8 become U+FFFD.
std::string dump_json(const nlohmann::ordered_json& value);
std::string dump_json(const nlohmann::json& value);
// "a string", "an object", for messages.
std::string_view kind_of(const nlohmann::json& value);
// The member, or null when it is absent or null.
const nlohmann::json* member(const nlohmann::json& object, const char* name);

}  // namespace retort::api
