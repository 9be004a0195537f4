#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tensor/dispatch.h"
#include "tensor/linear_packed.h"
#include "tensor/linear_vnni.h"
#include "tensor/quantised.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/linear_packed_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using I32 = hn::ScalableTag<std::int32_t>;
using I16 = hn::ScalableTag<std::int16_t>;
using U16 = hn::ScalableTag<std::uint16_t>;
using VF = hn::Vec<F>;
using VI32 = hn::Vec<I32>;
using VI16 = hn::Vec<I16>;

constexpr int lanes = HWY_MIN(HWY_LANES(float), 16);
constexpr int parts = static_cast<int>(packed_rows) / lanes;  // vectors that 16 rows take

#if HWY_TARGET == HWY_SCALAR

// One lane holds no pairs of 16-bit numbers: plain loops instead, over rows taken out again.
void PackedProducts(const PackedMatrix& matrix, std::int64_t first, std::int64_t last,
                    const PackedActivations& x, float* out, std::int64_t out_stride) {
    std::vector<float> row(static_cast<std::size_t>(matrix.cols));
    for (std::int64_t r = first * packed_rows; r < last * packed_rows; ++r) {
        if (r >= matrix.rows) continue;
        unpack_row(matrix, r, row.data());
        for (std::int64_t t = 0; t < x.tokens; ++t) {
            double total = 0;
            for (std::int64_t c = 0; c < matrix.cols; ++c) {
                const auto code = x.codes[static_cast<std::size_t>(t * x.cols + code_index(c))];
                total += static_cast<double>(row[static_cast<std::size_t>(c)]) * code *
                         static_cast<double>(x.scales[static_cast<std::size_t>((t * x.cols + c) / 32)]);
            }
            out[t * out_stride + r - first * packed_rows] = static_cast<float>(total);
        }
    }
}

#else

using U8 = hn::ScalableTag<std::uint8_t>;
using VU16 = hn::Vec<U16>;

// Quad `q` of a run for the rows of `part`: bytes, seen as 16 bits.
template <PackedFormat kFormat>
HWY_INLINE VU16 LoadQuad(const std::uint8_t* run, int q, int part) {
    const U16 d;
    const auto line = [&](int index) {
        return hn::BitCast(d, hn::LoadU(U8(), run + index * 64 + part * 4 * lanes));
    };
    if constexpr (kFormat.low_bits == 8) return line(q);
    const VU16 raw = line(q / 2);
    const VU16 low = hn::And(q % 2 == 0 ? raw : hn::ShiftRight<4>(raw), hn::Set(d, 0x0f0f));
    if constexpr (kFormat.high_bits == 1) {
        const VU16 bit = hn::And(hn::ShiftRightSame(line(4), q), hn::Set(d, 0x0101));
        return hn::Or(low, hn::ShiftLeft<4>(bit));
    } else if constexpr (kFormat.high_bits == 2) {
        const VU16 bits = hn::And(hn::ShiftRightSame(line(4 + q / 4), 2 * (q % 4)), hn::Set(d, 0x0303));
        return hn::Or(low, hn::ShiftLeft<4>(bits));
    }
    return low;
}

HWY_INLINE VF LoadHalf(const std::uint8_t* from, int part) {
    const F d;
    const hn::Rebind<hwy::float16_t, F> d16;
    const hn::RebindToUnsigned<decltype(d16)> du16;
    return hn::PromoteTo(
        d, hn::BitCast(d16, hn::LoadU(du16, reinterpret_cast<const std::uint16_t*>(from) + part * lanes)));
}

HWY_INLINE VI32 LoadBytes(const std::uint8_t* from, int part) {
    const hn::Rebind<std::uint8_t, I32> d8;
    return hn::PromoteTo(I32(), hn::LoadU(d8, from + part * lanes));
}

