#include "tensor/linear_kernels.h"

#include <bit>
#include <cstring>
#include <vector>

#include "tensor/quantised.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/linear_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using I = hn::Rebind<std::int32_t, F>;
using U8 = hn::Rebind<std::uint8_t, F>;
using I8 = hn::Rebind<std::int8_t, F>;
using V = hn::Vec<F>;

constexpr int lanes = HWY_MIN(HWY_LANES(float), 16);
constexpr int block_vectors = 32 / lanes;

HWY_INLINE float half(const std::uint8_t* from) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from, sizeof bits);
    const std::uint32_t rest = bits & 0x7fffU;
    if (HWY_UNLIKELY(rest < 0x0400U || rest >= 0x7c00U)) return f16_to_f32(bits);
    return std::bit_cast<float>(((bits & 0x8000U) << 16U) | ((rest << 13U) + 0x38000000U));
}

// Blocks of 32 codes that stand for scale·code + minimum. codes() gives them as f32, lane by lane in order.
struct Q8_0 {
    static constexpr int bytes = 34;
    static constexpr bool has_minimum = false;
    static HWY_INLINE float scale(const std::uint8_t* block) { return half(block); }
    static HWY_INLINE float minimum(const std::uint8_t*) { return 0.0F; }
    static HWY_INLINE void codes(const std::uint8_t* block, V* q) {
        for (int v = 0; v < block_vectors; ++v) {
            const auto raw = hn::LoadU(I8(), reinterpret_cast<const std::int8_t*>(block + 2 + v * lanes));
            q[v] = hn::ConvertTo(F(), hn::PromoteTo(I(), raw));
        }
    }
};

HWY_INLINE void nibble_codes(const std::uint8_t* packed, V* q) {
    const I d;
    for (int v = 0; v < block_vectors / 2; ++v) {
        const auto pair = hn::PromoteTo(d, hn::LoadU(U8(), packed + v * lanes));
        q[v] = hn::ConvertTo(F(), hn::And(pair, hn::Set(d, 15)));
        q[v + block_vectors / 2] = hn::ConvertTo(F(), hn::ShiftRight<4>(pair));
    }
}

struct Q4_0 {
    static constexpr int bytes = 18;
    static constexpr bool has_minimum = true;
    static HWY_INLINE float scale(const std::uint8_t* block) { return half(block); }
    static HWY_INLINE float minimum(const std::uint8_t* block) { return -8.0F * half(block); }
    static HWY_INLINE void codes(const std::uint8_t* block, V* q) { nibble_codes(block + 2, q); }
};

struct Q4_1 {
    static constexpr int bytes = 20;
    static constexpr bool has_minimum = true;
    static HWY_INLINE float scale(const std::uint8_t* block) { return half(block); }
    static HWY_INLINE float minimum(const std::uint8_t* block) { return half(block + 2); }
    static HWY_INLINE void codes(const std::uint8_t* block, V* q) { nibble_codes(block + 4, q); }
};

// One tile: kRows rows times kTokens tokens. Each sum runs over the blocks in order in one vector, whatever
// the tile, so a token's result does not depend on its neighbours.
template <class Format, int kRows, int kTokens>
HWY_INLINE void BlockTile(const std::uint8_t* w, std::int64_t row_bytes, std::int64_t blocks, const float* x,
                          std::int64_t x_stride, const float* block_sums, float* y, std::int64_t y_stride) {
    const F d;
    V sum[kRows][kTokens];
    for (int r = 0; r < kRows; ++r) {
        for (int t = 0; t < kTokens; ++t) sum[r][t] = hn::Zero(d);
    }
    for (std::int64_t b = 0; b < blocks; ++b) {
        const float* x_block = x + b * 32;
        for (int r = 0; r < kRows; ++r) {
            const std::uint8_t* block = w + r * row_bytes + b * Format::bytes;
            V q[block_vectors];
            Format::codes(block, q);
            const V scale = hn::Set(d, Format::scale(block));
            const V minimum = hn::Set(d, Format::minimum(block));
            for (int t = 0; t < kTokens; ++t) {
                const float* x_token = x_block + t * x_stride;
                V dot = hn::Mul(q[0], hn::LoadU(d, x_token));
                for (int v = 1; v < block_vectors; ++v)
                    dot = hn::MulAdd(q[v], hn::LoadU(d, x_token + v * lanes), dot);
                sum[r][t] = hn::MulAdd(scale, dot, sum[r][t]);
                if constexpr (Format::has_minimum) {
                    const V x_sum = hn::LoadU(d, block_sums + (t * blocks + b) * lanes);
                    sum[r][t] = hn::MulAdd(minimum, x_sum, sum[r][t]);
                }
            }
        }
    }
    for (int t = 0; t < kTokens; ++t) {
        for (int r = 0; r < kRows; ++r) y[t * y_stride + r] = hn::GetLane(hn::SumOfLanes(d, sum[r][t]));
    }
}

