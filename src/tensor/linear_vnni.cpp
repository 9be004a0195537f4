#include "tensor/linear_vnni.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "tensor/avx512_target.h"

#if defined(__x86_64__)
RETORT_AVX512_BEGIN

namespace retort::tensor {

namespace {

// Quad q of a run: 16 rows × 4 bytes. q is a constant after unrolling.
template <PackedFormat kFormat>
inline __m512i load_quad(const std::uint8_t* run, int q) {
    const __m512i raw = _mm512_loadu_si512(run + (kFormat.low_bits == 8 ? q : q / 2) * 64);
    if constexpr (kFormat.low_bits == 8) return raw;
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512i low = _mm512_and_si512(q % 2 == 0 ? raw : _mm512_srli_epi16(raw, 4), mask);
    if constexpr (kFormat.high_bits == 0) return low;
    // The bits of this quad shifted to the fifth place: low | (shifted & mask) is ternary function 0xf8.
    const int at = kFormat.high_bits == 1 ? q : 2 * (q % 4);
    const __m512i bits = _mm512_loadu_si512(run + (kFormat.high_bits == 1 ? 4 : 4 + q / 4) * 64);
    const __m512i shifted = at <= 4 ? _mm512_slli_epi16(bits, static_cast<unsigned>(4 - at))
                                    : _mm512_srli_epi16(bits, static_cast<unsigned>(at - 4));
    return _mm512_ternarylogic_epi64(low, shifted, _mm512_set1_epi8(kFormat.high_bits == 1 ? 16 : 48), 0xf8);
}

inline __m512 load_half(const std::uint8_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline __m512i load_bytes(const std::uint8_t* from) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// Of block b of run r of a unit.
template <PackedFormat kFormat>
inline __m512 load_scale(const std::uint8_t* unit, std::int64_t r, int b) {
    const std::uint8_t* scales = unit + kFormat.scales_begin();
    if constexpr (kFormat.scales == ScaleKind::half) {
        return load_half(scales);
    } else if constexpr (kFormat.scales == ScaleKind::six) {
        const std::uint8_t* pair = scales + r / 2 * 48;
        const __m512i low = load_bytes(pair + 16 * (r % 2));
        const __m512i high = _mm512_srli_epi32(load_bytes(pair + 32), static_cast<unsigned>(4 * (r % 2)));
        const __m512i s = _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi32(15)),
                                          _mm512_slli_epi32(_mm512_and_si512(high, _mm512_set1_epi32(3)), 4));
        return _mm512_mul_ps(load_half(unit), _mm512_cvtepi32_ps(s));
    } else if constexpr (kFormat.scales == ScaleKind::eight) {
        const __m128i bytes =
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + r * 32 + b * packed_rows));
        return _mm512_mul_ps(load_half(unit), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)));
    } else {
        return _mm512_loadu_ps(scales + 4 * b * packed_rows);
    }
}

template <PackedFormat kFormat>
inline __m512 load_minimum(const std::uint8_t* unit, std::int64_t r, int b) {
    const std::uint8_t* scales = unit + kFormat.scales_begin();
    if constexpr (kFormat.scales == ScaleKind::half) {
        return load_half(scales + 32);
    } else if constexpr (kFormat.scales == ScaleKind::six) {
        const std::uint8_t* pair = scales + r / 2 * 48;
        const __m512i low = load_bytes(pair + 16 * (r % 2));
        const __m512i high = _mm512_srli_epi32(load_bytes(pair + 32), static_cast<unsigned>(4 * (r % 2)));
        const __m512i m = _mm512_or_si512(
            _mm512_srli_epi32(low, 4), _mm512_slli_epi32(_mm512_and_si512(high, _mm512_set1_epi32(12)), 2));
        const __m512 product = _mm512_mul_ps(load_half(unit + 32), _mm512_cvtepi32_ps(m));
        return _mm512_xor_ps(product, _mm512_set1_ps(-0.0F));
    } else {
        return _mm512_loadu_ps(scales + 4 * (kFormat.blocks() + b) * packed_rows);
    }
}

inline __m512i broadcast(const void* from) {
    std::int32_t word = 0;
    std::memcpy(&word, from, sizeof word);
    return _mm512_set1_epi32(word);
}

