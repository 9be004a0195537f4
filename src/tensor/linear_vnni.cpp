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

// Whether any of four neighbours in a tile has a low byte in a run.
inline bool any_wide(const std::uint8_t* wide) {
    std::uint32_t four = 0;
    std::memcpy(&four, wide, sizeof four);
    return four != 0;
}

// Few tokens: weights straight from memory, an activation's bytes each by a dot product of bytes. Groups of
// 16 rows, kTokens tokens from `token` on.
template <PackedFormat kFormat, int kTokens>
inline void direct_tile(const std::uint8_t* unit, const PackedActivations& x, std::int64_t token, float* out,
                        std::int64_t out_stride) {
    constexpr int blocks = kFormat.blocks();
    constexpr int quads = 8 / blocks;
    const std::int64_t runs = x.cols / 32;
    const std::int64_t block_stride = x.cols / kFormat.block;
    const std::int8_t* x_high = x.high.data() + token * x.cols;
    const std::int8_t* x_low = x.low.data() + token * x.cols;
    const std::uint8_t* x_wide = x.wide.data() + token * runs;
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
                __m512i sum[kTokens];
#pragma GCC unroll 4
                for (int t = 0; t < kTokens; ++t) sum[t] = _mm512_setzero_si512();
                const auto add_bytes = [&](const std::int8_t* x_bytes) {
#pragma GCC unroll 8
                    for (int q = b * quads; q < (b + 1) * quads; ++q) {
                        const __m512i codes = load_quad<kFormat>(run, q);
#pragma GCC unroll 4
                        for (int t = 0; t < kTokens; ++t) {
                            const std::int8_t* at = x_bytes + t * x.cols + r * 32 + q * 4;
                            sum[t] = _mm512_dpbusd_epi32(sum[t], codes, broadcast(at));
                        }
                    }
                };
                add_bytes(x_high);
#pragma GCC unroll 4
                for (int t = 0; t < kTokens; ++t) sum[t] = _mm512_slli_epi32(sum[t], 8);
                if ((x_wide[r] | (kTokens > 1 ? x_wide[runs + r] : 0)) != 0) add_bytes(x_low);
                const __m512 scale = load_scale<kFormat>(unit, within, b);
#pragma GCC unroll 4
                for (int t = 0; t < kTokens; ++t) {
                    if constexpr (kFormat.excess != 0) {
                        const std::int32_t x_total = x_sum[t * block_stride + r * blocks + b];
                        sum[t] = _mm512_sub_epi32(sum[t], _mm512_set1_epi32(kFormat.excess * x_total));
                    }
                    const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale[t * runs + r]));
                    total[t] = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(sum[t]), total[t]);
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

// Many tokens: a group is taken apart once, into bytes of codes and f32 scales, and stays in the cache while
// the tokens pass. A run is 8 lines of 16 rows × 4 columns.
struct Panel {
    std::vector<std::uint8_t> codes;
    std::vector<float> scales;    // (blocks, 16)
    std::vector<float> minimums;  // the same
};

