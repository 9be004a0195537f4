#include "tensor/decode_attention_bf16.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "tensor/avx512_target.h"
#include "tensor/decode_attention_softmax.h"
#include "tensor/dispatch.h"

namespace retort::tensor {

namespace {

constexpr std::int64_t most_head_dim = 256;

}  // namespace

bool bf16_attention_fits(std::int64_t head_dim) {
    return kernel_isa() >= base::Isa::avx512_bf16 && head_dim % 16 == 0 && head_dim <= most_head_dim;
}

}  // namespace retort::tensor

#if defined(__x86_64__)
RETORT_AVX512_BEGIN

namespace retort::tensor {

namespace {

constexpr std::int64_t chunk = attention_chunk_tokens;
constexpr int most_rows = 12;

// Pairs of bf16, as the products take them: of neighbouring dimensions, of neighbouring positions.
struct Workspace {
    alignas(64) std::uint32_t query[most_rows][most_head_dim / 2];
    alignas(64) float scores[most_rows][chunk];
    alignas(64) std::uint32_t weights[most_rows][chunk / 2];
};

inline __m512 multiply_pairs(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

template <int kRows>
void round_queries(const ChunkTask& task, std::int64_t first_row, Workspace& space) {
    for (int r = 0; r < kRows; ++r) {
        const float* q = task.q_of(first_row + r);
        for (std::int64_t i = 0; i < task.head_dim; i += 16) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(space.query[r] + i / 2),
                                round_bf16(_mm512_loadu_ps(q + i)));
        }
    }
}

template <int kRows, int kPages>
void score_pages(const ChunkTask& task, std::int64_t start, __m512 scale, Workspace& space) {
    const std::uint32_t* keys[kPages];
    __m512 sum[kPages][kRows];
#pragma GCC unroll 8
    for (int p = 0; p < kPages; ++p) {
        keys[p] = task.keys_at<std::uint32_t>(start + p * kv_page_tokens);
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) sum[p][r] = _mm512_setzero_ps();
    }
    for (std::int64_t i = 0; i < task.head_dim / 2; ++i) {
        __m512i line[kPages];
#pragma GCC unroll 8
        for (int p = 0; p < kPages; ++p) line[p] = _mm512_loadu_si512(keys[p] + i * kv_page_tokens);
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
            const __m512i pair = _mm512_set1_epi32(static_cast<int>(space.query[r][i]));
#pragma GCC unroll 8
            for (int p = 0; p < kPages; ++p) sum[p][r] = multiply_pairs(sum[p][r], line[p], pair);
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPages; ++p) {
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
            _mm512_store_ps(space.scores[r] + start + p * kv_page_tokens, _mm512_mul_ps(sum[p][r], scale));
        }
    }
}

template <int kRows, int kVectors>
void mix_values(const ChunkTask& task, std::int64_t first_row, std::int64_t offset, const Workspace& space) {
    __m512 sum[kRows][kVectors];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_setzero_ps();
    }
    const std::int64_t longest = task.longest();
    const auto add_pair = [&](const std::uint32_t* values, std::int64_t pair, __m512i mask) {
        __m512i line[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            line[v] = _mm512_and_si512(_mm512_loadu_si512(values + 16 * v), mask);
        }
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
            const __m512i weight = _mm512_set1_epi32(static_cast<int>(space.weights[r][pair]));
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sum[r][v] = multiply_pairs(sum[r][v], line[v], weight);
        }
    };
    const __m512i both = _mm512_set1_epi32(-1);
    for (std::int64_t start = 0; start < longest; start += kv_page_tokens) {
        const std::uint32_t* values = task.values_at<std::uint32_t>(start) + offset;
        const std::int64_t end = std::min(longest, start + kv_page_tokens);
        for (std::int64_t j = start; j + 2 <= end; j += 2, values += task.head_dim) {
            add_pair(values, j / 2, both);
        }
        // The last position's neighbour is not this sequence's yet: whatever is there, even no number.
        if (end % 2 != 0) add_pair(values, end / 2, _mm512_set1_epi32(0xffff));
    }
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
        float* out = task.out + (first_row + r) * task.head_dim + offset;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(out + 16 * v, sum[r][v]);
    }
}

