// The real texts that laboratory traffic is made of: sets of one kind each, with their packages and licences
// (scripts/guard-prompts.py fetches them). Knows no account.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::laboratory {

struct PromptSet {
    std::string name;
    std::string kind;  // "question", "passage", "entry", "template"
    std::string source;
    std::string package;
    std::string version;
    std::string licence;
    std::vector<std::string> texts;
};

struct PromptLibrary {
    std::vector<PromptSet> sets;
    // Pools by use; views into the sets.
    std::vector<std::string_view> questions;
    std::vector<std::string_view> passages;
    std::vector<std::string_view> entries;    // of dictionaries: "word: its meaning"
    std::vector<std::string_view> templates;  // of an evaluation harness; {} is a slot
};

// Reads manifest.json and the files it names; their SHA-256 must agree.
Result<PromptLibrary> load_prompts(const std::filesystem::path& folder);

}  // namespace retort::laboratory