// Scale and minimum of block `b` of run `r` of a unit.
template <PackedFormat kFormat>
HWY_INLINE void LoadScales(const std::uint8_t* unit, std::int64_t r, int b, int part, VF& scale,
                           VF& minimum) {
    const F d;
    const I32 d32;
    const std::uint8_t* scales = unit + kFormat.scales_begin();
    if constexpr (kFormat.scales == ScaleKind::half) {
        scale = LoadHalf(scales, part);
        if constexpr (kFormat.has_minimum) minimum = LoadHalf(scales + 32, part);
    } else if constexpr (kFormat.scales == ScaleKind::six) {
        const std::uint8_t* pair = scales + r / 2 * 48;
        const VI32 low = LoadBytes(pair + 16 * (r % 2), part);
        const VI32 high = hn::ShiftRightSame(LoadBytes(pair + 32, part), static_cast<int>(4 * (r % 2)));
        const VI32 s =
            hn::Or(hn::And(low, hn::Set(d32, 15)), hn::ShiftLeft<4>(hn::And(high, hn::Set(d32, 3))));
        const VI32 m = hn::Or(hn::ShiftRight<4>(low), hn::ShiftLeft<2>(hn::And(high, hn::Set(d32, 12))));
        scale = hn::Mul(LoadHalf(unit, part), hn::ConvertTo(d, s));
        minimum = hn::Neg(hn::Mul(LoadHalf(unit + 32, part), hn::ConvertTo(d, m)));
    } else if constexpr (kFormat.scales == ScaleKind::eight) {
        const hn::Rebind<std::int8_t, I32> d8;
        const VI32 s = hn::PromoteTo(d32, hn::LoadU(d8, reinterpret_cast<const std::int8_t*>(scales) +
                                                            r * 32 + b * packed_rows + part * lanes));
        scale = hn::Mul(LoadHalf(unit, part), hn::ConvertTo(d, s));
    } else {
        const auto* wide = reinterpret_cast<const float*>(scales) + b * packed_rows + part * lanes;
        scale = hn::LoadU(d, wide);
        if constexpr (kFormat.has_minimum) minimum = hn::LoadU(d, wide + kFormat.blocks() * packed_rows);
    }
}

HWY_INLINE std::int32_t load_pair(const std::int16_t* from) {
    std::int32_t pair = 0;
    std::memcpy(&pair, from, sizeof pair);
    return pair;
}

