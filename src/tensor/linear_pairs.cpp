#include "tensor/linear_pairs.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tensor/amx_products.h"
#include "tensor/avx512_target.h"
#include "tensor/dispatch.h"
#include "tensor/quantised.h"
#include "tensor/team.h"

namespace retort::tensor {

bool pairs_fit(const MatrixView& matrix) {
    return kernel_isa() >= base::Isa::avx512_bf16 &&
           (matrix.dtype == DType::f16 || matrix.dtype == DType::bf16);
}

void unpack_pairs_row(const PairMatrix& matrix, std::int64_t row, float* to) {
    const std::uint16_t* from =
        matrix.data.data() + row / pair_rows * matrix.group_size() + row % pair_rows * 2;
    for (std::int64_t c = 0; c < matrix.cols; ++c) {
        to[c] = bf16_to_f32(from[c / 2 * 2 * pair_rows + c % 2]);
    }
}

void PairActivations::reserve(std::int64_t new_tokens, std::int64_t new_cols) {
    tokens = new_tokens;
    cols = new_cols;
    values.resize(static_cast<std::size_t>(tokens * stride()));
}

}  // namespace retort::tensor

#if defined(__x86_64__)
RETORT_AVX512_BEGIN

namespace retort::tensor {

namespace {

// 16 columns of one row, rounded to bf16, one in the low half of each lane.
inline __m512i load_bf16(const std::uint16_t* from, bool half) {
    const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    if (!half) return _mm512_cvtepu16_epi32(raw);
    return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_cvtph_ps(raw))));
}

// Rows of 32 columns at a time become lines: a transposition of 16 × 16 lanes of pairs.
void pack_group(const MatrixView& matrix, std::int64_t first, std::uint16_t* to, std::int64_t pairs) {
    const bool half = matrix.dtype == DType::f16;
    const std::int64_t rows = std::min(pair_rows, matrix.rows - first);
    alignas(64) std::uint16_t block[pair_rows][32];
    for (std::int64_t c = 0; c < matrix.cols; c += 32) {
        const std::int64_t count = std::min<std::int64_t>(32, matrix.cols - c);
        std::memset(block, 0, sizeof block);
        for (std::int64_t r = 0; r < rows; ++r) {
            const auto* from = reinterpret_cast<const std::uint16_t*>(matrix.row(first + r)) + c;
            std::memcpy(block[r], from, static_cast<std::size_t>(count) * 2);
            if (!half) continue;
            const __m256i low = _mm512_cvtepi32_epi16(load_bf16(block[r], true));
            const __m256i high = _mm512_cvtepi32_epi16(load_bf16(block[r] + 16, true));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(block[r]), low);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(block[r] + 16), high);
        }
        const __m512i rows_at = _mm512_mullo_epi32(
            _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(16));
        for (std::int64_t p = 0; p < 16 && c / 2 + p < pairs; ++p) {
            const __m512i line = _mm512_i32gather_epi32(rows_at, reinterpret_cast<const int*>(block) + p, 4);
            _mm512_storeu_si512(to + (c / 2 + p) * 2 * pair_rows, line);
        }
    }
}

inline __m512i broadcast_pair(const std::uint16_t* from) {
    std::int32_t pair = 0;
    std::memcpy(&pair, from, sizeof pair);
    return _mm512_set1_epi32(pair);
}

template <int kGroups, int kTokens>
void tile(const std::uint16_t* w, std::int64_t group_size, std::int64_t pairs, const std::uint16_t* x,
          std::int64_t x_stride, float* out, std::int64_t out_stride) {
    __m512 sum[kGroups][kTokens];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) sum[g][t] = _mm512_setzero_ps();
    }
    for (std::int64_t p = 0; p < pairs; ++p) {
        __m512i line[kGroups];
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g) {
            line[g] = _mm512_loadu_si512(w + g * group_size + p * 2 * pair_rows);
            if (kTokens <= 2) {
                _mm_prefetch(reinterpret_cast<const char*>(w + g * group_size + p * 2 * pair_rows) + 2048,
                             _MM_HINT_T0);
            }
        }
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
            const __m512i pair = broadcast_pair(x + t * x_stride + 2 * p);
