// A tokenizer as data: what tokenizer.json and a GGUF file's metadata both come to, and what both are written
// from.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "text/added_tokens.h"
#include "text/tokenizer.h"

namespace retort::text {

struct TokenizerSpec {
    std::vector<std::string> tokens;  // by id, as tokenizer.json writes them; "" is a hole
    // Added tokens from this id on are in the list of added tokens only, not in the model's vocabulary.
    std::int32_t model_vocabulary = 0;
    std::vector<std::pair<std::string, std::string>> merges;
    std::vector<AddedToken> added_tokens;                              // by id
    formats::Json normalizer, pre_tokenizer, post_processor, decoder;  // components, or null
    bool byte_fallback = false;
    bool fuse_unknown = false;
    bool ignore_merges = false;
    std::string unknown_token;  // of the model; "" for none
    SpecialTokenText special;
    formats::Json config;  // tokenizer_config.json as it was read, or null
};

Result<TokenizerSpec> spec_from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json);
Result<TokenizerSpec> spec_from_gguf(const formats::GgufFile& file);

Result<std::string> spec_to_json(const TokenizerSpec& spec);
std::string spec_to_config_json(const TokenizerSpec& spec, std::string_view chat_template);
struct GgufExport {
    std::int64_t vocab_size = 0;
    std::string_view chat_template;
    std::int32_t bos = -1, eos = -1, unknown = -1, padding = -1;
    bool adds_bos = false, adds_eos = false;
};
Result<formats::GgufMetadata> spec_to_gguf(const TokenizerSpec& spec, const GgufExport& details);

}  // namespace retort::text
