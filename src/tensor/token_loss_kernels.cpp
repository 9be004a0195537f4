#include "tensor/token_loss_kernels.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "tensor/dispatch.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/token_loss_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

constexpr std::int64_t sum_block = 4096;  // floats added before the sum goes to double

// Calls body(d, index, sums…) over the row and adds up to three sums of what it accumulates.
template <int kSums, class Body>
HWY_INLINE void SumOverRow(std::int64_t size, double* totals, const Body& body) {
    const hn::ScalableTag<float> d;
    using V = hn::Vec<decltype(d)>;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    std::int64_t i = 0;
    while (i + lanes <= size) {
        const std::int64_t stop = std::min(size, i + sum_block);
        V sum0 = hn::Zero(d);
        V sum1 = hn::Zero(d);
        V sum2 = hn::Zero(d);
        for (; i + lanes <= stop; i += lanes) body(d, i, sum0, sum1, sum2);
        totals[0] += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum0)));
        if constexpr (kSums > 1) totals[1] += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum1)));
        if constexpr (kSums > 2) totals[2] += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum2)));
    }
    const hn::CappedTag<float, 1> one;
    using One = hn::Vec<decltype(one)>;
    for (; i < size; ++i) {
        One sum0 = hn::Zero(one);
        One sum1 = hn::Zero(one);
        One sum2 = hn::Zero(one);
        body(one, i, sum0, sum1, sum2);
        totals[0] += static_cast<double>(hn::GetLane(sum0));
        if constexpr (kSums > 1) totals[1] += static_cast<double>(hn::GetLane(sum1));
        if constexpr (kSums > 2) totals[2] += static_cast<double>(hn::GetLane(sum2));
    }
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpAt(D d, const float* row, std::int64_t i, float top, float rate) {
    return hn::Exp(d, hn::Mul(hn::Sub(hn::LoadU(d, row + i), hn::Set(d, top)), hn::Set(d, rate)));
}

}  // namespace

float Largest(const float* row, std::int64_t size) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto top = hn::Set(d, -std::numeric_limits<float>::infinity());
    auto odd = hn::FirstN(d, 0);  // x86's Max drops a NaN
    std::int64_t i = 0;
    for (; i + lanes <= size; i += lanes) {
        const auto x = hn::LoadU(d, row + i);
        top = hn::Max(top, x);
        odd = hn::Or(odd, hn::IsNaN(x));
    }
    float result = hn::GetLane(hn::MaxOfLanes(d, top));
    bool nan = !hn::AllFalse(d, odd);
    for (; i < size; ++i) {
        nan = nan || row[i] != row[i];
        result = std::max(result, row[i]);
    }
    return nan ? std::numeric_limits<float>::quiet_NaN() : result;
}

std::int64_t Find(const float* row, std::int64_t size, float value) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto wanted = hn::Set(d, value);
    std::int64_t i = 0;
    for (; i + lanes <= size; i += lanes) {
        if (!hn::AllFalse(d, hn::Eq(hn::LoadU(d, row + i), wanted))) break;
    }
    while (i < size && row[i] != value) ++i;
    return i;
}

double SumExponentials(const float* row, std::int64_t size, float top, float rate) {
    double total[1] = {0};
    SumOverRow<1>(size, total, [=](auto d, std::int64_t i, auto& sum, auto&, auto&) HWY_ATTR {
        sum = hn::Add(sum, ExpAt(d, row, i, top, rate));
    });
    return total[0];
}

double Exponentials(const float* row, std::int64_t size, float top, float rate, float* to) {
    double total[1] = {0};
    SumOverRow<1>(size, total, [=](auto d, std::int64_t i, auto& sum, auto&, auto&) HWY_ATTR {
        const auto e = ExpAt(d, row, i, top, rate);
        hn::StoreU(e, d, to + i);
        sum = hn::Add(sum, e);
    });
    return total[0];
}

