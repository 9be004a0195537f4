// One step of the transformer for generation: new tokens of several sequences at once, their keys and values
// kept in pages. Knows nothing of requests, sampling or which page belongs to whom: the scheduler says so.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/weights.h"
#include "tensor/attention.h"
#include "tensor/buffer.h"
#include "tensor/decode_attention.h"
#include "tensor/linear.h"
#include "tensor/rope.h"

namespace retort::generate {

// Consecutive new tokens of one sequence.
struct Segment {
    std::span<const std::int32_t> tokens;
    std::int64_t start = 0;               // position of the first
    std::span<const std::int32_t> pages;  // of the sequence, enough for start + tokens.size() positions
    std::int64_t logit_rows = 1;          // of its last so many tokens the logits are wanted
    std::span<float> hidden_sum = {};  // (hidden) to which each token's normed output is added; may be empty
};

class Decoder {
  public:
    // Repacks quantised weights, and keeps the memory of the others alive. Memory for keys and values is
    // touched only as pages are used. cache_type: of keys and values, f32 or bf16.
    Decoder(model::Weights weights, std::int64_t page_count, std::int64_t context_length,
            std::int64_t max_step_tokens, tensor::DType cache_type = tensor::DType::f32);

    // Runs at most max_step_tokens tokens. Logits (wanted rows, vocab), segment by segment: the caller's to
    // change until the next call.
    std::span<float> step(std::span<const Segment> segments);

    // Copies a page, in every layer.
    void copy_page(std::int32_t from, std::int32_t to);

    [[nodiscard]] static std::int64_t page_bytes(const model::ModelConfig& config, tensor::DType cache_type);

    [[nodiscard]] const model::ModelConfig& config() const { return weights_.config; }

  private:
    // The matrices of model::LayerWeights, ready for products.
    struct LayerMatrices {
        tensor::LinearWeight query, key, value, output, gate, up, down;
    };
    void prepare_matrices();
    [[nodiscard]] const tensor::LinearWeight& head() const {
        return weights_.config.tie_embeddings ? embedding_ : head_;
    }
    void attention_block(std::int64_t layer, std::int64_t rows);
    void mlp_block(std::int64_t layer, std::int64_t rows);
    void plan_rows(std::span<const Segment> segments);
    void add_hidden(std::span<const Segment> segments);
    void norm_rows(const std::vector<float>& weight, std::int64_t rows);  // residual_ to normed_
    [[nodiscard]] tensor::PagedKeyValues layer_cache(std::int64_t layer);

    model::Weights weights_;  // norms and biases; matrices only where they are not repacked
    tensor::LinearWeight embedding_;
    tensor::LinearWeight head_;  // empty when tied
    std::vector<LayerMatrices> matrices_;
    tensor::AttentionShape shape_;
    tensor::RopeTable rope_;
    tensor::DType cache_type_;
    std::int64_t layer_page_bytes_;
    std::int64_t page_bytes_;
    tensor::Buffer<std::byte> cache_;
    std::vector<std::int32_t> positions_;      // of each row of the step
    std::vector<std::int32_t> tokens_;         // the same
    std::vector<tensor::PagedQuery> queries_;  // the same
    std::vector<std::int64_t> logit_rows_;     // rows whose logits are wanted
    tensor::Buffer<float> residual_;           // (rows, hidden)
    tensor::Buffer<float> normed_;             // (rows, hidden)
    tensor::Buffer<float> qkv_;                // (rows, query + 2·kv)
    tensor::Buffer<float> attention_;          // (rows, query)
    tensor::Buffer<float> gate_up_;            // (rows, 2·intermediate)
    tensor::Buffer<float> middle_;             // (rows, intermediate)
    std::vector<float> logits_;                // (wanted rows, vocab)
};

}  // namespace retort::generate