template <PackedFormat kFormat>
void unpack_group(const std::uint8_t* unit, std::int64_t cols, Panel& panel) {
    constexpr int blocks = kFormat.blocks();
    panel.codes.resize(static_cast<std::size_t>(cols * packed_rows));
    panel.scales.resize(static_cast<std::size_t>(cols / kFormat.block * packed_rows));
    if (kFormat.has_minimum) panel.minimums.resize(panel.scales.size());
    std::uint8_t* to = panel.codes.data();
    float* scales = panel.scales.data();
    float* minimums = panel.minimums.data();
    for (std::int64_t r = 0; r < cols / 32;) {
        for (std::int64_t within = 0; within < kFormat.unit_runs(); ++within, ++r) {
            const std::uint8_t* run = unit + kFormat.factor_bytes() + within * kFormat.code_bytes();
#pragma GCC unroll 8
            for (int q = 0; q < 8; ++q, to += 64) _mm512_storeu_si512(to, load_quad<kFormat>(run, q));
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

template <int kBlocks, bool kMinimum, int kExcess, int kTokens>
inline void panel_tile(const Panel& panel, const PackedActivations& x, std::int64_t token, float* out,
                       std::int64_t out_stride) {
    constexpr int quads = 8 / kBlocks;
    constexpr std::int64_t width = PackedActivations::tile_tokens;
    const std::int64_t runs = x.cols / 32;
    const std::int64_t tile = token / width * width * runs;
    const std::int64_t lane = token % width;
    const std::uint8_t* codes = panel.codes.data();
    const float* scales = panel.scales.data();
    const float* minimums = panel.minimums.data();
    const std::int32_t* x_high = x.tiles.high.data() + tile * 8 + lane;
    const std::int32_t* x_low = x.tiles.low.data() + tile * 8 + lane;
    const std::uint8_t* x_wide = x.tiles.wide.data() + tile + lane;
    const float* x_scale = x.tiles.scales.data() + tile + lane;
    const float* x_value =
        (kBlocks == 1 ? x.tiles.values32 : x.tiles.values16).data() + tile * kBlocks + lane;
    const std::int32_t* x_sum =
        (kBlocks == 1 ? x.tiles.sums32 : x.tiles.sums16).data() + tile * kBlocks + lane;

    __m512 total[kTokens];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) total[t] = _mm512_setzero_ps();
    for (std::int64_t r = 0; r < runs; ++r, x_wide += width, x_scale += width) {
        for (int b = 0; b < kBlocks; ++b) {
            __m512i sum[kTokens];
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) sum[t] = _mm512_setzero_si512();
            const auto add_bytes = [&]<int kFrom, int kTo>(const std::int32_t* x_bytes) {
#pragma GCC unroll 8
                for (int q = 0; q < quads; ++q) {
                    const __m512i w = _mm512_loadu_si512(codes + 64 * q);
#pragma GCC unroll 16
                    for (int t = kFrom; t < kTo; ++t)
                        sum[t] = _mm512_dpbusd_epi32(sum[t], w, _mm512_set1_epi32(x_bytes[q * width + t]));
                }
            };
            add_bytes.template operator()<0, kTokens>(x_high);
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) sum[t] = _mm512_slli_epi32(sum[t], 8);
            // Few tokens at a time: among many there is nearly always one that is wide.
            if constexpr (kTokens == 1) {
                if (*x_wide != 0) add_bytes.template operator()<0, 1>(x_low);
            } else {
                if (any_wide(x_wide)) add_bytes.template operator()<0, 4>(x_low);
                if constexpr (kTokens >= 8)
                    if (any_wide(x_wide + 4)) add_bytes.template operator()<4, 8>(x_low);
                if constexpr (kTokens >= 12)
                    if (any_wide(x_wide + 8)) add_bytes.template operator()<8, 12>(x_low);
            }
            const __m512 scale = _mm512_loadu_ps(scales);
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) {
                if constexpr (kExcess != 0)
                    sum[t] = _mm512_sub_epi32(sum[t], _mm512_set1_epi32(kExcess * x_sum[t]));
                const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale[t]));
                total[t] = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(sum[t]), total[t]);
            }
            if constexpr (kMinimum) {
                const __m512 minimum = _mm512_loadu_ps(minimums);
                minimums += packed_rows;
#pragma GCC unroll 16
                for (int t = 0; t < kTokens; ++t)
                    total[t] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(x_value[t]), total[t]);
            }
            codes += 64 * quads;
            scales += packed_rows;
            x_high += quads * width;
            x_low += quads * width;
            x_sum += width;
            x_value += width;
        }
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) _mm512_storeu_ps(out + t * out_stride, total[t]);
}

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
        if (tokens >= PackedActivations::tiled_from) {
            unpack_group<kFormat>(data, x.cols, panel);
            for (; t + 12 <= tokens; t += 12) {
                panel_tile<blocks, minimum, kFormat.excess, 12>(panel, x, t, out + t * out_stride,
                                                                out_stride);
            }
            if (t + 8 <= tokens) {
                panel_tile<blocks, minimum, kFormat.excess, 8>(panel, x, t, out + t * out_stride, out_stride);
                t += 8;
            }
            if (t + 4 <= tokens) {
                panel_tile<blocks, minimum, kFormat.excess, 4>(panel, x, t, out + t * out_stride, out_stride);
                t += 4;
            }
            for (; t < tokens; ++t) {
                panel_tile<blocks, minimum, kFormat.excess, 1>(panel, x, t, out + t * out_stride, out_stride);
            }
            continue;
        }
        for (; t + 2 <= tokens; t += 2) {
            direct_tile<kFormat, 2>(data, x, t, out + t * out_stride, out_stride);
        }
        if (t < tokens) direct_tile<kFormat, 1>(data, x, t, out + t * out_stride, out_stride);
    }
}

// Where a run of a token is put: its bytes four columns at a time, `stride` apart, and one number each of the
// rest.
struct RunPlace {
    std::int32_t* high;
    std::int32_t* low;
    std::uint8_t* wide;
    float* scale;
    std::int32_t* sum32;
    std::int32_t* sum16;
    float* value32;
    float* value16;
    std::int64_t stride;

