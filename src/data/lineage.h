// What a model was made from, beside the model (docs/formats/lineage.md): each input with its path and its
// hash, so that a walk from a student leads to every source. Knows no licence and no terms.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace retort::data {

struct LineageInput {
    std::string role;  // teacher, start, records, held-out, prompts, cache, exported-from
    std::filesystem::path path;
    std::string sha256;       // of a file; of a folder see hash_of_path
    std::string merkle_root;  // of records with a manifest
};

struct Lineage {
    std::string made_by;    // "retort distill"
    std::string pruned;     // what was cut from the start: "18 of 30 layers"; empty: nothing
    std::string objective;  // by which it was trained then; empty: not at all
    std::vector<LineageInput> inputs;
};

// Of a file its SHA-256; of a model's folder that of the lines "hash  name\n" of its regular files, by
// name, but of what is only said of it: lineage.json and pull.json.
Result<std::string> hash_of_path(const std::filesystem::path& path);
// With the hash, and the manifest's root where there is one; the path is made absolute.
Result<LineageInput> lineage_input(std::string role, const std::filesystem::path& path);

// Writes the file, with these inputs; those without a path are left out.
Status save_lineage(const std::filesystem::path& file, Lineage lineage,
                    const std::vector<std::pair<std::string, std::filesystem::path>>& inputs);
Status save_lineage(const std::filesystem::path& file, std::string made_by,
                    const std::vector<std::pair<std::string, std::filesystem::path>>& inputs);

std::string write_lineage(const Lineage& lineage);
Result<Lineage> parse_lineage(std::string_view text, std::string_view name);
// FILE.lineage.json of a file; lineage.json in a folder, or beside it where a run's folder holds the model.
std::optional<std::filesystem::path> find_lineage(const std::filesystem::path& model);

}  // namespace retort::data