// Few tokens: weights straight from memory, an activation's two bytes each by a dot product of bytes. Groups
// of 16 rows, kTokens tokens from `token` on.
template <PackedFormat kFormat, int kTokens>
inline void direct_tile(const std::uint8_t* unit, const PackedActivations& x, std::int64_t token, float* out,
                        std::int64_t out_stride) {
    constexpr int blocks = kFormat.blocks();
    constexpr int quads = 8 / blocks;
    const std::int64_t runs = x.cols / 32;
    const std::int64_t block_stride = x.cols / kFormat.block;
    const std::int8_t* x_high = x.high.data() + token * x.cols;
    const std::int8_t* x_low = x.low.data() + token * x.cols;
    const float* x_scale = x.scales.data() + token * runs;
    const float* x_value = (blocks == 1 ? x.values32 : x.values16).data() + token * block_stride;
    const std::int32_t* x_sum = (blocks == 1 ? x.sums32 : x.sums16).data() + token * block_stride;

    __m512 total[kTokens];
    for (auto& t : total) t = _mm512_setzero_ps();
    for (std::int64_t r = 0; r < runs;) {
        for (std::int64_t within = 0; within < kFormat.unit_runs(); ++within, ++r) {
            const std::uint8_t* run = unit + kFormat.factor_bytes() + within * kFormat.code_bytes();
            _mm_prefetch(reinterpret_cast<const char*>(run + 2048), _MM_HINT_T0);
#pragma GCC unroll 2
            for (int b = 0; b < blocks; ++b) {
                __m512i high[kTokens];
                __m512i low[kTokens];
#pragma GCC unroll 4
                for (int t = 0; t < kTokens; ++t) {
                    high[t] = _mm512_setzero_si512();
                    low[t] =
                        kFormat.excess != 0
                            ? _mm512_set1_epi32(-kFormat.excess * x_sum[t * block_stride + r * blocks + b])
                            : _mm512_setzero_si512();
                }
#pragma GCC unroll 8
                for (int q = b * quads; q < (b + 1) * quads; ++q) {
                    const __m512i codes = load_quad<kFormat>(run, q);
#pragma GCC unroll 4
                    for (int t = 0; t < kTokens; ++t) {
                        const std::int64_t at = t * x.cols + r * 32 + q * 4;
                        high[t] = _mm512_dpbusd_epi32(high[t], codes, broadcast(x_high + at));
                        low[t] = _mm512_dpbusd_epi32(low[t], codes, broadcast(x_low + at));
                    }
                }
                const __m512 scale = load_scale<kFormat>(unit, within, b);
#pragma GCC unroll 4
                for (int t = 0; t < kTokens; ++t) {
                    const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(high[t], 8), low[t]);
                    const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale[t * runs + r]));
                    total[t] = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(sum), total[t]);
                }
                if constexpr (kFormat.has_minimum) {
                    const __m512 minimum = load_minimum<kFormat>(unit, within, b);
#pragma GCC unroll 4
                    for (int t = 0; t < kTokens; ++t) {
                        const __m512 value = _mm512_set1_ps(x_value[t * block_stride + r * blocks + b]);
                        total[t] = _mm512_fmadd_ps(minimum, value, total[t]);
                    }
                }
            }
        }
        unit += kFormat.unit_bytes();
    }
    for (int t = 0; t < kTokens; ++t) _mm512_storeu_ps(out + t * out_stride, total[t]);
}

// Many tokens: a group is taken apart once, into 16-bit codes and f32 scales, and stays in the cache while
// the tokens pass. A run is 16 lines of 16 rows × 2 columns, in the order of PackedActivations::codes.
struct Panel {
    std::vector<std::int16_t> codes;
    std::vector<float> scales;    // (blocks, 16)
    std::vector<float> minimums;  // the same
};

