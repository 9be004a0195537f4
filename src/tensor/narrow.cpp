#include "tensor/narrow.h"

#include <cmath>
#include <cstdlib>

#include "base/parallel.h"
#include "tensor/amx_gemm_tiles.h"

#if defined(__x86_64__)
RETORT_AMX_BEGIN

namespace retort::tensor {

namespace {

// 1/x by a guess of 14 bits and Newton's step: relative error 2^-27.
inline __m512 inverse(__m512 x) {
    const __m512 guess = _mm512_rcp14_ps(x);
    return _mm512_mul_ps(guess, _mm512_fnmadd_ps(x, guess, _mm512_set1_ps(2.0F)));
}

inline __m512 sigmoid(__m512 x) {
    // Beyond ±80 it is 0 or 1 to f32's last bit, and the exponential stays finite.
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-80.0F)), _mm512_set1_ps(80.0F));
    const __m512 one = _mm512_set1_ps(1.0F);
    return inverse(_mm512_add_ps(one, exponential_bf16(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

}  // namespace

void rms_norm_bf16(const float* x, const float* weight, float epsilon, std::int64_t rows, std::int64_t size,
                   std::uint16_t* y, float* rstd) {
    base::parallel_ranges(rows, 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const float* row = x + r * size;
            __m512 squares = _mm512_setzero_ps();
            for (std::int64_t i = 0; i < size; i += 16) {
                const __m512 value = _mm512_loadu_ps(row + i);
                squares = _mm512_fmadd_ps(value, value, squares);
            }
            const float scale =
                1.0F / std::sqrt(_mm512_reduce_add_ps(squares) / static_cast<float>(size) + epsilon);
            if (rstd != nullptr) rstd[r] = scale;
            const __m512 factor = _mm512_set1_ps(scale);
            for (std::int64_t i = 0; i < size; i += 16) {
                const __m512 value = _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(row + i), factor),
                                                   _mm512_loadu_ps(weight + i));
                store_16(y + r * size + i, round_bf16(value));
            }
        }
    });
}

void swiglu_bf16(const std::uint16_t* gate_up, std::int64_t rows, std::int64_t size, std::uint16_t* h) {
    base::parallel_ranges(rows, 8, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const std::uint16_t* gate = gate_up + r * 2 * size;
            for (std::int64_t i = 0; i < size; i += 16) {
                const __m512 g = widen_bf16(load_16(gate + i));
                const __m512 u = widen_bf16(load_16(gate + size + i));
                store_16(h + r * size + i, round_bf16(_mm512_mul_ps(_mm512_mul_ps(g, sigmoid(g)), u)));
            }
        }
    });
}

void swiglu_backward_bf16(const std::uint16_t* gate_up, const std::uint16_t* dh, std::int64_t rows,
                          std::int64_t size, std::uint16_t* d_gate_up, std::uint16_t* h) {
    const __m512 one = _mm512_set1_ps(1.0F);
    base::parallel_ranges(rows, 8, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const std::uint16_t* gate = gate_up + r * 2 * size;
            std::uint16_t* d_gate = d_gate_up + r * 2 * size;
            for (std::int64_t i = 0; i < size; i += 16) {
                const __m512 g = widen_bf16(load_16(gate + i));
                const __m512 u = widen_bf16(load_16(gate + size + i));
                const __m512 d = widen_bf16(load_16(dh + r * size + i));
                const __m512 s = sigmoid(g);
                const __m512 silu = _mm512_mul_ps(g, s);
                store_16(h + r * size + i, round_bf16(_mm512_mul_ps(silu, u)));
                store_16(d_gate + size + i, round_bf16(_mm512_mul_ps(d, silu)));
                // d silu/dg = σ + silu·(1 − σ)
                const __m512 slope = _mm512_fmadd_ps(silu, _mm512_sub_ps(one, s), s);
                store_16(d_gate + i, round_bf16(_mm512_mul_ps(_mm512_mul_ps(d, u), slope)));
            }
        }
    });
}

}  // namespace retort::tensor

RETORT_AMX_END
#else
namespace retort::tensor {
void rms_norm_bf16(const float*, const float*, float, std::int64_t, std::int64_t, std::uint16_t*, float*) {
    std::abort();  // for machines with AMX alone
}
void swiglu_bf16(const std::uint16_t*, std::int64_t, std::int64_t, std::uint16_t*) {
    std::abort();
}
void swiglu_backward_bf16(const std::uint16_t*, const std::uint16_t*, std::int64_t, std::int64_t,
                          std::uint16_t*, std::uint16_t*) {
    std::abort();
}
}  // namespace retort::tensor
#endif
