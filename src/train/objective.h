// The head and the loss, fused: hidden states of the trained positions are projected a tile of rows at a
// time, the loss and its gradient are formed in place, and the gradient goes straight on into d_hidden and
// the head's weights. A tile's logits are bounded by tile_bytes whatever the number of tokens; ignored
// positions are never projected.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/transformer.h"
#include "tensor/buffer.h"
#include "tensor/token_loss.h"

namespace retort::train {

enum class ObjectiveKind { ce, fkl };

struct Objective {
    ObjectiveKind kind = ObjectiveKind::ce;
    double temperature = 1.0;
    double ce_mix = 0.0;  // fkl only: loss = (1 − mix)·fkl + mix·ce
};

Result<ObjectiveKind> objective_from_name(std::string_view name);
std::string_view objective_name(ObjectiveKind kind);
tensor::TokenLossWeights loss_weights(const Objective& objective);

// Sums over trained tokens; divide by tokens.
struct LossSums {
    double ce = 0;
    double fkl = 0;
    std::int64_t agreements = 0;  // argmax p = argmax q; counted with a teacher
    std::int64_t tokens = 0;

    void operator+=(const LossSums& other);
    [[nodiscard]] double value(const Objective& objective) const;
};

// A model's side of the head.
struct HeadInput {
    const model::ParameterLayout* layout = nullptr;
    model::ParameterView parameters;
    std::span<const float> hidden;  // (tokens, hidden_size) after the final norm
};

class FusedHead {
  public:
    FusedHead(std::int64_t vocab_size, std::int64_t student_hidden, std::int64_t teacher_hidden,
              std::int64_t max_tokens, std::int64_t tile_bytes = std::int64_t{48} << 20U);

    // targets (tokens): −1 where ignored. teacher may be null when weights.fkl is 0. d_hidden (tokens,
    // hidden) is overwritten; gradients (layout of the student) is added to. With gradients null, only the
    // loss is computed.
    LossSums run(const HeadInput& student, const HeadInput* teacher, std::span<const std::int32_t> targets,
                 const tensor::TokenLossWeights& weights, float* d_hidden, float* gradients);

    [[nodiscard]] std::int64_t tile_rows() const { return tile_rows_; }
    [[nodiscard]] static std::int64_t memory_bytes(std::int64_t vocab_size, std::int64_t student_hidden,
                                                   std::int64_t teacher_hidden, std::int64_t max_tokens);

  private:
    void project(const HeadInput& input, const std::int32_t* rows, std::int64_t count, float* gathered,
                 float* logits);

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