template <PackedFormat kFormat>
void unpack_group(const std::uint8_t* unit, std::int64_t cols, Panel& panel) {
    constexpr int blocks = kFormat.blocks();
    panel.codes.resize(static_cast<std::size_t>(cols * packed_rows));
    panel.scales.resize(static_cast<std::size_t>(cols / kFormat.block * packed_rows));
    if (kFormat.has_minimum) panel.minimums.resize(panel.scales.size());
    std::int16_t* to = panel.codes.data();
    float* scales = panel.scales.data();
    float* minimums = panel.minimums.data();
    const __m512i excess = _mm512_set1_epi16(static_cast<short>(kFormat.excess));
    for (std::int64_t r = 0; r < cols / 32;) {
        for (std::int64_t within = 0; within < kFormat.unit_runs(); ++within, ++r) {
            const std::uint8_t* run = unit + kFormat.factor_bytes() + within * kFormat.code_bytes();
#pragma GCC unroll 8
            for (int q = 0; q < 8; ++q, to += 64) {
                const __m512i codes = load_quad<kFormat>(run, q);
                __m512i even = _mm512_and_si512(codes, _mm512_set1_epi16(255));
                __m512i odd = _mm512_srli_epi16(codes, 8);
                if constexpr (kFormat.excess != 0) {
                    even = _mm512_sub_epi16(even, excess);
                    odd = _mm512_sub_epi16(odd, excess);
                }
                _mm512_storeu_si512(to, even);
                _mm512_storeu_si512(to + 32, odd);
            }
            for (int b = 0; b < blocks; ++b, scales += packed_rows) {
                _mm512_storeu_ps(scales, load_scale<kFormat>(unit, within, b));
                if constexpr (kFormat.has_minimum) {
                    _mm512_storeu_ps(minimums, load_minimum<kFormat>(unit, within, b));
                    minimums += packed_rows;
                }
            }
        }
        unit += kFormat.unit_bytes();
    }
}

template <int kBlocks, bool kMinimum, int kTokens>
inline void panel_tile(const Panel& panel, const PackedActivations& x, std::int64_t token, float* out,
                       std::int64_t out_stride) {
    constexpr int lines = 16 / kBlocks;
    const std::int64_t runs = x.cols / 32;
    const std::int64_t value_stride = runs * kBlocks;
    const std::int16_t* codes = panel.codes.data();
    const float* scales = panel.scales.data();
    const float* minimums = panel.minimums.data();
    const std::int16_t* x_codes = x.codes.data() + token * x.cols;
    const float* x_scale = x.scales.data() + token * runs;
    const float* x_value = (kBlocks == 1 ? x.values32 : x.values16).data() + token * value_stride;

    __m512 total[kTokens];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) total[t] = _mm512_setzero_ps();
    for (std::int64_t r = 0; r < runs; ++r) {
        for (int b = 0; b < kBlocks; ++b, scales += packed_rows) {
            __m512i sum[kTokens];
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) sum[t] = _mm512_setzero_si512();
#pragma GCC unroll 4
            for (int line = 0; line < lines; ++line, codes += 32, x_codes += 2) {
                const __m512i w = _mm512_loadu_si512(codes);
#pragma GCC unroll 16
                for (int t = 0; t < kTokens; ++t) {
                    sum[t] = _mm512_dpwssd_epi32(sum[t], w, broadcast(x_codes + t * x.cols));
                }
            }
            const __m512 scale = _mm512_loadu_ps(scales);
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) {
                const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale[t * runs + r]));
                total[t] = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(sum[t]), total[t]);
            }
            if constexpr (kMinimum) {
                const __m512 minimum = _mm512_loadu_ps(minimums);
                minimums += packed_rows;
#pragma GCC unroll 16
                for (int t = 0; t < kTokens; ++t) {
                    const __m512 value = _mm512_set1_ps(x_value[t * value_stride + r * kBlocks + b]);
                    total[t] = _mm512_fmadd_ps(minimum, value, total[t]);
                }
            }
        }
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) _mm512_storeu_ps(out + t * out_stride, total[t]);
}

constexpr std::int64_t panel_tokens = 6;  // from so many on, taking a group apart pays

