// The one skeleton that the engine runs: decoder-only, RMSNorm, RoPE, grouped-query attention, SwiGLU, with
// the options that Llama, SmolLM2, Mistral, Qwen2/2.5 and Qwen3 differ by. A config outside it is refused by
// name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::model {

enum class RopeScaling { none, linear, llama3, yarn };

struct Rope {
    double theta = 10000.0;
    RopeScaling scaling = RopeScaling::none;
    double factor = 1.0;
    double low_freq_factor = 1.0;       // llama3
    double high_freq_factor = 4.0;      // llama3
    std::int64_t original_context = 0;  // llama3, yarn: max_position_embeddings before scaling
    double beta_fast = 32.0;            // yarn
    double beta_slow = 1.0;             // yarn
    double attention_factor = 0.0;      // yarn: 0 means 0.1·ln(factor) + 1
    bool truncate = true;               // yarn: the bounds of the ramp are whole dimensions
    // (head_dim/2) divisors of the unscaled frequencies, from a GGUF file whose scaling is of no known kind;
    // they stand in place of `scaling`, and cannot be written to a config.json.
    std::vector<float> factors;
};

struct ModelConfig {
    std::string architecture;  // "llama", "mistral", "qwen2", "qwen3": for export, and for error messages
    std::int64_t vocab_size = 0;
    std::int64_t hidden_size = 0;
    std::int64_t intermediate_size = 0;
    std::int64_t layer_count = 0;
    std::int64_t head_count = 0;
    std::int64_t kv_head_count = 0;
    std::int64_t head_dim = 0;
    std::int64_t context_length = 0;  // max_position_embeddings
    float rms_norm_eps = 1e-5F;
    Rope rope;
    bool tie_embeddings = false;
    bool qkv_bias = false;
    bool qk_norm = false;  // RMSNorm over head_dim of each query and key head, before RoPE (Qwen3)
    std::int64_t bos_token_id = -1;
    std::vector<std::int64_t> eos_token_ids;

    [[nodiscard]] std::int64_t query_size() const { return head_count * head_dim; }
    [[nodiscard]] std::int64_t kv_size() const { return kv_head_count * head_dim; }
    [[nodiscard]] std::int64_t parameter_count() const;  // a tied head counted once
};

// Shapes that cannot work (heads not divisible, odd head_dim, zero sizes, sizes beyond 2^31) are named.
Status validate(const ModelConfig& config);

// Hugging Face config.json, both ways. Unknown architectures, activations, rope types, sliding windows that
// act within the context, attention biases that the skeleton lacks: refused by name.
Result<ModelConfig> config_from_json(std::string_view text);
std::string config_to_json(const ModelConfig& config, std::string_view torch_dtype);

// Angles a position advances by, per pair of a head's dimensions, (head_dim/2); `scale` multiplies cos and
// sin (yarn).
struct RopeFrequencies {
    std::vector<double> inverse;
    double scale = 1.0;
};
RopeFrequencies rope_frequencies(const ModelConfig& config);

}  // namespace retort::model
