// Around code in AMX's intrinsics (tiles of bf16), beside those of tensor/avx512_target.h, which it includes:
// compiled wherever the program is built, called only where kernel_isa() says amx. The compiler knows neither
// what the tile instructions read nor what they write: amx_fence() stands between them and plain code.
#pragma once

#include "tensor/avx512_target.h"

#if defined(__x86_64__)
#if defined(__clang__)
// Clang's _Pragma takes one literal, however long.
// clang-format off
#define RETORT_AMX_BEGIN \
    _Pragma("clang attribute push(__attribute__((target(\"avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma,avx2,f16c,amx-tile,amx-bf16\"))), apply_to = function)")
// clang-format on
#define RETORT_AMX_END _Pragma("clang attribute pop")
#else
#define RETORT_AMX_BEGIN RETORT_AVX512_BEGIN _Pragma("GCC target(\"amx-tile,amx-bf16\")")
#define RETORT_AMX_END RETORT_AVX512_END
#endif

namespace retort::tensor {

inline void amx_fence() {
    asm volatile("" ::: "memory");
}

// What the tile registers hold: rows of each, all of 64 bytes.
struct alignas(64) AmxShape {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace retort::tensor

RETORT_AMX_BEGIN
namespace retort::tensor {
inline void load_amx_shape(const AmxShape& shape) {
    asm volatile("" : : "r"(&shape) : "memory");  // or its bytes might not be written yet
    _tile_loadconfig(&shape);
}
}  // namespace retort::tensor
RETORT_AMX_END
#endif