template <int kRows>
void attend_rows(const ChunkTask& task, std::int64_t first_row, Workspace& space) {
    constexpr int pages = kRows >= 12 ? 2 : kRows >= 6 ? 4 : 8;  // what the registers hold the sums of
    constexpr int vectors = kRows >= 12 ? 2 : 4;
    assert(task.head_dim > 0 && task.head_dim % 16 == 0);  // bf16_attention_fits()
    const __m512 scale = _mm512_set1_ps(1.0F / std::sqrt(static_cast<float>(task.head_dim)));
    round_queries<kRows>(task, first_row, space);
    const std::int64_t longest = task.longest();
    std::int64_t start = 0;
    for (; start + (pages - 1) * kv_page_tokens < longest; start += pages * kv_page_tokens) {
        score_pages<kRows, pages>(task, start, scale, space);
    }
    for (; start < longest; start += kv_page_tokens) score_pages<kRows, 1>(task, start, scale, space);
    for (int r = 0; r < kRows; ++r) {
        const std::int64_t row = first_row + r;
        soften(space.scores[r], space.weights[r], task.length_of(row), longest, task.maximum + row,
               task.sum + row);
    }
    std::int64_t offset = 0;
    for (; offset + 16 * vectors <= task.head_dim; offset += 16 * vectors) {
        mix_values<kRows, vectors>(task, first_row, offset, space);
    }
    for (; offset < task.head_dim; offset += 16) mix_values<kRows, 1>(task, first_row, offset, space);
}

}  // namespace

void attend_chunk_bf16(const ChunkTask& task) {
    Workspace space;
    const std::int64_t rows = task.rows();
    std::int64_t row = 0;
    for (; row + 12 <= rows; row += 12) attend_rows<12>(task, row, space);
    for (; row + 6 <= rows; row += 6) attend_rows<6>(task, row, space);
    for (; row + 3 <= rows; row += 3) attend_rows<3>(task, row, space);
    for (; row < rows; ++row) attend_rows<1>(task, row, space);
}

void store_page_bf16(std::byte* page, const AttentionShape& shape, const float* keys, const float* values,
                     std::int64_t stride) {
    const std::int64_t kv_size = shape.kv_heads * shape.head_dim;
    auto* lines = reinterpret_cast<std::uint32_t*>(page);
    alignas(64) std::uint16_t rows[kv_page_tokens][32];  // of 32 dimensions: 16 pairs
    for (std::int64_t i = 0; i < kv_size; i += 32) {
        const std::int64_t pairs = std::min<std::int64_t>(16, (kv_size - i) / 2);
        for (std::int64_t t = 0; t < kv_page_tokens; ++t) {
            const float* key = keys + t * stride + i;
            store_16(rows[t], round_bf16(_mm512_loadu_ps(key)));
            if (pairs > 8) store_16(rows[t] + 16, round_bf16(_mm512_loadu_ps(key + 16)));
        }
        alignas(64) std::uint32_t turned[16][kv_page_tokens];
        transpose_dwords(reinterpret_cast<const std::uint32_t*>(rows), 16, turned[0]);
        std::memcpy(lines + i / 2 * kv_page_tokens, turned,
                    static_cast<std::size_t>(pairs) * sizeof(turned[0]));
    }
    lines += kv_size / 2 * kv_page_tokens;
    for (std::int64_t h = 0; h < shape.kv_heads; ++h) {
        for (std::int64_t t = 0; t < kv_page_tokens; t += 2, lines += shape.head_dim) {
            const float* value = values + t * stride + h * shape.head_dim;
            for (std::int64_t i = 0; i < shape.head_dim; i += 16) {
                _mm512_storeu_si512(lines + i, pair_rows_of(round_bf16(_mm512_loadu_ps(value + i)),
                                                            round_bf16(_mm512_loadu_ps(value + stride + i))));
            }
        }
    }
}

}  // namespace retort::tensor

RETORT_AVX512_END
#else
namespace retort::tensor {
void store_page_bf16(std::byte*, const AttentionShape&, const float*, const float*, std::int64_t) {
    std::abort();
}
void attend_chunk_bf16(const ChunkTask&) {
    std::abort();  // bf16_attention_fits() is false on every such machine
}
}  // namespace retort::tensor
#endif
