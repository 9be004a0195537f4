// Small settings files a person writes, in TOML or JSON, as one JSON value. Knows nothing of their keys.
#pragma once

#include <filesystem>
#include <string_view>

#include "base/result.h"
#include "formats/json.h"

namespace retort::data {

// Text that begins with '{' is JSON, other text TOML; dates become text ("2026-11-24").
Result<formats::Json> parse_spec(std::string_view text, std::string_view name);
Result<formats::Json> read_spec_file(const std::filesystem::path& path);

}  // namespace retort::data