row::EntropySums EntropyExponentials(float* row, std::int64_t size, float top, float rate) {
    double totals[2] = {0, 0};
    SumOverRow<2>(size, totals, [=](auto d, std::int64_t i, auto& sum, auto& gap, auto&) HWY_ATTR {
        const auto x = hn::Mul(hn::Sub(hn::LoadU(d, row + i), hn::Set(d, top)), hn::Set(d, rate));
        const auto e = hn::Exp(d, x);
        hn::StoreU(e, d, row + i);
        sum = hn::Add(sum, e);
        gap = hn::Add(gap, hn::IfThenElseZero(hn::Gt(e, hn::Zero(d)), hn::Mul(e, x)));
    });
    return {totals[0], totals[1]};
}

void Scale(float* row, std::int64_t size, float factor) {
    for (std::int64_t i = 0; i < size; ++i) row[i] *= factor;
}

void AddScaled(float* HWY_RESTRICT row, const float* HWY_RESTRICT other, std::int64_t size, float factor) {
    for (std::int64_t i = 0; i < size; ++i) row[i] += other[i] * factor;
}

void ScaleSubtract(float* HWY_RESTRICT row, const float* HWY_RESTRICT other, std::int64_t size, float a,
                   float b) {
    for (std::int64_t i = 0; i < size; ++i) row[i] = row[i] * a - other[i] * b;
}

void MultiplySlope(float* HWY_RESTRICT row, const float* HWY_RESTRICT slope, std::int64_t size, float a,
                   float b) {
    for (std::int64_t i = 0; i < size; ++i) row[i] *= slope[i] * a + b;
}

// Where an exponential is 0 its logit may be −∞, and 0·∞ is not a number: such terms are left out.
row::PairSums ForwardGap(const row::Pair& at) {
    double totals[3] = {0, 0, 0};
    SumOverRow<3>(at.size, totals,
                  [&](auto d, std::int64_t i, auto& student, auto& teacher, auto& gap) HWY_ATTR {
                      const auto s = hn::LoadU(d, at.student + i);
                      const auto t = hn::LoadU(d, at.teacher + i);
                      const auto rate = hn::Set(d, at.rate);
                      const auto et = hn::Exp(d, hn::Mul(hn::Sub(t, hn::Set(d, at.teacher_top)), rate));
                      const auto es = hn::Exp(d, hn::Mul(hn::Sub(s, hn::Set(d, at.student_top)), rate));
                      const auto term = hn::Mul(et, hn::Mul(hn::Sub(t, s), rate));
                      gap = hn::Add(gap, hn::IfThenElseZero(hn::Gt(et, hn::Zero(d)), term));
                      student = hn::Add(student, es);
                      teacher = hn::Add(teacher, et);
                      hn::StoreU(es, d, at.student + i);
                      hn::StoreU(et, d, at.teacher + i);
                  });
    return {totals[0], totals[1], totals[2]};
}

row::PairSums ReverseGap(const row::Pair& at) {
    double totals[3] = {0, 0, 0};
    SumOverRow<3>(at.size, totals,
                  [&](auto d, std::int64_t i, auto& student, auto& teacher, auto& gap) HWY_ATTR {
                      const auto s = hn::LoadU(d, at.student + i);
                      const auto t = hn::LoadU(d, at.teacher + i);
                      const auto rate = hn::Set(d, at.rate);
                      const auto et = hn::Exp(d, hn::Mul(hn::Sub(t, hn::Set(d, at.teacher_top)), rate));
                      const auto es = hn::Exp(d, hn::Mul(hn::Sub(s, hn::Set(d, at.student_top)), rate));
                      const auto there = hn::Gt(es, hn::Zero(d));
                      const auto slope = hn::IfThenElseZero(there, hn::Mul(hn::Sub(s, t), rate));
                      gap = hn::Add(gap, hn::IfThenElseZero(there, hn::Mul(es, slope)));
                      student = hn::Add(student, es);
                      teacher = hn::Add(teacher, et);
                      hn::StoreU(es, d, at.student + i);
                      hn::StoreU(slope, d, at.teacher + i);
                  });
    return {totals[0], totals[1], totals[2]};
}

row::PairSums BothExponentials(const row::Pair& at) {
    double totals[2] = {0, 0};
    SumOverRow<2>(at.size, totals, [&](auto d, std::int64_t i, auto& student, auto& teacher, auto&) HWY_ATTR {
        const auto es = ExpAt(d, at.student, i, at.student_top, at.rate);
        const auto et = ExpAt(d, at.teacher, i, at.teacher_top, at.rate);
        student = hn::Add(student, es);
        teacher = hn::Add(teacher, et);
        hn::StoreU(es, d, at.student + i);
        hn::StoreU(et, d, at.teacher + i);
    });
    return {totals[0], totals[1], 0};
}