#pragma GCC unroll 4
            for (int g = 0; g < kGroups; ++g) {
                sum[g][t] = _mm512_dpbf16_ps(sum[g][t], reinterpret_cast<__m512bh>(line[g]),
                                             reinterpret_cast<__m512bh>(pair));
            }
        }
    }
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
            _mm512_storeu_ps(out + t * out_stride + g * pair_rows, sum[g][t]);
        }
    }
}

template <int kGroups>
void tokens_of_groups(const std::uint16_t* w, const PairMatrix& matrix, const PairActivations& x, float* out,
                      std::int64_t out_stride) {
    const std::int64_t size = matrix.group_size();
    const std::int64_t pairs = matrix.pairs();
    const std::int64_t stride = x.stride();
    std::int64_t t = 0;
    const auto at = [&](std::int64_t token) { return x.values.data() + token * stride; };
    // As many sums as registers hold beside what they are made of.
    constexpr int most = kGroups == 3 ? 8 : 12;
    for (; t + most <= x.tokens; t += most) {
        tile<kGroups, most>(w, size, pairs, at(t), stride, out + t * out_stride, out_stride);
    }
    for (; t + 4 <= x.tokens; t += 4) {
        tile<kGroups, 4>(w, size, pairs, at(t), stride, out + t * out_stride, out_stride);
    }
    for (; t < x.tokens; ++t) {
        tile<kGroups, 1>(w, size, pairs, at(t), stride, out + t * out_stride, out_stride);
    }
}

}  // namespace

PairMatrix pack_pairs(const MatrixView& matrix) {
    PairMatrix packed;
    packed.rows = matrix.rows;
    packed.cols = matrix.cols;
    packed.data = Buffer<std::uint16_t>(packed.groups() * packed.group_size());
    team_each(packed.groups(), [&](std::int64_t group) {
        pack_group(matrix, group * pair_rows, packed.data.data() + group * packed.group_size(),
                   packed.pairs());
    });
    return packed;
}

void pack_pair_activations(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t last,
                           PairActivations& to) {
    for (std::int64_t t = first; t < last; ++t) {
        const float* from = x + t * x_stride;
        std::uint16_t* row = to.values.data() + t * to.stride();
        std::int64_t c = 0;
        for (; c + 16 <= to.cols; c += 16) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + c),
                                reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(from + c))));
        }
        for (; c < to.cols; ++c) row[c] = f32_to_bf16(from[c]);
        if (c < to.stride()) row[c] = 0;
    }
}

void pair_products(const PairMatrix& matrix, std::int64_t first, std::int64_t last, const PairActivations& x,
                   float* out, std::int64_t out_stride) {
    std::int64_t group = first;
    const auto at = [&](std::int64_t g) { return matrix.data.data() + g * matrix.group_size(); };
    if (amx_fits(matrix.cols)) {
        const AmxWeights weights{at(first), matrix.group_size(), last - first, matrix.cols};
        return amx_products(weights, {x.values.data(), x.stride(), x.tokens}, out, out_stride);
    }
    for (; group + 3 <= last; group += 3, out += 3 * pair_rows) {
        tokens_of_groups<3>(at(group), matrix, x, out, out_stride);
    }
    if (group + 2 <= last) {
        tokens_of_groups<2>(at(group), matrix, x, out, out_stride);
        group += 2;
        out += 2 * pair_rows;
    }
    if (group < last) tokens_of_groups<1>(at(group), matrix, x, out, out_stride);
}

}  // namespace retort::tensor

RETORT_AVX512_END
#else
namespace retort::tensor {
// pairs_fit() is false on every such machine.
PairMatrix pack_pairs(const MatrixView&) {
    std::abort();
}
void pack_pair_activations(const float*, std::int64_t, std::int64_t, std::int64_t, PairActivations&) {
    std::abort();
}
void pair_products(const PairMatrix&, std::int64_t, std::int64_t, const PairActivations&, float*,
                   std::int64_t) {
    std::abort();
}
}  // namespace retort::tensor
#endif
