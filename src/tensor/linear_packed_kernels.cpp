#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/linear_packed.h"
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

// One lane holds no pairs of 16-bit numbers: plain loops instead, which also say what the vectors do.
float read_scale(bool wide, const std::uint8_t* from, std::int64_t index) {
    if (!wide) return f16_to_f32(reinterpret_cast<const std::uint16_t*>(from)[index]);
    return reinterpret_cast<const float*>(from)[index];
}

float RowProduct(const PackedFormat& f, const std::uint8_t* run, std::int64_t runs, std::int64_t row,
                 const PackedActivations& x, std::int64_t token) {
    const int per_half = 16 / f.bits;
    const std::uint32_t mask = (1U << static_cast<unsigned>(f.bits)) - 1;
    float total = 0;
    for (std::int64_t r = 0; r < runs; ++r, run += f.run_bytes()) {
        const std::int16_t* x_run = x.codes.data() + token * x.cols + r * 32;
        const std::uint8_t* scales = run + f.code_bytes();
        for (int begin = 0; begin < 32; begin += f.block) {
            const std::int64_t index = (token * runs + r) * 32 / f.block + begin / f.block;
            std::int32_t sum = 0;
            for (int i = begin; i < begin + f.block; ++i) {
                std::uint32_t word = 0;
                std::memcpy(&word, run + i / 2 / per_half * 64 + row * 4, sizeof word);
                const std::uint32_t code = (word >> (16 * (i % 2) + i / 2 % per_half * f.bits)) & mask;
                sum += (f.bits == 8 ? static_cast<std::int8_t>(code) : static_cast<std::int32_t>(code)) *
                       x_run[i];
            }
            if (f.excess_eight)
                sum -= 8 * (f.block == 32 ? x.sums32 : x.sums16)[static_cast<std::size_t>(index)];
            const std::int64_t at = begin / f.block * packed_rows + row;
            total += read_scale(f.wide_scales, scales, at) *
                     x.scales[static_cast<std::size_t>(token * runs + r)] * static_cast<float>(sum);
            if (f.has_minimum) {
                total += read_scale(f.wide_scales, scales + f.scale_bytes(), at) *
                         (f.block == 32 ? x.values32 : x.values16)[static_cast<std::size_t>(index)];
            }
        }
    }
    return total;
}

void PackedProducts(const PackedMatrix& matrix, std::int64_t first, std::int64_t last,
                    const PackedActivations& x, float* out, std::int64_t out_stride) {
    for (std::int64_t t = 0; t < x.tokens; ++t) {
        for (std::int64_t r = 0; r < (last - first) * packed_rows; ++r) {
            const std::uint8_t* group = matrix.data.data() + (first + r / packed_rows) * matrix.group_bytes();
            out[t * out_stride + r] =
                RowProduct(matrix.format, group, matrix.cols / 32, r % packed_rows, x, t);
        }
    }
}

#else

// Codes number s of each 16-bit half.
template <int kBits, int kShift>
HWY_INLINE VI16 codes_of(VI16 raw) {
    const U16 du;
    const I16 d;
    if constexpr (kBits == 8) {
        if constexpr (kShift == 0) return hn::ShiftRight<8>(hn::ShiftLeft<8>(raw));
        return hn::ShiftRight<8>(raw);
    } else {
        const auto bits = hn::BitCast(du, raw);
        if constexpr (kShift == 0) return hn::BitCast(d, hn::And(bits, hn::Set(du, 15)));
        if constexpr (kShift == 3) return hn::BitCast(d, hn::ShiftRight<12>(bits));
        return hn::BitCast(d, hn::And(hn::ShiftRight<4 * kShift>(bits), hn::Set(du, 15)));
    }
}

template <bool kWide>
HWY_INLINE VF load_scale(const std::uint8_t* from, int part) {
    const F d;
    if constexpr (kWide) {
        return hn::LoadU(d, reinterpret_cast<const float*>(from) + part * lanes);
    } else {
        const hn::Rebind<hwy::float16_t, F> d16;
        const hn::RebindToUnsigned<decltype(d16)> du16;
        return hn::PromoteTo(
            d,
            hn::BitCast(d16, hn::LoadU(du16, reinterpret_cast<const std::uint16_t*>(from) + part * lanes)));
    }
}

HWY_INLINE std::int32_t load_pair(const std::int16_t* from) {
    std::int32_t pair = 0;
    std::memcpy(&pair, from, sizeof pair);
    return pair;
}