template <PackedFormat kFormat>
void products(const PackedMatrix& matrix, std::int64_t first, std::int64_t last, const PackedActivations& x,
              float* out, std::int64_t out_stride) {
    constexpr int blocks = kFormat.blocks();
    constexpr bool minimum = kFormat.has_minimum;
    thread_local Panel panel;
    for (std::int64_t group = first; group < last; ++group, out += packed_rows) {
        const std::uint8_t* data = matrix.data.data() + group * matrix.group_bytes();
        const std::int64_t tokens = x.tokens;
        std::int64_t t = 0;
        if (tokens >= panel_tokens) {
            unpack_group<kFormat>(data, x.cols, panel);
            for (; t + 12 <= tokens; t += 12) {
                panel_tile<blocks, minimum, 12>(panel, x, t, out + t * out_stride, out_stride);
            }
            if (t + 8 <= tokens) {
                panel_tile<blocks, minimum, 8>(panel, x, t, out + t * out_stride, out_stride);
                t += 8;
            }
            if (t + 4 <= tokens) {
                panel_tile<blocks, minimum, 4>(panel, x, t, out + t * out_stride, out_stride);
                t += 4;
            }
            for (; t < tokens; ++t) {
                panel_tile<blocks, minimum, 1>(panel, x, t, out + t * out_stride, out_stride);
            }
            continue;
        }
        for (; t + 2 <= tokens; t += 2) {
            direct_tile<kFormat, 2>(data, x, t, out + t * out_stride, out_stride);
        }
        if (t < tokens) direct_tile<kFormat, 1>(data, x, t, out + t * out_stride, out_stride);
    }
}

}  // namespace

void packed_products_vnni(const PackedMatrix& matrix, std::int64_t first, std::int64_t last,
                          const PackedActivations& x, float* out, std::int64_t out_stride) {
    const PackedFormat& f = matrix.format;
    const auto call = [&](auto* kernel) { kernel(matrix, first, last, x, out, out_stride); };
    if (f == packed_q8_0) return call(&products<packed_q8_0>);
    if (f == packed_q4_0) return call(&products<packed_q4_0>);
    if (f == packed_q4_1) return call(&products<packed_q4_1>);
    if (f == packed_q5_0) return call(&products<packed_q5_0>);
    if (f == packed_q5_1) return call(&products<packed_q5_1>);
    if (f == packed_q2_k) return call(&products<packed_q2_k>);
    if (f == packed_q3_k) return call(&products<packed_q3_k>);
    if (f == packed_q4_k) return call(&products<packed_q4_k>);
    if (f == packed_q5_k) return call(&products<packed_q5_k>);
    return call(&products<packed_q6_k>);
}

void pack_activations_vnni(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t last,
                           PackedActivations& to) {
    const std::int64_t runs = to.cols / 32;
    const __m512 zero = _mm512_setzero_ps();
    for (std::int64_t i = first * runs; i < last * runs; ++i) {
        const float* from = x + i / runs * x_stride + i % runs * 32;
        const __m512 value[2] = {_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)};
        const float peak =
            _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(value[0]), _mm512_abs_ps(value[1])));
        // 0·x is 0 unless x is infinite or no number; the maximum would lose the latter.
        const __m512 poison = _mm512_fmadd_ps(value[1], zero, _mm512_mul_ps(value[0], zero));
        const bool finite = _mm512_cmp_ps_mask(poison, zero, _CMP_EQ_OQ) == 0xffff;
        const float scale = finite ? peak / 32512.0F : std::numeric_limits<float>::quiet_NaN();
        // A run too small for its inverse to be finite is as good as zero.
        const __m512 factor = _mm512_set1_ps(finite && peak > 1e-30F ? 32512.0F / peak : 0.0F);
        std::int32_t sums[2];
        for (int half = 0; half < 2; ++half) {
            const std::int64_t at = i * 32 + half * 16;
            const __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(value[half], factor));
            // The low byte with its sign is what the rounded high byte leaves.
            const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(code, _mm512_set1_epi32(128)), 8);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to.high.data() + at), _mm512_cvtepi32_epi8(high));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to.low.data() + at), _mm512_cvtepi32_epi8(code));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.codes.data() + at),
                                _mm512_cvtepi32_epi16(_mm512_shuffle_epi32(code, _MM_PERM_DBCA)));
            sums[half] = _mm512_reduce_add_epi32(code);
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

}  // namespace retort::tensor

RETORT_AVX512_END
#else
namespace retort::tensor {
void pack_activations_vnni(const float*, std::int64_t, std::int64_t, std::int64_t, PackedActivations&) {
    std::abort();
}
void packed_products_vnni(const PackedMatrix&, std::int64_t, std::int64_t, const PackedActivations&, float*,
                          std::int64_t) {
    std::abort();  // no such machine says that it has this
}
}  // namespace retort::tensor
#endif