// term(d, p, q, m, value, slope) with m = of_p·p + (1 − of_p)·q.
template <class Term>
HWY_INLINE row::MixtureSums Mixture(const row::Pair& at, const row::PairSums& sums, float of_p,
                                    const Term& term) {
    double totals[2] = {0, 0};
    const auto p_scale = static_cast<float>(1 / sums.teacher);
    const auto q_scale = static_cast<float>(1 / sums.student);
    SumOverRow<2>(at.size, totals, [&](auto d, std::int64_t i, auto& value, auto& slope, auto&) HWY_ATTR {
        const auto p = hn::Mul(hn::LoadU(d, at.teacher + i), hn::Set(d, p_scale));
        const auto q = hn::Mul(hn::LoadU(d, at.student + i), hn::Set(d, q_scale));
        const auto m = hn::MulAdd(hn::Set(d, of_p), p, hn::Mul(hn::Set(d, 1.0F - of_p), q));
        auto one_value = hn::Zero(d);
        auto g = hn::Zero(d);
        term(d, p, q, m, one_value, g);
        value = hn::Add(value, one_value);
        slope = hn::MulAdd(q, g, slope);
        hn::StoreU(g, d, at.teacher + i);
    });
    return {totals[0], totals[1]};
}

// Probabilities below are 0: their share of m would be rounded away, and they add nothing.
constexpr float least_probability = 1e-36F;

row::MixtureSums JensenShannon(float beta, const row::Pair& at, const row::PairSums& sums) {
    return Mixture(at, sums, beta, [=](auto d, auto p, auto q, auto m, auto& value, auto& g) HWY_ATTR {
        const auto least = hn::Set(d, least_probability);
        const auto log_p = hn::IfThenElseZero(hn::Gt(p, least), hn::Log(d, hn::Div(p, m)));
        const auto log_q = hn::IfThenElseZero(hn::Gt(q, least), hn::Log(d, hn::Div(q, m)));
        g = hn::Mul(hn::Set(d, 1.0F - beta), log_q);
        value = hn::MulAdd(q, g, hn::Mul(hn::Mul(hn::Set(d, beta), p), log_p));
    });
}

row::MixtureSums SkewForward(float alpha, const row::Pair& at, const row::PairSums& sums) {
    return Mixture(at, sums, alpha, [=](auto d, auto p, auto, auto m, auto& value, auto& g) HWY_ATTR {
        const auto there = hn::Gt(p, hn::Set(d, least_probability));
        const auto ratio = hn::Div(p, m);
        value = hn::Mul(p, hn::IfThenElseZero(there, hn::Log(d, ratio)));
        g = hn::IfThenElseZero(there, hn::Mul(hn::Set(d, alpha - 1.0F), ratio));
    });
}

row::MixtureSums SkewReverse(float alpha, const row::Pair& at, const row::PairSums& sums) {
    return Mixture(at, sums, 1.0F - alpha, [=](auto d, auto, auto q, auto m, auto& value, auto& g) HWY_ATTR {
        const auto there = hn::Gt(q, hn::Set(d, least_probability));
        const auto ratio = hn::Div(q, m);
        const auto log_ratio = hn::Log(d, ratio);
        value = hn::IfThenElseZero(there, hn::Mul(q, log_ratio));
        g = hn::IfThenElseZero(there, hn::NegMulAdd(hn::Set(d, alpha), ratio, log_ratio));
    });
}

