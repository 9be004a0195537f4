// Sixteen numbers between f32 and bf16, and what kernels do with them on the way. Internal to the kernels of
// AVX512-BF16 and AMX.
#pragma once

#include "tensor/avx512_target.h"

#if defined(__x86_64__)
RETORT_AVX512_BEGIN

namespace retort::tensor {

inline __m256i round_bf16(__m512 values) {
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values));
}

inline __m512 widen_bf16(__m256i values) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}

// e^x for x ≤ 0, relative error 2^-21: what is rounded to 8 bits afterwards needs no more.
inline __m512 exponential_bf16(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-87.0F));
    const __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504F)), 0);
    const __m512 rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693147181F), x);
    __m512 power = _mm512_set1_ps(1.0F / 120);
    for (const float factor : {1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F}) {
        power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(factor));
    }
    return _mm512_scalef_ps(power, whole);
}

// 16 rows × 16 dwords, rows `stride` dwords apart, written turned: 16 lines of 64 bytes.
inline void transpose_dwords(const std::uint32_t* from, std::int64_t stride, std::uint32_t* to) {
    __m512i r[16];
    __m512i s[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(from + i * stride);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(s[i], s[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(s[i], s[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(s[i + 1], s[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(s[i + 1], s[i + 3]);
    }
    // r[4g + c] holds, of rows 4g … 4g+3, column 4·lane + c.
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        const __m512i a = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88);  // lanes 0, 2 of both
        const __m512i b = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd);  // lanes 1, 3
        const __m512i d = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);
        const __m512i e = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
        _mm512_storeu_si512(to + 16 * c, _mm512_shuffle_i32x4(a, d, 0x88));
        _mm512_storeu_si512(to + 16 * (4 + c), _mm512_shuffle_i32x4(b, e, 0x88));
        _mm512_storeu_si512(to + 16 * (8 + c), _mm512_shuffle_i32x4(a, d, 0xdd));
        _mm512_storeu_si512(to + 16 * (12 + c), _mm512_shuffle_i32x4(b, e, 0xdd));
    }
}

// Two rows of 16 bf16 as 16 pairs: the first row in the low halves.
inline __m512i pair_rows_of(__m256i first, __m256i second) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(first),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16));
}

inline __m256i load_16(const std::uint16_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

inline void store_16(std::uint16_t* to, __m256i values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), values);
}

}  // namespace retort::tensor

RETORT_AVX512_END
#endif
