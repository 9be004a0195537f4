// The logit cache: what is kept of a teacher's distribution at each trained token, written once and shared by
// many student runs (docs/formats/logit_cache.md). Knows no model; logit_draw.h makes entries of logits.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/journal.h"
#include "base/result.h"
#include "data/packing.h"

namespace retort::data {

enum class CacheEncoding : std::uint8_t {
    samples,  // counts of draws from p, with replacement
    top_k,    // the largest probabilities, and the mass of all others
};
std::string_view encoding_name(CacheEncoding encoding);
Result<CacheEncoding> encoding_from_name(std::string_view name);

// What shapes the entries; runs with another header do not share a cache.
struct CacheHeader {
    CacheEncoding encoding = CacheEncoding::samples;
    std::int64_t count = 85;         // draws a token, 1 to 4,096; or entries kept at most, 1 to 255
    double temperature = 1.0;        // of p
    std::int64_t vocab_size = 0;     // of the tokenizer: padding is cut
    std::uint64_t seed = 1;          // of the draws
    std::string source = "weights";  // or "logprobs": an API's, aligned by bytes
    std::string teacher;             // its name, for people
    std::string teacher_sha256;    // of its files; of the API's model name, endpoint and answers for logprobs
    std::string tokenizer_sha256;  // the student's
    bool operator==(const CacheHeader&) const = default;
};

// Kept entries of consecutive tokens.
struct TokenEntries {
    std::vector<std::int64_t> starts = {0};  // (tokens + 1)
    std::vector<std::int32_t> ids;
    std::vector<float> values;     // counts/N, or probabilities; descending within a token
    std::vector<float> tails;      // (tokens) mass outside; 0 for samples
    std::vector<float> entropies;  // (tokens) of the whole p, in nats; 0 for top-k

    [[nodiscard]] std::int64_t tokens() const { return static_cast<std::int64_t>(starts.size()) - 1; }
    void append(const TokenEntries& other);
};

// The bytes of a record's tokens, and back (appended to `entries`; by falling value, then rising id). Top-k's
// values and the entropies of samples come back rounded as stored.
std::string encode_entries(const CacheHeader& header, const TokenEntries& entries);
Status decode_entries(const CacheHeader& header, std::string_view bytes, std::int64_t tokens,
                      TokenEntries& entries);

// Of token ids and loss mask: an entry is valid for these and no others.
std::uint64_t example_hash(const Example& example);
// Targets that pack() makes of it.
std::int64_t trained_targets(const Example& example);

struct CacheSummary {
    std::int64_t records = 0;
    std::int64_t tokens = 0;
    std::int64_t entries = 0;
    std::int64_t unknown = 0;     // tokens of a top-k cache without any entry: an API listed nothing there
    std::int64_t file_bytes = 0;  // frames, their headers included
    double kept_mass = 0;         // mean of 1 − tail; 1 for samples
    double entropy = 0;           // mean, for samples
    // Mean of the most that KL(p‖p with its tail spread evenly) can be: what the tail bucket may hide. 0 for
    // samples.
    double tail_kl_bound = 0;
    bool complete = false;

    [[nodiscard]] double bytes_per_token() const {
        return tokens == 0 ? 0 : static_cast<double>(file_bytes) / static_cast<double>(tokens);
    }
};

class LogitCacheWriter {
  public:
    // Goes on with what an interrupted run left. A cache of another header is refused; so is a second writer.
    static Result<LogitCacheWriter> open(const std::filesystem::path& folder, const CacheHeader& header);

    [[nodiscard]] bool has(const Example& example) const;
    // entries: of the example's trained targets, in order. In the file when it returns.
    Status append(const Example& example, const TokenEntries& entries);
    // Marks the cache complete, once; it is not written to again.
    Result<CacheSummary> finish();
    [[nodiscard]] bool complete() const { return complete_; }
    [[nodiscard]] std::int64_t records() const { return static_cast<std::int64_t>(records_.size()); }

  private:
    LogitCacheWriter(CacheHeader header, std::filesystem::path folder, base::FileLock lock,
                     base::Journal journal)
        : header_(std::move(header)),
          folder_(std::move(folder)),
          lock_(std::move(lock)),
          journal_(std::move(journal)) {}
    CacheHeader header_;
    std::filesystem::path folder_;
    base::FileLock lock_;
    base::Journal journal_;
    std::unordered_map<std::string, std::uint64_t> records_;  // id → example_hash
    bool complete_ = false;
    std::int64_t unsynced_ = 0;
};

class LogitCache {
  public:
    // Verifies every frame. One that is not complete is refused unless `partial`.
    static Result<LogitCache> open(const std::filesystem::path& folder, bool partial = false);
    // The same over the bytes of its file.
    static Result<LogitCache> parse(std::span<const std::byte> bytes, bool partial);

    [[nodiscard]] const CacheHeader& header() const { return header_; }
    [[nodiscard]] const CacheSummary& summary() const { return summary_; }
    // XXH3 of all records' checksums: equal for equal contents.
    [[nodiscard]] std::uint64_t hash() const { return hash_; }

    // The bytes of the example's entries, checked to be of its very tokens and mask, and to be readable.
    [[nodiscard]] Result<std::string_view> find(const Example& example) const;

  private:
    struct Stored {
        std::uint64_t example = 0;
        std::int64_t tokens = 0;
        std::string_view bytes;
    };
    Status add(std::string_view frame);

    std::shared_ptr<const base::MappedFile> file_;
    CacheHeader header_;
    CacheSummary summary_;
    std::uint64_t hash_ = 0;
    bool has_header_ = false;
    std::unordered_map<std::string, Stored> records_;
};

}  // namespace retort::data