// One group of 16 rows times kTokens tokens from `token` on. Whole numbers are added exactly, and each
// block's sum joins the row's in order, so tiles of any size give the same bits.
template <PackedFormat kFormat, int kTokens>
HWY_INLINE void Tile(const std::uint8_t* unit, const PackedActivations& x, std::int64_t token, float* out,
                     std::int64_t out_stride) {
    const F d;
    const I32 d32;
    const I16 d16;
    constexpr int blocks = kFormat.blocks();
    constexpr int quads = 8 / blocks;
    const std::int64_t runs = x.cols / 32;
    const std::int64_t block_stride = x.cols / kFormat.block;
    const std::int16_t* codes = x.codes.data() + token * x.cols;
    const float* x_scale = x.scales.data() + token * runs;
    const float* x_value = (blocks == 1 ? x.values32 : x.values16).data() + token * block_stride;
    const std::int32_t* x_sum = (blocks == 1 ? x.sums32 : x.sums16).data() + token * block_stride;

    VF total[parts][kTokens];
    for (int p = 0; p < parts; ++p) {
        for (int t = 0; t < kTokens; ++t) total[p][t] = hn::Zero(d);
    }
    for (std::int64_t r = 0; r < runs; ++r) {
        const std::int64_t within = r % kFormat.unit_runs();
        const std::uint8_t* run = unit + kFormat.factor_bytes() + within * kFormat.code_bytes();
        for (int b = 0; b < blocks; ++b) {
            VI32 sum[parts][kTokens];
            for (int t = 0; t < kTokens; ++t) {
                const VI32 start =
                    kFormat.excess != 0
                        ? hn::Set(d32, -kFormat.excess * x_sum[t * block_stride + r * blocks + b])
                        : hn::Zero(d32);
                for (int p = 0; p < parts; ++p) sum[p][t] = start;
            }
            for (int q = b * quads; q < (b + 1) * quads; ++q) {
                VI16 even[parts];
                VI16 odd[parts];
                for (int p = 0; p < parts; ++p) {
                    const VU16 quad = LoadQuad<kFormat>(run, q, p);
                    even[p] = hn::BitCast(d16, hn::And(quad, hn::Set(U16(), 255)));
                    odd[p] = hn::BitCast(d16, hn::ShiftRight<8>(quad));
                }
                for (int t = 0; t < kTokens; ++t) {
                    const std::int16_t* from = codes + t * x.cols + r * 32 + q * 4;
                    const VI16 x_even = hn::BitCast(d16, hn::Set(d32, load_pair(from)));
                    const VI16 x_odd = hn::BitCast(d16, hn::Set(d32, load_pair(from + 2)));
                    for (int p = 0; p < parts; ++p) {
                        VI32 unused = hn::Zero(d32);
                        sum[p][t] = hn::ReorderWidenMulAccumulate(d32, even[p], x_even, sum[p][t], unused);
                        sum[p][t] = hn::ReorderWidenMulAccumulate(d32, odd[p], x_odd, sum[p][t], unused);
                    }
                }
            }
            for (int p = 0; p < parts; ++p) {
                VF scale;
                VF minimum;
                LoadScales<kFormat>(unit, within, b, p, scale, minimum);
                for (int t = 0; t < kTokens; ++t) {
                    const VF both = hn::Mul(scale, hn::Set(d, x_scale[t * runs + r]));
                    total[p][t] = hn::MulAdd(both, hn::ConvertTo(d, sum[p][t]), total[p][t]);
                }
                if constexpr (kFormat.has_minimum) {
                    for (int t = 0; t < kTokens; ++t) {
                        const VF value = hn::Set(d, x_value[t * block_stride + r * blocks + b]);
                        total[p][t] = hn::MulAdd(minimum, value, total[p][t]);
                    }
                }
            }
        }
        if (within + 1 == kFormat.unit_runs()) unit += kFormat.unit_bytes();
    }
    for (int t = 0; t < kTokens; ++t) {
        for (int p = 0; p < parts; ++p) hn::StoreU(total[p][t], d, out + t * out_stride + p * lanes);
    }
}

template <PackedFormat kFormat>
void Products(const PackedMatrix& matrix, std::int64_t first, std::int64_t last, const PackedActivations& x,
              float* out, std::int64_t out_stride) {
    for (std::int64_t group = first; group < last; ++group, out += packed_rows) {
        const std::uint8_t* data = matrix.data.data() + group * matrix.group_bytes();
        std::int64_t t = 0;
        for (; t + 4 <= x.tokens; t += 4) Tile<kFormat, 4>(data, x, t, out + t * out_stride, out_stride);
        if (t + 2 <= x.tokens) {
            Tile<kFormat, 2>(data, x, t, out + t * out_stride, out_stride);
            t += 2;
        }
        if (t < x.tokens) Tile<kFormat, 1>(data, x, t, out + t * out_stride, out_stride);
    }
}

void PackedProducts(const PackedMatrix& matrix, std::int64_t first, std::int64_t last,
                    const PackedActivations& x, float* out, std::int64_t out_stride) {
    with_packed_format(matrix.format, [&]<PackedFormat kFormat>() {
        Products<kFormat>(matrix, first, last, x, out, out_stride);
    });
}

#endif  // HWY_SCALAR