    void next() {
        high += 8 * stride;
        low += 8 * stride;
        wide += stride;
        scale += stride;
        sum32 += stride;
        sum16 += 2 * stride;
        value32 += stride;
        value16 += 2 * stride;
    }
};

RunPlace first_place(PackedActivations& to, std::int64_t token) {
    const std::int64_t runs = to.cols / 32;
    if (to.tokens < PackedActivations::tiled_from) {
        const std::int64_t at = token * runs;
        return {reinterpret_cast<std::int32_t*>(to.high.data() + at * 32),
                reinterpret_cast<std::int32_t*>(to.low.data() + at * 32),
                to.wide.data() + at,
                to.scales.data() + at,
                to.sums32.data() + at,
                to.sums16.data() + 2 * at,
                to.values32.data() + at,
                to.values16.data() + 2 * at,
                1};
    }
    constexpr std::int64_t width = PackedActivations::tile_tokens;
    const std::int64_t tile = token / width * width * runs;
    const std::int64_t lane = token % width;
    PackedActivations::Tiles& tiles = to.tiles;
    return {tiles.high.data() + 8 * tile + lane,
            tiles.low.data() + 8 * tile + lane,
            tiles.wide.data() + tile + lane,
            tiles.scales.data() + tile + lane,
            tiles.sums32.data() + tile + lane,
            tiles.sums16.data() + 2 * tile + lane,
            tiles.values32.data() + tile + lane,
            tiles.values16.data() + 2 * tile + lane,
            width};
}

// Four times four bytes, the i-th at to[i·stride].
inline void store_quads(std::int32_t* to, std::int64_t stride, __m128i bytes) {
    to[0] = _mm_extract_epi32(bytes, 0);
    to[stride] = _mm_extract_epi32(bytes, 1);
    to[2 * stride] = _mm_extract_epi32(bytes, 2);
    to[3 * stride] = _mm_extract_epi32(bytes, 3);
}

// A token whose runs' largest values stand in to.scales, and whose wide runs are marked.
void pack_token(const float* from, std::int64_t token, PackedActivations& to) {
    const std::int64_t runs = to.cols / 32;
    const __m512 zero = _mm512_setzero_ps();
    RunPlace place = first_place(to, token);
    for (std::int64_t r = 0; r < runs; ++r, from += 32, place.next()) {
        const __m512 value[2] = {_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)};
        const float peak = to.scales[static_cast<std::size_t>(token * runs + r)];
        // 0·x is 0 unless x is infinite or no number; the maximum would lose the latter.
        const __m512 poison = _mm512_fmadd_ps(value[1], zero, _mm512_mul_ps(value[0], zero));
        const bool finite = _mm512_cmp_ps_mask(poison, zero, _CMP_EQ_OQ) == 0xffff;
        const std::uint8_t wide = to.wide[static_cast<std::size_t>(token * runs + r)];
        const float scale = finite ? peak / 32512.0F : std::numeric_limits<float>::quiet_NaN();
        // A run too small for its inverse to be finite is as good as zero.
        const float inverse = finite && peak > 1e-30F ? 32512.0F / peak : 0.0F;
        const __m512 factor = _mm512_set1_ps(wide != 0 ? inverse : inverse / 256);
        std::int32_t sums[2];
        for (int half = 0; half < 2; ++half) {
            __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(value[half], factor));
            if (wide == 0) code = _mm512_slli_epi32(code, 8);
            // The low byte with its sign is what the rounded high byte leaves.
            const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(code, _mm512_set1_epi32(128)), 8);
            const std::int64_t quads = 4 * half * place.stride;
            store_quads(place.high + quads, place.stride, _mm512_cvtepi32_epi8(high));
            store_quads(place.low + quads, place.stride, _mm512_cvtepi32_epi8(code));
            sums[half] = _mm512_reduce_add_epi32(code);
        }
        *place.wide = wide;
        *place.scale = scale;
        *place.sum32 = sums[0] + sums[1];
        *place.value32 = scale * static_cast<float>(sums[0] + sums[1]);
        place.sum16[0] = sums[0];
        place.sum16[place.stride] = sums[1];
        place.value16[0] = scale * static_cast<float>(sums[0]);
        place.value16[place.stride] = scale * static_cast<float>(sums[1]);
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
    for (std::int64_t token = first; token < last; ++token) {
        const float* from = x + token * x_stride;
        for (std::int64_t r = 0; r < runs; ++r) {
            to.scales[static_cast<std::size_t>(token * runs + r)] =
                _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(from + 32 * r)),
                                                   _mm512_abs_ps(_mm512_loadu_ps(from + 32 * r + 16))));
        }
        mark_wide_runs(to, token);
        pack_token(from, token, to);
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