// Per token and block, x's four quarters (or as many as there are vectors) added lane by lane.
void BlockSums(const float* x, std::int64_t x_stride, std::int64_t tokens, std::int64_t blocks, float* sums) {
    const F d;
    for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t b = 0; b < blocks; ++b) {
            const float* from = x + t * x_stride + b * 32;
            V sum = hn::LoadU(d, from);
            for (int v = 1; v < block_vectors; ++v) sum = hn::Add(sum, hn::LoadU(d, from + v * lanes));
            hn::StoreU(sum, d, sums + (t * blocks + b) * lanes);
        }
    }
}

template <class Format, int kRows>
HWY_INLINE void BlockRows(const std::uint8_t* w, std::int64_t row_bytes, std::int64_t blocks, const float* x,
                          std::int64_t x_stride, std::int64_t tokens, const float* sums, float* y,
                          std::int64_t y_stride) {
    std::int64_t t = 0;
    for (; t + 4 <= tokens; t += 4) {
        BlockTile<Format, kRows == 4 ? 2 : 1, 4>(w, row_bytes, blocks, x + t * x_stride, x_stride,
                                                 sums + t * blocks * lanes, y + t * y_stride, y_stride);
        if constexpr (kRows == 4) {
            BlockTile<Format, 2, 4>(w + 2 * row_bytes, row_bytes, blocks, x + t * x_stride, x_stride,
                                    sums + t * blocks * lanes, y + t * y_stride + 2, y_stride);
        }
    }
    for (; t < tokens; ++t) {
        BlockTile<Format, kRows, 1>(w, row_bytes, blocks, x + t * x_stride, x_stride,
                                    sums + t * blocks * lanes, y + t * y_stride, y_stride);
    }
}

template <class Format>
void BlockLinear(const MatrixView& weight, std::int64_t begin, std::int64_t end, const float* x,
                 std::int64_t x_stride, std::int64_t tokens, float* y, std::int64_t y_stride) {
    const std::int64_t blocks = weight.cols / 32;
    const std::int64_t row_bytes = blocks * Format::bytes;
    thread_local std::vector<float> sums;
    if constexpr (Format::has_minimum) {
        sums.resize(static_cast<std::size_t>(tokens * blocks * lanes));
        BlockSums(x, x_stride, tokens, blocks, sums.data());
    }
    const auto* w = reinterpret_cast<const std::uint8_t*>(weight.data);
    std::int64_t row = begin;
    for (; row + 4 <= end; row += 4) {
        BlockRows<Format, 4>(w + row * row_bytes, row_bytes, blocks, x, x_stride, tokens, sums.data(),
                             y + row, y_stride);
    }
    for (; row < end; ++row) {
        BlockRows<Format, 1>(w + row * row_bytes, row_bytes, blocks, x, x_stride, tokens, sums.data(),
                             y + row, y_stride);
    }
}

