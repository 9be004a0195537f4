#include "tensor/linear_plain.h"

#include <cassert>

#include "tensor/quantised.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/linear_plain.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;
constexpr int lanes = HWY_MIN(HWY_LANES(float), 16);

// How `lanes` elements at `from` become f32, and one.
struct FromF32 {
    using T = float;
    static HWY_INLINE V load(const T* from) { return hn::LoadU(F(), from); }
    static HWY_INLINE float one(const T* from) { return *from; }
};
struct FromF16 {
    using T = std::uint16_t;
    static HWY_INLINE V load(const T* from) {
        const hn::Rebind<hwy::float16_t, F> d16;
        return hn::PromoteTo(F(), hn::BitCast(d16, hn::LoadU(hn::RebindToUnsigned<decltype(d16)>(), from)));
    }
    static HWY_INLINE float one(const T* from) { return f16_to_f32(*from); }
};
struct FromBf16 {
    using T = std::uint16_t;
    static HWY_INLINE V load(const T* from) {
        const hn::Rebind<std::uint16_t, F> d16;
        return hn::BitCast(F(),
                           hn::ShiftLeft<16>(hn::PromoteTo(hn::RebindToUnsigned<F>(), hn::LoadU(d16, from))));
    }
    static HWY_INLINE float one(const T* from) { return bf16_to_f32(*from); }
};

// kRows rows times kTokens tokens. Each sum runs along the row in one vector, whatever the tile, so a result
// does not depend on its neighbours.
template <class Format, int kRows, int kTokens>
HWY_INLINE void Tile(const typename Format::T* w, std::int64_t cols, const float* x, std::int64_t x_stride,
                     float* out, std::int64_t out_stride) {
    const F d;
    V sum[kRows][kTokens];
    for (int r = 0; r < kRows; ++r) {
        for (int t = 0; t < kTokens; ++t) sum[r][t] = hn::Zero(d);
    }
    std::int64_t c = 0;
    for (; c + lanes <= cols; c += lanes) {
        V x_vector[kTokens];
        for (int t = 0; t < kTokens; ++t) x_vector[t] = hn::LoadU(d, x + t * x_stride + c);
        for (int r = 0; r < kRows; ++r) {
            const V w_vector = Format::load(w + r * cols + c);
            for (int t = 0; t < kTokens; ++t) sum[r][t] = hn::MulAdd(w_vector, x_vector[t], sum[r][t]);
        }
    }
    for (int t = 0; t < kTokens; ++t) {
        for (int r = 0; r < kRows; ++r) {
            float total = hn::GetLane(hn::SumOfLanes(d, sum[r][t]));
            for (std::int64_t i = c; i < cols; ++i)
                total += Format::one(w + r * cols + i) * x[t * x_stride + i];
            out[t * out_stride + r] = total;
        }
    }
}

template <class Format, int kRows>
HWY_INLINE void Rows(const typename Format::T* w, std::int64_t cols, const float* x, std::int64_t x_stride,
                     std::int64_t tokens, float* out, std::int64_t out_stride) {
    std::int64_t t = 0;
    for (; t + 3 <= tokens; t += 3) {
        Tile<Format, kRows, 3>(w, cols, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
    }
    for (; t < tokens; ++t) {
        Tile<Format, kRows, 1>(w, cols, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
    }
}

template <class Format>
void Products(const MatrixView& weight, std::int64_t begin, std::int64_t end, const float* x,
              std::int64_t x_stride, std::int64_t tokens, float* out, std::int64_t out_stride) {
    const auto* w = reinterpret_cast<const typename Format::T*>(weight.data) + begin * weight.cols;
    const std::int64_t rows = end - begin;
    std::int64_t row = 0;
    for (; row + 4 <= rows; row += 4) {
        Rows<Format, 4>(w + row * weight.cols, weight.cols, x, x_stride, tokens, out + row, out_stride);
    }
    for (; row < rows; ++row) {
        Rows<Format, 1>(w + row * weight.cols, weight.cols, x, x_stride, tokens, out + row, out_stride);
    }
}

void PlainProducts(const MatrixView& weight, std::int64_t begin, std::int64_t end, const float* x,
                   std::int64_t x_stride, std::int64_t tokens, float* out, std::int64_t out_stride) {
    switch (weight.dtype) {
        case DType::f32:
            return Products<FromF32>(weight, begin, end, x, x_stride, tokens, out, out_stride);
        case DType::f16:
            return Products<FromF16>(weight, begin, end, x, x_stride, tokens, out, out_stride);
        case DType::bf16:
            return Products<FromBf16>(weight, begin, end, x, x_stride, tokens, out, out_stride);
        default:
            assert(false && "quantised formats are packed first");
    }
}

template <class Format>
void Widen(const MatrixView& weight, std::int64_t begin, std::int64_t end, float* panel) {
    const auto* from = reinterpret_cast<const typename Format::T*>(weight.row(begin));
    const std::int64_t count = (end - begin) * weight.cols;
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) hn::StoreU(Format::load(from + i), F(), panel + i);
    for (; i < count; ++i) panel[i] = Format::one(from + i);
}

void WidenRows(const MatrixView& weight, std::int64_t begin, std::int64_t end, float* panel) {
    if (weight.dtype == DType::f16) return Widen<FromF16>(weight, begin, end, panel);
    if (weight.dtype == DType::bf16) return Widen<FromBf16>(weight, begin, end, panel);
    Widen<FromF32>(weight, begin, end, panel);
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(PlainProducts);
HWY_EXPORT(WidenRows);

void plain_products(const MatrixView& weight, std::int64_t begin, std::int64_t end, const float* x,
                    std::int64_t x_stride, std::int64_t tokens, float* out, std::int64_t out_stride) {
    HWY_DYNAMIC_DISPATCH(PlainProducts)(weight, begin, end, x, x_stride, tokens, out, out_stride);
}

void widen_rows(const MatrixView& weight, std::int64_t begin, std::int64_t end, float* panel) {
    HWY_DYNAMIC_DISPATCH(WidenRows)(weight, begin, end, panel);
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
