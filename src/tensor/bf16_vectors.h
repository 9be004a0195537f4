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

}  // namespace retort::tensor

RETORT_AVX512_END
#endif