template <int kBits, int kShift, int kTokens>
HWY_INLINE void add_codes(const VI16* raw, const std::int16_t* x, std::int64_t x_stride,
                          VI32 (&sum)[parts][kTokens]) {
    const I32 d32;
    const I16 d16;
    VI16 codes[parts];
    for (int p = 0; p < parts; ++p) codes[p] = codes_of<kBits, kShift>(raw[p]);
    for (int t = 0; t < kTokens; ++t) {
        const VI16 pair = hn::BitCast(d16, hn::Set(d32, load_pair(x + t * x_stride + 2 * kShift)));
        for (int p = 0; p < parts; ++p) {
            VI32 unused = hn::Zero(d32);
            sum[p][t] = hn::ReorderWidenMulAccumulate(d32, codes[p], pair, sum[p][t], unused);
        }
    }
}

template <int kBits, int kBlock, bool kWide, bool kMinimum, bool kExcess>
struct Kernel {
    // One group of 16 rows times kTokens tokens from `token` on. Whole numbers are added exactly, and each
    // block's sum joins the row's in order, so tiles of any size give the same bits.
    template <int kTokens>
    static HWY_INLINE void Tile(const std::uint8_t* run, std::int64_t runs, const PackedActivations& x,
                                std::int64_t token, float* out, std::int64_t out_stride) {
        const F d;
        const I32 d32;
        constexpr int blocks = 32 / kBlock;
        constexpr int per_half = 16 / kBits;
        constexpr int lines = kBlock / 2 / per_half;  // a block
        constexpr std::int64_t code_bytes = std::int64_t{64} * kBits;
        constexpr std::int64_t scale_bytes = blocks * packed_rows * (kWide ? 4 : 2);
        constexpr std::int64_t run_bytes = code_bytes + scale_bytes * (kMinimum ? 2 : 1);
        const std::int64_t x_stride = x.cols;
        const std::int64_t block_stride = x.cols / kBlock;
        const std::int16_t* codes = x.codes.data() + token * x_stride;
        const float* x_scale = x.scales.data() + token * runs;
        const float* x_value = (kBlock == 32 ? x.values32 : x.values16).data() + token * block_stride;
        const std::int32_t* x_sum = (kBlock == 32 ? x.sums32 : x.sums16).data() + token * block_stride;

        VF total[parts][kTokens];
        for (int p = 0; p < parts; ++p) {
            for (int t = 0; t < kTokens; ++t) total[p][t] = hn::Zero(d);
        }
        for (std::int64_t r = 0; r < runs; ++r, run += run_bytes) {
            for (int b = 0; b < blocks; ++b) {
                VI32 sum[parts][kTokens];
                for (int t = 0; t < kTokens; ++t) {
                    const VI32 start =
                        kExcess ? hn::Set(d32, -8 * x_sum[t * block_stride + r * blocks + b]) : hn::Zero(d32);
                    for (int p = 0; p < parts; ++p) sum[p][t] = start;
                }
                for (int line = 0; line < lines; ++line) {
                    const auto* from = reinterpret_cast<const std::int16_t*>(run + (b * lines + line) * 64);
                    const std::int16_t* x_line = codes + r * 32 + (b * lines + line) * 2 * per_half;
                    VI16 raw[parts];
                    for (int p = 0; p < parts; ++p) raw[p] = hn::LoadU(I16(), from + p * 2 * lanes);
                    add_codes<kBits, 0, kTokens>(raw, x_line, x_stride, sum);
                    add_codes<kBits, 1, kTokens>(raw, x_line, x_stride, sum);
                    if constexpr (kBits == 4) {
                        add_codes<kBits, 2, kTokens>(raw, x_line, x_stride, sum);
                        add_codes<kBits, 3, kTokens>(raw, x_line, x_stride, sum);
                    }
                }
                const std::uint8_t* scales = run + code_bytes + b * packed_rows * (kWide ? 4 : 2);
                for (int p = 0; p < parts; ++p) {
                    const VF scale = load_scale<kWide>(scales, p);
                    for (int t = 0; t < kTokens; ++t) {
                        const VF both = hn::Mul(scale, hn::Set(d, x_scale[t * runs + r]));
                        total[p][t] = hn::MulAdd(both, hn::ConvertTo(d, sum[p][t]), total[p][t]);
                    }
                    if constexpr (kMinimum) {
                        const VF minimum = load_scale<kWide>(scales + scale_bytes, p);
                        for (int t = 0; t < kTokens; ++t) {
                            const VF value = hn::Set(d, x_value[t * block_stride + r * blocks + b]);
                            total[p][t] = hn::MulAdd(minimum, value, total[p][t]);
                        }
                    }
                }
            }
        }
        for (int t = 0; t < kTokens; ++t) {
            for (int p = 0; p < parts; ++p) hn::StoreU(total[p][t], d, out + t * out_stride + p * lanes);
        }
    }

