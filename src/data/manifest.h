// The manifest beside a file of records: how many, from whom, under which terms, and a Merkle root over the
// lines, so that a data set named in a model card can be checked line by line (docs/formats/records.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/result.h"
#include "data/record.h"

namespace retort::data {

struct Manifest {
    std::int64_t records = 0;
    std::string merkle_root;                       // hex; leaf = one line without its end
    std::map<std::string, std::int64_t> teachers;  // model → records
    std::map<std::string, std::string> terms;      // id → sha256
    std::map<std::string, std::int64_t> finish_reasons;
    Usage usage;
    double cost = 0;
    std::vector<std::string> parents;  // roots of what this was made from
};

std::string write_manifest(const Manifest& manifest);
Result<Manifest> parse_manifest(std::string_view text);
Result<Manifest> read_manifest(const std::filesystem::path& path);

// records.jsonl and its manifest, each whole or not at all; the manifest last.
class RecordWriter {
  public:
    static Result<RecordWriter> create(const std::filesystem::path& records_path);
    Status add(const Record& record);
    void add_parent(std::string root) { manifest_.parents.push_back(std::move(root)); }
    // "train.jsonl" has its manifest in "train.manifest.json".
    Result<Manifest> commit();

  private:
    RecordWriter(std::filesystem::path path, base::AtomicFile file)
        : path_(std::move(path)), file_(std::move(file)) {}
    std::filesystem::path path_;
    base::AtomicFile file_;
    std::vector<base::Sha256> leaves_;
    Manifest manifest_;
};

std::filesystem::path manifest_path(const std::filesystem::path& records_path);

// Every line's seal, the count and the root.
Status check_records(const std::filesystem::path& records_path);

}  // namespace retort::data
