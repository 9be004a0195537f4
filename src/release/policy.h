// What a model must hold to be released: policy.toml (docs/formats/release_policy.md). A table that is not
// there is not checked. Knows no model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/spdx.h"

namespace retort::release {

struct Bound {
    bool at_least = false;  // else at most
    double limit = 0;
    bool by_interval = false;  // the interval's worse end must hold it, not only the value
};

struct TaskItem {
    std::string id;
    std::filesystem::path prompts;
    std::filesystem::path verifier;  // refusals have none
    std::int64_t max_tokens = 256;
    Bound bound;
};

struct SecretsItem {
    std::filesystem::path planted;  // one a line: what was planted in the training text
    std::int64_t samples = 2;       // besides the greedy answer
    Bound bound;
};

struct ExtractionItem {
    std::vector<std::filesystem::path> works;
    std::int64_t prefixes = 100;
    std::int64_t prefix_tokens = 50;
    std::int64_t answer_tokens = 50;
    std::int64_t samples = 1;  // besides the greedy answer
    std::size_t span_words = 50;
    std::size_t span_characters = 150;
    Bound bound;
};

struct CalibrationItem {
    std::filesystem::path records;
    Bound bound;
};

struct PlantedItem {
    std::filesystem::path plant;  // of `retort audit plant`
    bool watermark = true;
    bool twins = true;
    std::filesystem::path prompts;  // empty: a few of our own
    std::int64_t answers = 16;      // marked ones that are sampled, and as many twins
    std::int64_t answer_tokens = 128;
    double largest_p = 1e-6;  // of the mark in them
};

struct Policy {
    std::string name;
    std::uint64_t seed = 1;
    std::vector<TaskItem> evaluation;  // at least
    std::vector<TaskItem> ceilings;    // at most
    std::optional<TaskItem> refusals;
    std::optional<SecretsItem> secrets;
    bool personal_data = false;
    std::vector<std::string> personal_data_allowed;  // addresses and numbers that may be said
    Bound personal_data_bound;
    std::optional<ExtractionItem> extraction;
    std::optional<CalibrationItem> calibration;
    bool provenance = false;
    std::vector<std::filesystem::path> terms_folders;
    std::vector<data::Use> uses;  // [terms]
    std::optional<PlantedItem> planted;

    std::filesystem::path path;
    std::string text;
    std::string sha256;
};

// Paths in it count from `folder`.
Result<Policy> parse_policy(std::string_view text, std::string_view name,
                            const std::filesystem::path& folder);
Result<Policy> read_policy(const std::filesystem::path& path);
std::string bound_text(const Bound& bound);

}  // namespace retort::release