void PackActivations(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t last,
                     PackedActivations& to) {
    const F d;
    const I32 d32;
    const hn::Rebind<std::int8_t, I32> d8;
    const std::int64_t runs = to.cols / 32;
    for (std::int64_t i = first * runs; i < last * runs; ++i) {
        const float* from = x + i / runs * x_stride + i % runs * 32;
        VF largest = hn::Zero(d);
        for (int v = 0; v < 32; v += lanes) largest = hn::Max(largest, hn::Abs(hn::LoadU(d, from + v)));
        to.scales[static_cast<std::size_t>(i)] = hn::GetLane(hn::MaxOfLanes(d, largest));
    }
    for (std::int64_t token = first; token < last; ++token) mark_wide_runs(to, token);
    for (std::int64_t i = first * runs; i < last * runs; ++i) {
        const float* from = x + i / runs * x_stride + i % runs * 32;
        VF poison = hn::Zero(d);  // 0·x is 0 unless x is infinite or no number; maxima would lose the latter
        for (int v = 0; v < 32; v += lanes) poison = hn::MulAdd(hn::LoadU(d, from + v), hn::Zero(d), poison);
        const float peak = to.scales[static_cast<std::size_t>(i)];
        const bool finite = hn::AllTrue(d, hn::Eq(poison, hn::Zero(d)));
        const bool wide = to.wide[static_cast<std::size_t>(i)] != 0;
        const float scale = finite ? peak / 32512.0F : std::numeric_limits<float>::quiet_NaN();
        // A run too small for its inverse to be finite is as good as zero.
        const float inverse = finite && peak > 1e-30F ? 32512.0F / peak : 0.0F;
        const VF factor = hn::Set(d, wide ? inverse : inverse / 256);
        alignas(64) std::int32_t whole[32];
        std::int32_t sums[2] = {};
        for (int half = 0; half < 2; ++half) {
            VI32 sum = hn::Zero(d32);
            for (int v = half * 16; v < half * 16 + 16; v += lanes) {
                VI32 code = hn::NearestInt(hn::Mul(hn::LoadU(d, from + v), factor));
                if (!wide) code = hn::ShiftLeft<8>(code);
                hn::StoreU(code, d32, whole + v);
                const VI32 high = hn::ShiftRight<8>(hn::Add(code, hn::Set(d32, 128)));
                hn::StoreU(hn::DemoteTo(d8, high), d8, to.high.data() + i * 32 + v);
                hn::StoreU(hn::DemoteTo(d8, hn::Sub(code, hn::ShiftLeft<8>(high))), d8,
                           to.low.data() + i * 32 + v);
                sum = hn::Add(sum, code);
            }
            sums[half] = hn::GetLane(hn::SumOfLanes(d32, sum));
        }
        std::int16_t* codes = to.codes.data() + i * 32;
        for (int c = 0; c < 32; ++c) codes[code_index(c)] = static_cast<std::int16_t>(whole[c]);
        const auto at = static_cast<std::size_t>(i);
        to.scales[at] = scale;
        to.sums32[at] = sums[0] + sums[1];
        to.values32[at] = scale * static_cast<float>(sums[0] + sums[1]);
        for (std::size_t half = 0; half < 2; ++half) {
            to.sums16[2 * at + half] = sums[half];
            to.values16[2 * at + half] = scale * static_cast<float>(sums[half]);
        }
    }
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(PackedProducts);
HWY_EXPORT(PackActivations);

void packed_products(const PackedMatrix& matrix, std::int64_t first, std::int64_t last,
                     const PackedActivations& x, float* out, std::int64_t out_stride) {
    if (kernel_isa() >= base::Isa::avx512_bf16) {
        return packed_products_vnni(matrix, first, last, x, out, out_stride);
    }
    HWY_DYNAMIC_DISPATCH(PackedProducts)(matrix, first, last, x, out, out_stride);
}

void pack_activations(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t last,
                      PackedActivations& to) {
    if (kernel_isa() >= base::Isa::avx512_bf16) return pack_activations_vnni(x, x_stride, first, last, to);
    HWY_DYNAMIC_DISPATCH(PackActivations)(x, x_stride, first, last, to);
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
