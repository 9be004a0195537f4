#include "train/objective.h"

#include <algorithm>

#include "tensor/adamw.h"
#include "tensor/gemm.h"

namespace retort::train {

Result<ObjectiveKind> objective_from_name(std::string_view name) {
    for (const ObjectiveKind kind : {ObjectiveKind::ce, ObjectiveKind::fkl}) {
        if (objective_name(kind) == name) return kind;
    }
    for (const std::string_view known : {"rkl", "jsd", "skew-fkl", "skew-rkl", "tvd", "opd", "gkd", "grpo"}) {
        if (name == known) {
            return fail(ErrorCode::unsupported,
                        "objective \"{}\" is not built yet; this version has ce and fkl", name);
        }
    }
    return fail(ErrorCode::invalid_argument, "objective \"{}\" is not known; use ce or fkl", name);
}

std::string_view objective_name(ObjectiveKind kind) {
    return kind == ObjectiveKind::ce ? "ce" : "fkl";
}

tensor::TokenLossWeights loss_weights(const Objective& objective) {
    tensor::TokenLossWeights weights;
    if (objective.kind == ObjectiveKind::ce) return weights;
    weights.ce = static_cast<float>(objective.ce_mix);
    weights.fkl = static_cast<float>(1.0 - objective.ce_mix);
    weights.temperature = static_cast<float>(objective.temperature);
    return weights;
}

void LossSums::operator+=(const LossSums& other) {
    ce += other.ce;
    fkl += other.fkl;
    agreements += other.agreements;
    tokens += other.tokens;
}

double LossSums::value(const Objective& objective) const {
    if (tokens == 0) return 0;
    const tensor::TokenLossWeights weights = loss_weights(objective);
    return (static_cast<double>(weights.ce) * ce + static_cast<double>(weights.fkl) * fkl) /
           static_cast<double>(tokens);
}

namespace {
std::int64_t rows_of_tile(std::int64_t vocab_size, std::int64_t max_tokens, std::int64_t tile_bytes) {
    const std::int64_t fitting = tile_bytes / (vocab_size * 4) / 16 * 16;
    return std::clamp<std::int64_t>(fitting, 16, std::max<std::int64_t>(16, max_tokens));
}
}  // namespace

FusedHead::FusedHead(std::int64_t vocab_size, std::int64_t student_hidden, std::int64_t teacher_hidden,
                     std::int64_t max_tokens, std::int64_t tile_bytes)
    : vocab_(vocab_size), tile_rows_(rows_of_tile(vocab_size, max_tokens, tile_bytes)) {
    using Floats = tensor::Buffer<float>;
    student_hidden_ = Floats(tile_rows_ * student_hidden);
    d_hidden_ = Floats(tile_rows_ * student_hidden);
    student_logits_ = Floats(tile_rows_ * vocab_);
    if (teacher_hidden > 0) {
        teacher_hidden_ = Floats(tile_rows_ * teacher_hidden);
        teacher_logits_ = Floats(tile_rows_ * vocab_);
    }
    narrow_bf16_ = tensor::Buffer<std::uint16_t>(tile_rows_ * std::max(student_hidden, teacher_hidden));
    logits_bf16_ = tensor::Buffer<std::uint16_t>(tile_rows_ * vocab_);
    losses_.resize(static_cast<std::size_t>(tile_rows_));
}

std::int64_t FusedHead::memory_bytes(std::int64_t vocab_size, std::int64_t student_hidden,
                                     std::int64_t teacher_hidden, std::int64_t max_tokens) {
    const std::int64_t rows = rows_of_tile(vocab_size, max_tokens, std::int64_t{48} << 20U);
    return rows * 4 *
           (2 * student_hidden + vocab_size + (teacher_hidden > 0 ? teacher_hidden + vocab_size : 0));
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

LossSums FusedHead::run(const HeadInput& student, const HeadInput* teacher,
                        std::span<const std::int32_t> targets, const tensor::TokenLossWeights& weights,
                        float* d_hidden, float* gradients) {
    const std::int64_t hidden = student.layout->config.hidden_size;
    const auto tokens = static_cast<std::int64_t>(targets.size());
    std::vector<std::int32_t> rows;
    std::vector<std::int32_t> row_targets;
    for (std::int64_t t = 0; t < tokens; ++t) {
        if (targets[static_cast<std::size_t>(t)] < 0) continue;
        rows.push_back(static_cast<std::int32_t>(t));
        row_targets.push_back(targets[static_cast<std::size_t>(t)]);
    }
    if (d_hidden != nullptr) std::fill_n(d_hidden, tokens * hidden, 0.0F);
    LossSums sums;
    const auto total = static_cast<std::int64_t>(rows.size());
    for (std::int64_t begin = 0; begin < total; begin += tile_rows_) {
        const std::int64_t count = std::min(tile_rows_, total - begin);
        const std::int32_t* tile = rows.data() + begin;
        // The student last: its gathered rows, rounded to bf16, are read again by the gradient of the head.
        if (teacher != nullptr)
            project(*teacher, tile, count, teacher_hidden_.data(), teacher_logits_.data());
        project(student, tile, count, student_hidden_.data(), student_logits_.data());
        tensor::token_loss(student_logits_.data(), teacher == nullptr ? nullptr : teacher_logits_.data(),
                           row_targets.data() + begin, count, vocab_, weights, losses_.data());
        for (std::int64_t i = 0; i < count; ++i) {
            const tensor::TokenLoss& loss = losses_[static_cast<std::size_t>(i)];
            sums += {loss.ce, loss.fkl, loss.agrees ? 1 : 0, 1};
        }
        if (gradients == nullptr) continue;
        const std::int64_t head = student.layout->head;
        if (student.parameters.bf16 == nullptr) {
            tensor::gemm(false, false, count, hidden, vocab_, 1.0F, student_logits_.data(), vocab_,
                         student.parameters.values + head, hidden, 0.0F, d_hidden_.data(), hidden);
            tensor::gemm(true, false, vocab_, hidden, count, 1.0F, student_logits_.data(), vocab_,
                         student_hidden_.data(), hidden, 1.0F, gradients + head, hidden);
        } else {
            tensor::convert_to_bf16(student_logits_.data(), logits_bf16_.data(), count * vocab_);
            tensor::gemm_bf16(false, false, count, hidden, vocab_, logits_bf16_.data(), vocab_,
                              student.parameters.bf16 + head, hidden, 0.0F, d_hidden_.data(), hidden);
            tensor::gemm_bf16(true, false, vocab_, hidden, count, logits_bf16_.data(), vocab_,
                              narrow_bf16_.data(), hidden, 1.0F, gradients + head, hidden);
        }
        for (std::int64_t i = 0; i < count; ++i) {
            std::copy_n(d_hidden_.data() + i * hidden, hidden, d_hidden + tile[i] * hidden);
        }
    }
    return sums;
}

}  // namespace retort::train
