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

}  // namespace retort::tensor

RETORT_AMX_END
#endif
