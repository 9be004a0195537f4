#include "tensor/token_loss.h"

#include <cmath>

#include "base/parallel.h"
#include "tensor/token_loss_kernels.h"

namespace retort::tensor {

namespace {

struct DivergenceRow {
    double value = 0;  // D, without T²
    double student_sum = 0;
};

// Leaves factor·q·(g − Σq·g) + share·q in student, with share·q the softmax's part of ce.
DivergenceRow divergence_row(const row::Pair& pair, const TokenLossWeights& weights, double factor,
                             double share) {
    const Divergence kind = effective_kind(weights);
    const double log_top = static_cast<double>((pair.student_top - pair.teacher_top) * pair.rate);
    if (kind == Divergence::fkl) {
        const row::PairSums sums = row::forward_gap(pair);
        const double log_ratio = std::log(sums.student / sums.teacher) + log_top;
        row::scale_subtract(pair.student, pair.teacher, pair.size,
                            static_cast<float>((factor + share) / sums.student),
                            static_cast<float>(factor / sums.teacher));
        return {sums.gap / sums.teacher + log_ratio, sums.student};
    }
    row::PairSums sums;
    double value = 0;
    double mean = 0;  // Σq·g
    if (kind == Divergence::rkl) {
        sums = row::reverse_gap(pair);
        mean = sums.gap / sums.student;
        value = mean - std::log(sums.student / sums.teacher) - log_top;
    } else {
        sums = row::both_exponentials(pair);
        const row::MixtureSums terms = row::mixture_terms(kind, weights.parameter, pair, sums);
        mean = terms.slope;
        value = terms.value;
    }
    row::multiply_slope(pair.student, pair.teacher, pair.size, static_cast<float>(factor / sums.student),
                        static_cast<float>((share - factor * mean) / sums.student));
    return {value, sums.student};
}

TokenLoss loss_row(float* student, float* teacher, std::int32_t target, std::int64_t vocab,
                   const TokenLossWeights& weights) {
    const float top = row::largest(student, vocab);
    if (!std::isfinite(top)) return row::not_a_number(student, vocab);
    const double ce_factor = static_cast<double>(weights.ce * weights.scale);
    const double target_gap = static_cast<double>(top) - static_cast<double>(student[target]);
    TokenLoss loss;
    if (weights.divergence == 0.0F) {
        const double sum = row::exponentials(student, vocab, top, 1.0F, student);
        loss.ce = std::log(sum) + target_gap;
        row::scale(student, vocab, static_cast<float>(ce_factor / sum));
        student[target] -= static_cast<float>(ce_factor);
        return loss;
    }
    const float teacher_top = row::largest(teacher, vocab);
    if (!std::isfinite(teacher_top)) return row::not_a_number(student, vocab);
    loss.agrees = student[row::find(teacher, vocab, teacher_top)] == top;
    const bool shares_softmax = weights.temperature == 1.0F;
    row::PlainSoftmax plain;
    if (!shares_softmax) plain = row::plain_softmax(student, vocab, top, weights.ce != 0.0F);
    const double t = static_cast<double>(weights.temperature);
    // d/ds of T²·D is T·q·(g − Σq·g); of ce, q − [y].
    const double factor = static_cast<double>(weights.divergence) * t * static_cast<double>(weights.scale);
    const row::Pair pair{student, teacher, vocab, top, teacher_top, 1.0F / weights.temperature};
    const DivergenceRow divergence = divergence_row(pair, weights, factor, shares_softmax ? ce_factor : 0.0);
    loss.divergence = t * t * divergence.value;
    if (shares_softmax) plain.sum = divergence.student_sum;
    loss.ce = std::log(plain.sum) + target_gap;
    if (plain.exponentials != nullptr) {
        row::add_scaled(student, plain.exponentials, vocab, static_cast<float>(ce_factor / plain.sum));
    }
    student[target] -= static_cast<float>(ce_factor);
    return loss;
}

}  // namespace

Divergence effective_kind(const TokenLossWeights& weights) {
    const bool zero = weights.parameter == 0.0F;
    if (weights.kind == Divergence::jsd && zero) return Divergence::fkl;
    if (weights.kind == Divergence::jsd && weights.parameter == 1.0F) return Divergence::rkl;
    if (weights.kind == Divergence::skew_fkl && zero) return Divergence::fkl;
    if (weights.kind == Divergence::skew_rkl && zero) return Divergence::rkl;
    return weights.kind;
}

void token_loss(float* student, float* teacher, const std::int32_t* targets, std::int64_t rows,
                std::int64_t vocab, const TokenLossWeights& weights, TokenLoss* losses) {
    base::parallel_ranges(rows, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            losses[r] = loss_row(student + r * vocab, teacher == nullptr ? nullptr : teacher + r * vocab,
                                 targets[r], vocab, weights);
        }
    });
}

}  // namespace retort::tensor
