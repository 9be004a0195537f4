// An index of works: a folder with index.json and the parts that it lists. Parts are never changed; adding
// writes another one and then the list (docs/formats/screen_index.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "screen/part_file.h"

namespace retort::screen {

struct Index {
    std::filesystem::path folder;
    std::vector<Part> parts;
    std::string id;  // SHA-256 of index.json: names this state of the index

    static Result<Index> open(const std::filesystem::path& folder, bool verify = true);
    [[nodiscard]] std::uint64_t words() const;
    [[nodiscard]] std::uint64_t works() const;
    [[nodiscard]] std::uint64_t size_bytes() const;
};

struct IndexOptions {
    std::filesystem::path output;
    bool add = false;  // to an index that is there; else there must be none
    std::uint64_t memory_bytes = std::uint64_t{4}
                                 << 30U;  // parts are made so that building one needs no more
    bool quiet = false;
};

struct IndexReport {
    std::uint64_t works = 0;  // added
    std::uint64_t known = 0;  // of the same bytes as one that the index had
    std::uint64_t words = 0;  // added
    std::uint64_t text_bytes = 0;
    std::uint64_t parts = 0;           // written
    std::uint64_t index_bytes = 0;     // of the whole index
    std::vector<std::string> skipped;  // with the reason
    double seconds = 0;
};

// One work's text, once read.
struct WorkText {
    std::string name;
    std::string format;
    std::string sha256;
    std::string text;
};

// Collects works into parts. commit() makes them the index's; a killed run loses the part it was at, and the
// next with `add` goes on behind the last one.
class IndexBuilder {
  public:
    static Result<IndexBuilder> create(IndexOptions options);
    [[nodiscard]] bool knows(std::string_view sha256) const;
    Status add(const WorkText& work);
    Status commit();
    [[nodiscard]] const IndexReport& report() const { return report_; }
    void skip(std::string reason) { report_.skipped.push_back(std::move(reason)); }

  private:
    Status flush();
    IndexOptions options_;
    IndexReport report_;
    std::vector<std::string> part_names_;
    std::vector<std::string> known_;  // sorted
    PartDraft draft_;
    std::uint64_t words_per_part_ = 0;
    std::uint64_t next_number_ = 1;
    Words words_;
};

// All parts of an index as one, which is searched as fast as one; in `memory_bytes`, and with room on the
// disk for as much again. The parts go when the list is written; how many there were. Reading goes on
// meanwhile.
Result<std::size_t> merge_index(const std::filesystem::path& folder, std::uint64_t memory_bytes);

}  // namespace retort::screen