// Plain formats: how `lanes` elements at `from` become f32.
struct PlainF32 {
    using T = float;
    static HWY_INLINE V load(const T* from) { return hn::LoadU(F(), from); }
    static HWY_INLINE float one(const T* from) { return *from; }
};
struct PlainF16 {
    using T = std::uint16_t;
    static HWY_INLINE V load(const T* from) {
        const hn::Rebind<hwy::float16_t, F> d16;
        return hn::PromoteTo(F(), hn::BitCast(d16, hn::LoadU(hn::RebindToUnsigned<decltype(d16)>(), from)));
    }
    static HWY_INLINE float one(const T* from) { return f16_to_f32(*from); }
};
struct PlainBf16 {
    using T = std::uint16_t;
    static HWY_INLINE V load(const T* from) {
        const hn::Rebind<std::uint16_t, F> d16;
        return hn::BitCast(F(),
                           hn::ShiftLeft<16>(hn::PromoteTo(hn::RebindToUnsigned<F>(), hn::LoadU(d16, from))));
    }
    static HWY_INLINE float one(const T* from) { return bf16_to_f32(*from); }
};

template <class Format, int kRows, int kTokens>
HWY_INLINE void PlainTile(const typename Format::T* w, std::int64_t w_stride, std::int64_t cols,
                          const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride) {
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
            const V w_vector = Format::load(w + r * w_stride + c);
            for (int t = 0; t < kTokens; ++t) sum[r][t] = hn::MulAdd(w_vector, x_vector[t], sum[r][t]);
        }
    }
    for (int t = 0; t < kTokens; ++t) {
        for (int r = 0; r < kRows; ++r) {
            float total = hn::GetLane(hn::SumOfLanes(d, sum[r][t]));
            for (std::int64_t i = c; i < cols; ++i)
                total += Format::one(w + r * w_stride + i) * x[t * x_stride + i];
            y[t * y_stride + r] = total;
        }
    }
}

template <class Format, int kRows>
HWY_INLINE void PlainRows(const typename Format::T* w, std::int64_t cols, const float* x,
                          std::int64_t x_stride, std::int64_t tokens, float* y, std::int64_t y_stride) {
    std::int64_t t = 0;
    for (; t + 3 <= tokens; t += 3) {
        PlainTile<Format, kRows, 3>(w, cols, cols, x + t * x_stride, x_stride, y + t * y_stride, y_stride);
    }
    for (; t < tokens; ++t) {
        PlainTile<Format, kRows, 1>(w, cols, cols, x + t * x_stride, x_stride, y + t * y_stride, y_stride);
    }
}

template <class Format>
void PlainLinear(const MatrixView& weight, std::int64_t begin, std::int64_t end, const float* x,
                 std::int64_t x_stride, std::int64_t tokens, float* y, std::int64_t y_stride) {
    const auto* w = reinterpret_cast<const typename Format::T*>(weight.data);
    std::int64_t row = begin;
    for (; row + 4 <= end; row += 4) {
        PlainRows<Format, 4>(w + row * weight.cols, weight.cols, x, x_stride, tokens, y + row, y_stride);
    }
    for (; row < end; ++row) {
        PlainRows<Format, 1>(w + row * weight.cols, weight.cols, x, x_stride, tokens, y + row, y_stride);
    }
}

template <class Format>
void DequantiseBlocks(const MatrixView& weight, std::int64_t begin, std::int64_t end, float* panel) {
    const F d;
    const auto* block = reinterpret_cast<const std::uint8_t*>(weight.row(begin));
    for (std::int64_t b = 0; b < (end - begin) * weight.cols / 32; ++b, block += Format::bytes, panel += 32) {
        V q[block_vectors];
        Format::codes(block, q);
        const V scale = hn::Set(d, Format::scale(block));
        const V minimum = hn::Set(d, Format::minimum(block));
        for (int v = 0; v < block_vectors; ++v) {
            if constexpr (Format::has_minimum) {
                // Two roundings, as in dequantise(): the same bits.
                hn::StoreU(hn::Add(hn::Mul(q[v], scale), minimum), d, panel + v * lanes);
            } else {
                hn::StoreU(hn::Mul(q[v], scale), d, panel + v * lanes);
            }
        }
    }
}

