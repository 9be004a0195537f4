// The head and the loss, fused: hidden states of the trained positions are projected a tile of rows at a
// time, the loss and its gradient are formed in place, and the gradient goes straight on into d_hidden and
// the head's weights. A tile's logits are bounded by tile_bytes whatever the number of tokens; ignored
// positions are never projected. The teacher's side is its hidden states (projected in the same tiles), kept
// entries of a cache, or, for samples of the student's own, a number a token.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/transformer.h"
#include "tensor/buffer.h"
#include "tensor/token_loss.h"
#include "tensor/token_loss_policy.h"
#include "tensor/token_loss_sparse.h"
#include "train/objective.h"

namespace retort::train {

// A model's side of the head.
struct HeadInput {
    const model::ParameterLayout* layout = nullptr;
    model::ParameterView parameters;
    std::span<const float> hidden;  // (tokens, hidden_size) after the final norm
};

// Sums over sampled tokens; divide by tokens.
struct PolicySums {
    double loss = 0;  // each token's times its weight
    double ratio = 0;
    double kl = 0;
    double entropy = 0;
    std::int64_t clipped = 0;
    std::int64_t tokens = 0;

    void operator+=(const PolicySums& other);
};

class FusedHead {
  public:
    // vocab_size: of the tokenizer. Rows of a head beyond it are padding, and take no part in any softmax.
    FusedHead(std::int64_t vocab_size, std::int64_t student_hidden, std::int64_t teacher_hidden,
              std::int64_t max_tokens, std::int64_t tile_bytes = std::int64_t{48} << 20U);

    // For all of these: targets (tokens), −1 where ignored; d_hidden (tokens, hidden) is overwritten, and
    // gradients (layout of the student) added to. With d_hidden null, only the loss is computed; with
    // gradients null alone, the head is frozen.

    // teacher may be null when weights.divergence is 0.
    LossSums run(const HeadInput& student, const HeadInput* teacher, std::span<const std::int32_t> targets,
                 const tensor::TokenLossWeights& weights, float* d_hidden, float* gradients);
    // teacher: entries of the trained tokens, in their order, the ignored left out.
    LossSums run_sparse(const HeadInput& student, const tensor::SparseTargets& teacher,
                        std::span<const std::int32_t> targets, const tensor::TokenLossWeights& weights,
                        float* d_hidden, float* gradients);
    // samples: of the trained tokens, in their order; targets are what was sampled.
    PolicySums run_policy(const HeadInput& student, std::span<const tensor::PolicyToken> samples,
                          std::span<const std::int32_t> targets, const tensor::PolicyWeights& weights,
                          float* d_hidden, float* gradients);
    // log softmax(logits/T)[target] of the trained tokens, in their order: of the student, or of a teacher of
    // the hidden size given.
    std::vector<float> logprobs(const HeadInput& input, std::span<const std::int32_t> targets,
                                float temperature);
    // The logits of the trained tokens, a tile at a time: on_tile(first trained token, count, logits (count,
    // vocab), which it may overwrite).
    void for_each_tile(
        const HeadInput& input, std::span<const std::int32_t> targets,
        const std::function<void(std::int64_t first, std::int64_t count, float* logits)>& on_tile);

    [[nodiscard]] std::int64_t tile_rows() const { return tile_rows_; }
    [[nodiscard]] static std::int64_t memory_bytes(std::int64_t vocab_size, std::int64_t student_hidden,
                                                   std::int64_t teacher_hidden, std::int64_t max_tokens,
                                                   bool bf16);

  private:
    struct Tile {
        std::int64_t first;  // of the trained tokens
        std::int64_t count;
        const std::int32_t* rows;     // (count) positions
        const std::int32_t* targets;  // (count)
    };
    using TileLoss = std::function<void(const Tile&)>;  // student_logits_ becomes their gradient
    void each_tile(std::span<const std::int32_t> targets, const TileLoss& on_tile);
    void project(const HeadInput& input, const std::int32_t* rows, std::int64_t count, float* gathered,
                 float* logits);
    void backward(const HeadInput& student, const Tile& tile, float* d_hidden, float* gradients);

    std::int64_t vocab_;
    std::int64_t tile_rows_;
    tensor::Buffer<float> student_hidden_;  // (tile, hidden) gathered
    tensor::Buffer<float> teacher_hidden_;
    tensor::Buffer<float> d_hidden_;        // (tile, hidden)
    tensor::Buffer<float> student_logits_;  // (tile, vocab)
    tensor::Buffer<float> teacher_logits_;
    tensor::Buffer<std::uint16_t> narrow_bf16_;  // (tile, hidden)
    tensor::Buffer<std::uint16_t> logits_bf16_;  // (tile, vocab)
    std::vector<tensor::TokenLoss> losses_;
};

}  // namespace retort::train