    static void Run(const PackedMatrix& matrix, std::int64_t first, std::int64_t last,
                    const PackedActivations& x, float* out, std::int64_t out_stride) {
        const std::int64_t runs = matrix.cols / 32;
        for (std::int64_t group = first; group < last; ++group, out += packed_rows) {
            const std::uint8_t* data = matrix.data.data() + group * matrix.group_bytes();
            std::int64_t t = 0;
            for (; t + 4 <= x.tokens; t += 4) Tile<4>(data, runs, x, t, out + t * out_stride, out_stride);
            if (t + 2 <= x.tokens) {
                Tile<2>(data, runs, x, t, out + t * out_stride, out_stride);
                t += 2;
            }
            if (t < x.tokens) Tile<1>(data, runs, x, t, out + t * out_stride, out_stride);
        }
    }
};

void PackedProducts(const PackedMatrix& matrix, std::int64_t first, std::int64_t last,
                    const PackedActivations& x, float* out, std::int64_t out_stride) {
    const PackedFormat& f = matrix.format;
    const auto run = [&](auto kernel) { decltype(kernel)::Run(matrix, first, last, x, out, out_stride); };
    if (f.bits == 8) {
        if (f.block == 16) return run(Kernel<8, 16, true, false, false>());  // q6_k
        if (f.wide_scales) return run(Kernel<8, 32, true, true, false>());   // q5_k
        if (f.has_minimum) return run(Kernel<8, 32, false, true, false>());  // q5_1
        return run(Kernel<8, 32, false, false, false>());                    // q8_0, q5_0
    }
    if (f.block == 16) {
        if (f.has_minimum) return run(Kernel<4, 16, true, true, false>());  // q2_k
        return run(Kernel<4, 16, true, false, true>());                     // q3_k
    }
    if (f.wide_scales) return run(Kernel<4, 32, true, true, false>());   // q4_k
    if (f.has_minimum) return run(Kernel<4, 32, false, true, false>());  // q4_1
    return run(Kernel<4, 32, false, false, true>());                     // q4_0
}

#endif  // HWY_SCALAR

void PackActivations(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t last,
                     PackedActivations& to) {
    const F d;
    const I32 d32;
    const hn::Rebind<std::int16_t, F> d16;
    const std::int64_t runs = to.cols / 32;
    for (std::int64_t i = first * runs; i < last * runs; ++i) {
        const float* from = x + i / runs * x_stride + i % runs * 32;
        VF largest = hn::Zero(d);
        VF poison = hn::Zero(d);  // 0·x is 0 unless x is infinite or no number; maxima would lose the latter
        for (int v = 0; v < 32; v += lanes) {
            const VF value = hn::LoadU(d, from + v);
            largest = hn::Max(largest, hn::Abs(value));
            poison = hn::MulAdd(value, hn::Zero(d), poison);
        }
        const float peak = hn::GetLane(hn::MaxOfLanes(d, largest));
        const bool finite = hn::AllTrue(d, hn::Eq(poison, hn::Zero(d)));
        const float scale = finite ? peak / 32767.0F : std::numeric_limits<float>::quiet_NaN();
        // A run too small for its inverse to be finite is as good as zero.
        const float inverse = finite && peak > 1e-30F ? 32767.0F / peak : 0.0F;
        const VF factor = hn::Set(d, inverse);
        std::int32_t sums[2] = {};
        for (int half = 0; half < 2; ++half) {
            VI32 sum = hn::Zero(d32);
            for (int v = half * 16; v < half * 16 + 16; v += lanes) {
                const VI32 code = hn::NearestInt(hn::Mul(hn::LoadU(d, from + v), factor));
                hn::StoreU(hn::DemoteTo(d16, code), d16, to.codes.data() + i * 32 + v);
                sum = hn::Add(sum, code);
            }
            sums[half] = hn::GetLane(hn::SumOfLanes(d32, sum));
        }
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
    HWY_DYNAMIC_DISPATCH(PackedProducts)(matrix, first, last, x, out, out_stride);
}

void pack_activations(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t last,
                      PackedActivations& to) {
    HWY_DYNAMIC_DISPATCH(PackActivations)(x, x_stride, first, last, to);
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
