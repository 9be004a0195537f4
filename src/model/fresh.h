// A model that has learnt nothing yet: its shape from a small file, its numbers from a seed
// (random_parameters). Knows no tokenizer: the caller says what it needs of one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/result.h"
#include "model/config.h"

namespace retort::model {

// What a shape takes from the tokenizer it is for.
struct FreshTokens {
    std::int64_t vocab_size = 0;  // ids in use
    std::int64_t bos = -1;
    std::int64_t eos = -1;
};

// TOML or JSON with the keys of config.json (docs/formats/fresh_model.md). hidden_size, num_hidden_layers,
// num_attention_heads and max_position_embeddings must be there; the rest has defaults. A vocab_size below
// the tokenizer's, or in TOML a key that config.json does not have, is an error. `name` stands in messages.
Result<ModelConfig> parse_fresh_config(std::string_view text, std::string_view name,
                                       const FreshTokens& tokens);
Result<ModelConfig> read_fresh_config(const std::filesystem::path& path, const FreshTokens& tokens);

}  // namespace retort::model
