#include "tensor/token_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/token_loss.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::int64_t sum_block = 4096;  // floats added before the sum goes to double

float LargestLogit(const float* row, std::int64_t size) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto top = hn::Set(d, -std::numeric_limits<float>::infinity());
    std::int64_t i = 0;
    for (; i + lanes <= size; i += lanes) top = hn::Max(top, hn::LoadU(d, row + i));
    float result = hn::GetLane(hn::MaxOfLanes(d, top));
    for (; i < size; ++i) result = std::max(result, row[i]);
    return result;
}

// to[i] = exp((row[i] − top) · rate); returns the sum. to may be row.
double Exponentials(const float* row, std::int64_t size, float top, float rate, float* to) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto tops = hn::Set(d, top);
    const auto rates = hn::Set(d, rate);
    double total = 0;
    std::int64_t i = 0;
    while (i + lanes <= size) {
        const std::int64_t stop = std::min(size, i + sum_block);
        auto sum = hn::Zero(d);
        for (; i + lanes <= stop; i += lanes) {
            const auto e = hn::Exp(d, hn::Mul(hn::Sub(hn::LoadU(d, row + i), tops), rates));
            hn::StoreU(e, d, to + i);
            sum = hn::Add(sum, e);
        }
        total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
    }
    const hn::CappedTag<float, 1> one;
    for (; i < size; ++i) {
        const auto e =
            hn::Exp(one, hn::Mul(hn::Sub(hn::LoadU(one, row + i), hn::Set(one, top)), hn::Set(one, rate)));
        hn::StoreU(e, one, to + i);
        total += static_cast<double>(hn::GetLane(e));
    }
    return total;
}

// Σ exp((t − top)·rate)·(t − s)·rate, and exp(…) into to. Returns the sum of exponentials in `sum`.
double WeightedGap(const float* teacher, const float* student, std::int64_t size, float top, float rate,
                   float* to, double* sum_out) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto tops = hn::Set(d, top);
    const auto rates = hn::Set(d, rate);
    double total = 0;
    double gap_total = 0;
    std::int64_t i = 0;
    while (i + lanes <= size) {
        const std::int64_t stop = std::min(size, i + sum_block);
        auto sum = hn::Zero(d);
        auto gap = hn::Zero(d);
        for (; i + lanes <= stop; i += lanes) {
            const auto t = hn::LoadU(d, teacher + i);
            const auto e = hn::Exp(d, hn::Mul(hn::Sub(t, tops), rates));
            gap = hn::MulAdd(e, hn::Mul(hn::Sub(t, hn::LoadU(d, student + i)), rates), gap);
            hn::StoreU(e, d, to + i);
            sum = hn::Add(sum, e);
        }
        total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
        gap_total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, gap)));
    }
    for (; i < size; ++i) {
        const float t = teacher[i];
        const float e = std::exp((t - top) * rate);
        gap_total += static_cast<double>(e * (t - student[i]) * rate);
        to[i] = e;
        total += static_cast<double>(e);
    }
    *sum_out = total;
    return gap_total;
}

void Scale(float* row, std::int64_t size, float factor) {
    for (std::int64_t i = 0; i < size; ++i) row[i] *= factor;
}

// row = row·a − other·b
void ScaleSubtract(float* HWY_RESTRICT row, const float* HWY_RESTRICT other, std::int64_t size, float a,
                   float b) {
    for (std::int64_t i = 0; i < size; ++i) row[i] = row[i] * a - other[i] * b;
}

