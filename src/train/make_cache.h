// Makes a logit cache: the teacher reads every record once, and what is kept of its distribution is written
// (docs/formats/logit_cache.md). Resumable: killed and started again, it goes on behind the last record.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "data/align_logprobs.h"
#include "data/logit_cache.h"

namespace retort::train {

// Draws a token, or ids kept, where nobody asks for another number.
inline std::int64_t usual_count(data::CacheEncoding encoding) {
    return encoding == data::CacheEncoding::samples ? 85 : 64;
}

struct CacheOptions {
    std::filesystem::path teacher;  // its weights
    std::filesystem::path records;
    std::filesystem::path output;  // the cache's folder
    data::CacheEncoding encoding = data::CacheEncoding::samples;
    std::int64_t count = 85;  // draws, or entries kept
    double temperature = 1.0;
    std::uint64_t seed = 1;
    std::int64_t row_length = 512;  // longest record in tokens, as in distilling
    std::int64_t rows_at_once = 2;
    bool auto_dtype = true;
    bool bf16 = false;
    bool quiet = false;
};

// With lineage.json beside the cache: its teacher and its records.
Result<data::CacheSummary> make_logit_cache(const CacheOptions& options);

// The same of a teacher without weights: the logprobs that `collect` kept in the records, aligned by bytes to
// the ids of `tokenizer`'s model (data/align_logprobs.h). options.teacher and what shapes a forward pass are
// not used. Records that do not align teach their text alone (ce), and are counted.
struct LogprobCache {
    data::CacheSummary summary;
    data::AlignmentSums alignment;  // of what this call aligned
    std::int64_t unaligned_records = 0;
};
Result<LogprobCache> make_logprob_cache(const CacheOptions& options, const std::filesystem::path& tokenizer);

// SHA-256 (hex) of a model's files: of a GGUF or safetensors file, or of a folder's config.json and
// safetensors files in order of name.
Result<std::string> model_hash(const std::filesystem::path& path);

}  // namespace retort::train
