#include "train/fused_head.h"

#include <algorithm>

#include "tensor/adamw.h"
#include "tensor/gemm.h"

namespace retort::train {

namespace {

std::int64_t rows_of_tile(std::int64_t vocab_size, std::int64_t max_tokens, std::int64_t tile_bytes) {
    const std::int64_t fitting = tile_bytes / (vocab_size * 4) / 16 * 16;
    return std::clamp<std::int64_t>(fitting, 16, std::max<std::int64_t>(16, max_tokens));
}

LossSums sums_of(std::span<const tensor::TokenLoss> losses) {
    LossSums sums;
    for (const tensor::TokenLoss& loss : losses) sums += {loss.ce, loss.divergence, loss.agrees ? 1 : 0, 1};
    return sums;
}

}  // namespace

void PolicySums::operator+=(const PolicySums& other) {
    loss += other.loss;
    ratio += other.ratio;
    kl += other.kl;
    entropy += other.entropy;
    clipped += other.clipped;
    tokens += other.tokens;
}

FusedHead::FusedHead(std::int64_t vocab_size, std::int64_t student_hidden, std::int64_t teacher_hidden,
                     std::int64_t max_tokens, std::int64_t tile_bytes)
    : vocab_(vocab_size), tile_rows_(rows_of_tile(vocab_size, max_tokens, tile_bytes)) {
    using Floats = tensor::Buffer<float>;
    const std::int64_t widest = std::max(student_hidden, teacher_hidden);
    student_hidden_ = Floats(tile_rows_ * widest);
    d_hidden_ = Floats(tile_rows_ * student_hidden);
    student_logits_ = Floats(tile_rows_ * vocab_);
    if (teacher_hidden > 0) {
        teacher_hidden_ = Floats(tile_rows_ * teacher_hidden);
        teacher_logits_ = Floats(tile_rows_ * vocab_);
    }
    narrow_bf16_ = tensor::Buffer<std::uint16_t>(tile_rows_ * widest);
    logits_bf16_ = tensor::Buffer<std::uint16_t>(tile_rows_ * vocab_);
    losses_.resize(static_cast<std::size_t>(tile_rows_));
}

// Memory that is never touched, as the bf16 buffers in f32, is never given by the system.
std::int64_t FusedHead::memory_bytes(std::int64_t vocab_size, std::int64_t student_hidden,
                                     std::int64_t teacher_hidden, std::int64_t max_tokens, bool bf16) {
    const std::int64_t rows = rows_of_tile(vocab_size, max_tokens, std::int64_t{48} << 20U);
    const std::int64_t floats =
        2 * student_hidden + vocab_size + (teacher_hidden > 0 ? teacher_hidden + vocab_size : 0);
    const std::int64_t narrow = bf16 ? std::max(student_hidden, teacher_hidden) + vocab_size : 0;
    return rows * (4 * floats + 2 * narrow);
}

void FusedHead::project(const HeadInput& input, const std::int32_t* rows, std::int64_t count, float* gathered,
                        float* logits) {
    const std::int64_t hidden = input.layout->config.hidden_size;
    for (std::int64_t i = 0; i < count; ++i) {
        std::copy_n(input.hidden.data() + rows[i] * hidden, hidden, gathered + i * hidden);
    }
    const std::int64_t head = input.layout->head;
    if (input.parameters.bf16 == nullptr) {
        tensor::gemm(false, true, count, vocab_, hidden, 1.0F, gathered, hidden,
                     input.parameters.values + head, hidden, 0.0F, logits, vocab_);
        return;
    }
    tensor::convert_to_bf16(gathered, narrow_bf16_.data(), count * hidden);
    tensor::gemm_bf16(false, true, count, vocab_, hidden, narrow_bf16_.data(), hidden,
                      input.parameters.bf16 + head, hidden, 0.0F, logits, vocab_);
}

void FusedHead::each_tile(std::span<const std::int32_t> targets, const TileLoss& on_tile) {
    std::vector<std::int32_t> rows;
    std::vector<std::int32_t> row_targets;
    for (std::size_t t = 0; t < targets.size(); ++t) {
        if (targets[t] < 0) continue;
        rows.push_back(static_cast<std::int32_t>(t));
        row_targets.push_back(targets[t]);
    }
    const auto total = static_cast<std::int64_t>(rows.size());
    for (std::int64_t first = 0; first < total; first += tile_rows_) {
        on_tile(
            {first, std::min(tile_rows_, total - first), rows.data() + first, row_targets.data() + first});
    }
}

// student_hidden_ and narrow_bf16_ hold what project() gathered of the student last.
void FusedHead::backward(const HeadInput& student, const Tile& tile, float* d_hidden, float* gradients) {
    const std::int64_t hidden = student.layout->config.hidden_size;
    const std::int64_t head = student.layout->head;
    const std::int64_t count = tile.count;
    if (student.parameters.bf16 == nullptr) {
        tensor::gemm(false, false, count, hidden, vocab_, 1.0F, student_logits_.data(), vocab_,
                     student.parameters.values + head, hidden, 0.0F, d_hidden_.data(), hidden);
        if (gradients != nullptr)
            tensor::gemm(true, false, vocab_, hidden, count, 1.0F, student_logits_.data(), vocab_,
                         student_hidden_.data(), hidden, 1.0F, gradients + head, hidden);
    } else {
        tensor::convert_to_bf16(student_logits_.data(), logits_bf16_.data(), count * vocab_);
        tensor::gemm_bf16(false, false, count, hidden, vocab_, logits_bf16_.data(), vocab_,
                          student.parameters.bf16 + head, hidden, 0.0F, d_hidden_.data(), hidden);
        if (gradients != nullptr)
            tensor::gemm_bf16(true, false, vocab_, hidden, count, logits_bf16_.data(), vocab_,
                              narrow_bf16_.data(), hidden, 1.0F, gradients + head, hidden);
    }
    for (std::int64_t i = 0; i < count; ++i) {
        std::copy_n(d_hidden_.data() + i * hidden, hidden, d_hidden + tile.rows[i] * hidden);
    }
}

LossSums FusedHead::run(const HeadInput& student, const HeadInput* teacher,
                        std::span<const std::int32_t> targets, const tensor::TokenLossWeights& weights,
                        float* d_hidden, float* gradients) {
    const auto hidden = static_cast<std::size_t>(student.layout->config.hidden_size);
    if (d_hidden != nullptr) std::fill_n(d_hidden, targets.size() * hidden, 0.0F);
    LossSums sums;
    each_tile(targets, [&](const Tile& tile) {
        if (teacher != nullptr)
            project(*teacher, tile.rows, tile.count, teacher_hidden_.data(), teacher_logits_.data());
        project(student, tile.rows, tile.count, student_hidden_.data(), student_logits_.data());
        tensor::token_loss(student_logits_.data(), teacher == nullptr ? nullptr : teacher_logits_.data(),
                           tile.targets, tile.count, vocab_, weights, losses_.data());
        sums += sums_of({losses_.data(), static_cast<std::size_t>(tile.count)});
        if (d_hidden != nullptr) backward(student, tile, d_hidden, gradients);
    });
    return sums;
}

LossSums FusedHead::run_sparse(const HeadInput& student, const tensor::SparseTargets& teacher,
                               std::span<const std::int32_t> targets, const tensor::TokenLossWeights& weights,
                               float* d_hidden, float* gradients) {
    const auto hidden = static_cast<std::size_t>(student.layout->config.hidden_size);
    if (d_hidden != nullptr) std::fill_n(d_hidden, targets.size() * hidden, 0.0F);
    LossSums sums;
    each_tile(targets, [&](const Tile& tile) {
        project(student, tile.rows, tile.count, student_hidden_.data(), student_logits_.data());
        tensor::SparseTargets part = teacher;
        part.starts += tile.first;
        if (part.tails != nullptr) part.tails += tile.first;
        if (part.entropies != nullptr) part.entropies += tile.first;
        tensor::sparse_token_loss(student_logits_.data(), part, tile.targets, tile.count, vocab_, weights,
                                  losses_.data());
        sums += sums_of({losses_.data(), static_cast<std::size_t>(tile.count)});
        if (d_hidden != nullptr) backward(student, tile, d_hidden, gradients);
    });
    return sums;
}

PolicySums FusedHead::run_policy(const HeadInput& student, std::span<const tensor::PolicyToken> samples,
                                 std::span<const std::int32_t> targets, const tensor::PolicyWeights& weights,
                                 float* d_hidden, float* gradients) {
    const auto hidden = static_cast<std::size_t>(student.layout->config.hidden_size);
    if (d_hidden != nullptr) std::fill_n(d_hidden, targets.size() * hidden, 0.0F);
    PolicySums sums;
    std::vector<tensor::PolicyLoss> losses(static_cast<std::size_t>(tile_rows_));
    each_tile(targets, [&](const Tile& tile) {
        project(student, tile.rows, tile.count, student_hidden_.data(), student_logits_.data());
        tensor::policy_loss(student_logits_.data(), tile.targets, samples.data() + tile.first, tile.count,
                            vocab_, weights, losses.data());
        for (const tensor::PolicyLoss& loss : std::span(losses).first(static_cast<std::size_t>(tile.count))) {
            sums += {loss.loss, loss.ratio, loss.kl, loss.entropy, loss.clipped ? 1 : 0, 1};
        }
        if (d_hidden != nullptr) backward(student, tile, d_hidden, gradients);
    });
    return sums;
}

void FusedHead::for_each_tile(
    const HeadInput& input, std::span<const std::int32_t> targets,
    const std::function<void(std::int64_t first, std::int64_t count, float* logits)>& on_tile) {
    each_tile(targets, [&](const Tile& tile) {
        project(input, tile.rows, tile.count, student_hidden_.data(), student_logits_.data());
        on_tile(tile.first, tile.count, student_logits_.data());
    });
}

std::vector<float> FusedHead::logprobs(const HeadInput& input, std::span<const std::int32_t> targets,
                                       float temperature) {
    std::vector<float> result;
    each_tile(targets, [&](const Tile& tile) {
        project(input, tile.rows, tile.count, student_hidden_.data(), student_logits_.data());
        result.resize(static_cast<std::size_t>(tile.first + tile.count));
        tensor::token_logprobs(student_logits_.data(), tile.targets, tile.count, vocab_, temperature,
                               result.data() + tile.first);
    });
    return result;
}

}  // namespace retort::train