template <class Format>
void DequantisePlain(const MatrixView& weight, std::int64_t begin, std::int64_t end, float* panel) {
    const auto* from = reinterpret_cast<const typename Format::T*>(weight.row(begin));
    const std::int64_t count = (end - begin) * weight.cols;
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) hn::StoreU(Format::load(from + i), F(), panel + i);
    for (; i < count; ++i) panel[i] = Format::one(from + i);
}

void DequantiseRows(const MatrixView& weight, std::int64_t begin, std::int64_t end, float* panel) {
    switch (weight.dtype) {
        case DType::f32:
            return DequantisePlain<PlainF32>(weight, begin, end, panel);
        case DType::f16:
            return DequantisePlain<PlainF16>(weight, begin, end, panel);
        case DType::bf16:
            return DequantisePlain<PlainBf16>(weight, begin, end, panel);
        case DType::q8_0:
            return DequantiseBlocks<Q8_0>(weight, begin, end, panel);
        case DType::q4_0:
            return DequantiseBlocks<Q4_0>(weight, begin, end, panel);
        case DType::q4_1:
            return DequantiseBlocks<Q4_1>(weight, begin, end, panel);
        default:
            return dequantise(weight.dtype, weight.row(begin), panel, (end - begin) * weight.cols);
    }
}

// Any format: a few rows at a time as f32 in the first-level cache.
void PanelLinear(const MatrixView& weight, std::int64_t begin, std::int64_t end, const float* x,
                 std::int64_t x_stride, std::int64_t tokens, float* y, std::int64_t y_stride) {
    thread_local std::vector<float> panel;
    panel.resize(static_cast<std::size_t>(4 * weight.cols));
    for (std::int64_t row = begin; row < end; row += 4) {
        const std::int64_t rows = end - row < 4 ? end - row : 4;
        DequantiseRows(weight, row, row + rows, panel.data());
        const MatrixView unpacked{DType::f32, rows, weight.cols,
                                  reinterpret_cast<const std::byte*>(panel.data())};
        PlainLinear<PlainF32>(unpacked, 0, rows, x, x_stride, tokens, y + row, y_stride);
    }
}

void LinearRows(const MatrixView& weight, std::int64_t begin, std::int64_t end, const float* x,
                std::int64_t x_stride, std::int64_t tokens, float* y, std::int64_t y_stride) {
    switch (weight.dtype) {
        case DType::f32:
            return PlainLinear<PlainF32>(weight, begin, end, x, x_stride, tokens, y, y_stride);
        case DType::f16:
            return PlainLinear<PlainF16>(weight, begin, end, x, x_stride, tokens, y, y_stride);
        case DType::bf16:
            return PlainLinear<PlainBf16>(weight, begin, end, x, x_stride, tokens, y, y_stride);
        case DType::q8_0:
            return BlockLinear<Q8_0>(weight, begin, end, x, x_stride, tokens, y, y_stride);
        case DType::q4_0:
            return BlockLinear<Q4_0>(weight, begin, end, x, x_stride, tokens, y, y_stride);
        case DType::q4_1:
            return BlockLinear<Q4_1>(weight, begin, end, x, x_stride, tokens, y, y_stride);
        default:
            return PanelLinear(weight, begin, end, x, x_stride, tokens, y, y_stride);
    }
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(LinearRows);
HWY_EXPORT(DequantiseRows);

void linear_rows(const MatrixView& weight, std::int64_t begin, std::int64_t end, const float* x,
                 std::int64_t x_stride, std::int64_t tokens, float* y, std::int64_t y_stride) {
    HWY_DYNAMIC_DISPATCH(LinearRows)(weight, begin, end, x, x_stride, tokens, y, y_stride);
}

void dequantise_rows(const MatrixView& weight, std::int64_t begin, std::int64_t end, float* panel) {
    HWY_DYNAMIC_DISPATCH(DequantiseRows)(weight, begin, end, panel);
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
