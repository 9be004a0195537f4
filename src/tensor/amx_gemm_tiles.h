// Small products in AMX's tiles, for kernels that keep their operands packed: what attention and training's
// products are made of. Internal to the kernels that have AMX.
#pragma once

#include <cstdint>

#include "tensor/amx_target.h"
#include "tensor/bf16_vectors.h"

#if defined(__x86_64__)
RETORT_AMX_BEGIN

namespace retort::tensor {

// The tile registers for the functions below, as long as it lives; on its thread.
class AmxTiles {
  public:
    AmxTiles() {
        const AmxShape shape;
        amx_fence();
        load_amx_shape(shape);
    }
    AmxTiles(const AmxTiles&) = delete;
    AmxTiles& operator=(const AmxTiles&) = delete;
    ~AmxTiles() {
        _tile_release();
        amx_fence();
    }
};

// c (32·m, 32·n) = a·b, or from + a·b; a (32·m, 32·k) of bf16, rows lda apart; b in groups of 16 columns,
// each 16·k lines of 16 columns × 2 rows, `group` elements apart. from, which may be c, has rows ldf apart.
template <bool kAdd>
inline void tile_gemm(const std::uint16_t* a, std::int64_t lda, const std::uint16_t* b, std::int64_t group,
                      const float* from, std::int64_t ldf, float* c, std::int64_t ldc, std::int64_t m,
                      std::int64_t n, std::int64_t k) {
    amx_fence();
    for (std::int64_t j = 0; j < n; ++j) {
        const std::uint16_t* b0 = b + 2 * j * group;
        const std::uint16_t* b1 = b0 + group;
        for (std::int64_t i = 0; i < m; ++i) {
            const std::uint16_t* a0 = a + 32 * i * lda;
            const std::uint16_t* a1 = a0 + 16 * lda;
            if constexpr (kAdd) {
                const float* f0 = from + 32 * i * ldf + 32 * j;
                const float* f1 = f0 + 16 * ldf;
                _tile_loadd(0, f0, ldf * 4);
                _tile_loadd(1, f0 + 16, ldf * 4);
                _tile_loadd(2, f1, ldf * 4);
                _tile_loadd(3, f1 + 16, ldf * 4);
            } else {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            }
            for (std::int64_t l = 0; l < k; ++l) {
                _tile_loadd(4, a0 + 32 * l, lda * 2);
                _tile_loadd(6, b0 + 512 * l, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, b1 + 512 * l, 64);
                _tile_dpbf16ps(1, 4, 7);
                _tile_loadd(5, a1 + 32 * l, lda * 2);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            float* c0 = c + 32 * i * ldc + 32 * j;
            float* c1 = c0 + 16 * ldc;
            _tile_stored(0, c0, ldc * 4);
            _tile_stored(1, c0 + 16, ldc * 4);
            _tile_stored(2, c1, ldc * 4);
            _tile_stored(3, c1 + 16, ldc * 4);
        }
    }
    amx_fence();
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

RETORT_AMX_END
#endif