void AddScaled(float* HWY_RESTRICT row, const float* HWY_RESTRICT other, std::int64_t size, float b) {
    for (std::int64_t i = 0; i < size; ++i) row[i] += other[i] * b;
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(LargestLogit);
HWY_EXPORT(Exponentials);
HWY_EXPORT(WeightedGap);
HWY_EXPORT(Scale);
HWY_EXPORT(ScaleSubtract);
HWY_EXPORT(AddScaled);

namespace {

TokenLoss loss_row(float* student, float* teacher, std::int32_t target, std::int64_t vocab,
                   const TokenLossWeights& weights) {
    TokenLoss loss;
    const float top = HWY_DYNAMIC_DISPATCH(LargestLogit)(student, vocab);
    const float target_logit = student[target];
    if (weights.fkl == 0.0F) {
        const double sum = HWY_DYNAMIC_DISPATCH(Exponentials)(student, vocab, top, 1.0F, student);
        loss.ce = std::log(sum) + static_cast<double>(top) - static_cast<double>(target_logit);
        const float factor = weights.ce * weights.scale;
        HWY_DYNAMIC_DISPATCH(Scale)(student, vocab, static_cast<float>(factor / sum));
        student[target] -= factor;
        return loss;
    }
    const float rate = 1.0F / weights.temperature;
    const bool shares_softmax = weights.temperature == 1.0F;
    const float teacher_top = HWY_DYNAMIC_DISPATCH(LargestLogit)(teacher, vocab);
    loss.agrees = std::find(teacher, teacher + vocab, teacher_top) - teacher ==
                  std::find(student, student + vocab, top) - student;
    // Where the two temperatures differ, the plain softmax of `ce` needs a row of its own.
    thread_local std::vector<float> plain;
    double plain_sum = 0;
    if (!shares_softmax) {
        plain.resize(static_cast<std::size_t>(vocab));
        plain_sum = HWY_DYNAMIC_DISPATCH(Exponentials)(student, vocab, top, 1.0F, plain.data());
    }
    double teacher_sum = 0;
    const double gap =
        HWY_DYNAMIC_DISPATCH(WeightedGap)(teacher, student, vocab, teacher_top, rate, teacher, &teacher_sum);
    const double sum = HWY_DYNAMIC_DISPATCH(Exponentials)(student, vocab, top, rate, student);
    const double log_z_student = std::log(sum) + static_cast<double>(top * rate);
    const double log_z_teacher = std::log(teacher_sum) + static_cast<double>(teacher_top * rate);
    const double t = static_cast<double>(weights.temperature);
    loss.fkl = t * t * (gap / teacher_sum - log_z_teacher + log_z_student);
    if (shares_softmax) plain_sum = sum;
    loss.ce = std::log(plain_sum) + static_cast<double>(top) - static_cast<double>(target_logit);
    // d/ds of T²·KL is T·(q_T − p_T); of ce, q − [y].
    const double fkl_factor = static_cast<double>(weights.fkl * weights.temperature * weights.scale);
    const double ce_factor = static_cast<double>(weights.ce * weights.scale);
    const double student_factor = (fkl_factor + (shares_softmax ? ce_factor : 0.0)) / sum;
    HWY_DYNAMIC_DISPATCH(ScaleSubtract)
    (student, teacher, vocab, static_cast<float>(student_factor),
     static_cast<float>(fkl_factor / teacher_sum));
    if (!shares_softmax && weights.ce != 0.0F) {
        HWY_DYNAMIC_DISPATCH(AddScaled)
        (student, plain.data(), vocab, static_cast<float>(ce_factor / plain_sum));
    }
    student[target] -= static_cast<float>(ce_factor);
    return loss;
}

}  // namespace

void token_loss(float* student, float* teacher, const std::int32_t* targets, std::int64_t rows,
                std::int64_t vocab, const TokenLossWeights& weights, TokenLoss* losses) {
    base::parallel_ranges(rows, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            losses[r] = loss_row(student + r * vocab, teacher == nullptr ? nullptr : teacher + r * vocab,
                                 targets[r], vocab, weights);
        }
    });
}

TokenLoss token_loss_reference(const float* student, const float* teacher, std::int32_t target,
                               std::int64_t vocab, const TokenLossWeights& weights, double* gradient) {
    const auto log_softmax = [vocab](const float* logits, double temperature) {
        std::vector<double> result(logits, logits + vocab);
        for (double& x : result) x /= temperature;
        const double top = *std::max_element(result.begin(), result.end());
        double sum = 0;
        for (const double x : result) sum += std::exp(x - top);
        for (double& x : result) x -= top + std::log(sum);
        return result;
    };
    TokenLoss loss;
    const auto log_q = log_softmax(student, 1.0);
    loss.ce = -log_q[static_cast<std::size_t>(target)];
    for (std::int64_t i = 0; i < vocab; ++i) {
        gradient[i] = static_cast<double>(weights.ce) *
                      (std::exp(log_q[static_cast<std::size_t>(i)]) - (i == target ? 1.0 : 0.0));
    }
    if (weights.fkl == 0.0F) return loss;
    const double t = static_cast<double>(weights.temperature);
    const auto q = log_softmax(student, t);
    const auto p = log_softmax(teacher, t);
    for (std::size_t i = 0; i < p.size(); ++i) {
        loss.fkl += t * t * std::exp(p[i]) * (p[i] - q[i]);
        gradient[i] += static_cast<double>(weights.fkl) * t * (std::exp(q[i]) - std::exp(p[i]));
    }
    loss.agrees = std::max_element(student, student + vocab) - student ==
                  std::max_element(teacher, teacher + vocab) - teacher;
    return loss;
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
