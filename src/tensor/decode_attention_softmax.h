// The softmax of one row over one chunk, as the kernels of decode attention with bf16 products take it.
// Internal to them.
#pragma once

#include <cstdint>
#include <limits>

#include "tensor/bf16_vectors.h"

#if defined(__x86_64__)
RETORT_AVX512_BEGIN

namespace retort::tensor {

// Scores become weights exp(score − max), rounded, zero from `length` up to `end`. The sum is that of the
// rounded ones, so that they still add up to one.
inline void soften(float* scores, std::uint32_t* weights, std::int64_t length, std::int64_t end,
                   float* maximum, float* total) {
    const std::int64_t padded = (length + 15) / 16 * 16;
    const auto tail = static_cast<__mmask16>(0xffffU >> static_cast<unsigned>(padded - length));
    const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    __m512 largest = lowest;
    for (std::int64_t i = 0; i < padded; i += 16) {
        const __mmask16 seen = i + 16 < padded ? static_cast<__mmask16>(0xffff) : tail;
        largest = _mm512_mask_max_ps(largest, seen, largest, _mm512_load_ps(scores + i));
    }
    const float peak = _mm512_reduce_max_ps(largest);
    __m512 sum = _mm512_setzero_ps();
    for (std::int64_t i = 0; i < padded; i += 16) {
        const __mmask16 seen = i + 16 < padded ? static_cast<__mmask16>(0xffff) : tail;
        const __m512 power =
            exponential_bf16(_mm512_sub_ps(_mm512_load_ps(scores + i), _mm512_set1_ps(peak)));
        const __m256i rounded = round_bf16(_mm512_maskz_mov_ps(seen, power));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + i / 2), rounded);
        sum = _mm512_add_ps(sum, widen_bf16(rounded));
    }
    for (std::int64_t i = padded; i < end; i += 16) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + i / 2), _mm256_setzero_si256());
    }
    *maximum = peak;
    *total = _mm512_reduce_add_ps(sum);
}

}  // namespace retort::tensor

RETORT_AVX512_END
#endif
