#include "tensor/activation.h"

#include <cmath>

#include "base/parallel.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/activation.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D, class V = hn::Vec<D>>
HWY_INLINE V sigmoid(D d, V x) {
    const auto one = hn::Set(d, 1.0F);
    return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Neg(x))));
}

template <class D>
HWY_INLINE void SwigluStep(D d, const float* gate, const float* up, float* h, std::int64_t i) {
    const auto g = hn::LoadU(d, gate + i);
    hn::StoreU(hn::Mul(hn::Mul(g, sigmoid(d, g)), hn::LoadU(d, up + i)), d, h + i);
}

template <class D>
HWY_INLINE void SwigluBackwardStep(D d, const float* gate, const float* up, const float* dh, float* d_gate,
                                   float* d_up, float* h, std::int64_t i) {
    const auto g = hn::LoadU(d, gate + i);
    const auto u = hn::LoadU(d, up + i);
    const auto dh_i = hn::LoadU(d, dh + i);
    const auto s = sigmoid(d, g);
    const auto silu = hn::Mul(g, s);
    hn::StoreU(hn::Mul(silu, u), d, h + i);
    hn::StoreU(hn::Mul(dh_i, silu), d, d_up + i);
    // d silu/dg = σ·(1 + g·(1 − σ)) = σ + silu·(1 − σ)
    const auto slope = hn::MulAdd(silu, hn::Sub(hn::Set(d, 1.0F), s), s);
    hn::StoreU(hn::Mul(hn::Mul(dh_i, u), slope), d, d_gate + i);
}

void SwigluRow(const float* gate, const float* up, std::int64_t size, float* h) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    std::int64_t i = 0;
    for (; i + lanes <= size; i += lanes) SwigluStep(d, gate, up, h, i);
    for (; i < size; ++i) SwigluStep(hn::CappedTag<float, 1>(), gate, up, h, i);
}

void SwigluBackwardRow(const float* gate, const float* up, const float* dh, std::int64_t size, float* d_gate,
                       float* d_up, float* h) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    std::int64_t i = 0;
    for (; i + lanes <= size; i += lanes) SwigluBackwardStep(d, gate, up, dh, d_gate, d_up, h, i);
    for (; i < size; ++i) SwigluBackwardStep(hn::CappedTag<float, 1>(), gate, up, dh, d_gate, d_up, h, i);
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(SwigluRow);
HWY_EXPORT(SwigluBackwardRow);

void swiglu(const float* gate_up, std::int64_t rows, std::int64_t size, float* h) {
    base::parallel_ranges(rows, 8, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const float* gate = gate_up + r * 2 * size;
            HWY_DYNAMIC_DISPATCH(SwigluRow)(gate, gate + size, size, h + r * size);
        }
    });
}

void swiglu_backward(const float* gate_up, const float* dh, std::int64_t rows, std::int64_t size,
                     float* d_gate_up, float* h) {
    base::parallel_ranges(rows, 8, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const float* gate = gate_up + r * 2 * size;
            float* d_gate = d_gate_up + r * 2 * size;
            HWY_DYNAMIC_DISPATCH(SwigluBackwardRow)
            (gate, gate + size, dh + r * size, size, d_gate, d_gate + size, h + r * size);
        }
    });
}

void swiglu_reference(const float* gate_up, std::int64_t rows, std::int64_t size, float* h) {
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < size; ++i) {
            const double g = gate_up[r * 2 * size + i];
            h[r * size + i] = static_cast<float>(g / (1.0 + std::exp(-g)) * gate_up[r * 2 * size + size + i]);
        }
    }
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
