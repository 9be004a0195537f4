// pull.json, both ways. The format is docs/pull.md.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/pull.h"

namespace retort::cli {

std::string pull_record_to_json(const PullRecord& record);
Result<PullRecord> pull_record_from_json(std::string_view text);

enum class Intactness { absent, incomplete, intact };

// Reads folder/pull.json and hashes every file it names. A file that is there but has other bytes is an
// error: it may be somebody's work.
Result<Intactness> check_pulled(const std::filesystem::path& folder, PullRecord& record);

}  // namespace retort::cli