row::MixtureSums TotalVariation(float, const row::Pair& at, const row::PairSums& sums) {
    return Mixture(at, sums, 0.0F, [](auto d, auto p, auto q, auto, auto& value, auto& g) HWY_ATTR {
        const auto half = hn::Set(d, 0.5F);
        const auto gap = hn::Sub(q, p);
        value = hn::Mul(half, hn::Abs(gap));
        const auto rounding = hn::Mul(hn::Set(d, 0x1p-21F), q);
        g = hn::IfThenElseZero(hn::Gt(hn::Abs(gap), rounding), hn::CopySign(half, gap));
    });
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(Largest);
HWY_EXPORT(Find);
HWY_EXPORT(SumExponentials);
HWY_EXPORT(Exponentials);
HWY_EXPORT(EntropyExponentials);
HWY_EXPORT(Scale);
HWY_EXPORT(AddScaled);
HWY_EXPORT(ScaleSubtract);
HWY_EXPORT(MultiplySlope);
HWY_EXPORT(ForwardGap);
HWY_EXPORT(ReverseGap);
HWY_EXPORT(BothExponentials);
HWY_EXPORT(JensenShannon);
HWY_EXPORT(SkewForward);
HWY_EXPORT(SkewReverse);
HWY_EXPORT(TotalVariation);

namespace row {

float largest(const float* logits, std::int64_t size) {
    apply_isa_limit();
    return HWY_DYNAMIC_DISPATCH(Largest)(logits, size);
}
std::int64_t find(const float* logits, std::int64_t size, float value) {
    return HWY_DYNAMIC_DISPATCH(Find)(logits, size, value);
}
double sum_exponentials(const float* logits, std::int64_t size, float top, float rate) {
    return HWY_DYNAMIC_DISPATCH(SumExponentials)(logits, size, top, rate);
}
double exponentials(const float* logits, std::int64_t size, float top, float rate, float* to) {
    return HWY_DYNAMIC_DISPATCH(Exponentials)(logits, size, top, rate, to);
}
EntropySums entropy_exponentials(float* logits, std::int64_t size, float top, float rate) {
    return HWY_DYNAMIC_DISPATCH(EntropyExponentials)(logits, size, top, rate);
}
void scale(float* values, std::int64_t size, float factor) {
    HWY_DYNAMIC_DISPATCH(Scale)(values, size, factor);
}
void add_scaled(float* values, const float* other, std::int64_t size, float factor) {
    HWY_DYNAMIC_DISPATCH(AddScaled)(values, other, size, factor);
}
PairSums forward_gap(const Pair& pair) {
    return HWY_DYNAMIC_DISPATCH(ForwardGap)(pair);
}
PairSums reverse_gap(const Pair& pair) {
    return HWY_DYNAMIC_DISPATCH(ReverseGap)(pair);
}
PairSums both_exponentials(const Pair& pair) {
    return HWY_DYNAMIC_DISPATCH(BothExponentials)(pair);
}
MixtureSums mixture_terms(Divergence kind, float parameter, const Pair& pair, const PairSums& sums) {
    switch (kind) {
        case Divergence::jsd:
            return HWY_DYNAMIC_DISPATCH(JensenShannon)(parameter, pair, sums);
        case Divergence::skew_fkl:
            return HWY_DYNAMIC_DISPATCH(SkewForward)(parameter, pair, sums);
        case Divergence::skew_rkl:
            return HWY_DYNAMIC_DISPATCH(SkewReverse)(parameter, pair, sums);
        default:
            return HWY_DYNAMIC_DISPATCH(TotalVariation)(parameter, pair, sums);
    }
}
void scale_subtract(float* student, const float* teacher, std::int64_t size, float a, float b) {
    HWY_DYNAMIC_DISPATCH(ScaleSubtract)(student, teacher, size, a, b);
}
void multiply_slope(float* student, const float* teacher, std::int64_t size, float a, float b) {
    HWY_DYNAMIC_DISPATCH(MultiplySlope)(student, teacher, size, a, b);
}

PlainSoftmax plain_softmax(const float* student, std::int64_t vocab, float top, bool with_gradient) {
    if (!with_gradient) return {sum_exponentials(student, vocab, top, 1.0F), nullptr};
    thread_local std::vector<float> plain;
    plain.resize(static_cast<std::size_t>(vocab));
    return {exponentials(student, vocab, top, 1.0F, plain.data()), plain.data()};
}

TokenLoss not_a_number(float* student, std::int64_t vocab) {
    std::fill_n(student, vocab, std::numeric_limits<float>::quiet_NaN());
    TokenLoss loss;
    loss.ce = std::numeric_limits<double>::quiet_NaN();
    loss.divergence = loss.ce;
    return loss;
}

}  // namespace row
}  // namespace retort::tensor
#endif  // HWY_ONCE
