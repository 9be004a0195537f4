#include "tensor/attention_amx.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "tensor/amx_gemm_tiles.h"
#include "tensor/buffer.h"
#include "tensor/dispatch.h"

namespace retort::tensor {

bool amx_attention_fits(const AttentionShape& shape) {
    return kernel_isa() >= base::Isa::amx && shape.head_dim % 32 == 0 && shape.head_dim <= 256;
}

}  // namespace retort::tensor

#if defined(__x86_64__)
RETORT_AMX_BEGIN

namespace retort::tensor {

namespace {

constexpr std::int64_t query_block = 64;  // tokens of one head
constexpr std::int64_t key_block = 128;   // forward
constexpr std::int64_t key_step = 64;     // backward

std::int64_t padded(std::int64_t tokens) {
    return (tokens + 31) / 32 * 32;
}

// A sequence, its rows in the batch and in buffers where each is padded to whole tiles.
struct Sequence {
    std::int64_t begin = 0;
    std::int64_t size = 0;
    std::int64_t padded_begin = 0;
    [[nodiscard]] std::int64_t padded_size() const { return padded(size); }
};

std::vector<Sequence> sequences_of(std::span<const std::int32_t> starts) {
    std::vector<Sequence> all;
    std::int64_t at = 0;
    for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
        const Sequence one{starts[s], starts[s + 1] - starts[s], at};
        if (one.size == 0) continue;
        all.push_back(one);
        at += one.padded_size();
    }
    return all;
}

// Memory that grows and is kept, aligned to lines.
template <typename T>
T* at_least(Buffer<T>& buffer, std::int64_t count) {
    if (buffer.size() < count) buffer = Buffer<T>(count);
    return buffer.data();
}

// Rows of `dim` bf16 into dense ones, zero from `rows` on.
void copy_rows(const std::uint16_t* from, std::int64_t stride, std::int64_t rows, std::int64_t padded_rows,
               std::int64_t dim, std::uint16_t* to) {
    for (std::int64_t r = 0; r < rows; ++r)
        std::memcpy(to + r * dim, from + r * stride, static_cast<std::size_t>(dim) * 2);
    std::fill(to + rows * dim, to + padded_rows * dim, std::uint16_t{0});
}

// Dense rows as columns of a product: groups of 16 rows, lines of pairs of dimensions.
void rows_to_columns(const std::uint16_t* rows, std::int64_t count, std::int64_t dim, std::uint16_t* to) {
    for (std::int64_t r = 0; r < count; r += 16) {
        for (std::int64_t i = 0; i < dim; i += 32) {
            transpose_dwords(reinterpret_cast<const std::uint32_t*>(rows + r * dim + i), dim / 2,
                             reinterpret_cast<std::uint32_t*>(to + r * dim + i * 16));
        }
    }
}

// Dense rows as what a product sums over: groups of 16 dimensions, lines of pairs of rows.
void rows_to_pairs(const std::uint16_t* rows, std::int64_t count, std::int64_t dim, std::uint16_t* to,
                   std::int64_t group) {
    for (std::int64_t r = 0; r < count; r += 2) {
        for (std::int64_t i = 0; i < dim; i += 16) {
            _mm512_storeu_si512(to + i / 16 * group + r * 16,
                                pair_rows_of(load_16(rows + r * dim + i), load_16(rows + (r + 1) * dim + i)));
        }
    }
}

// One row of scores and its weights: exp(scale·score − top) rounded, zero beyond `seen`. Returns by how much
// what was summed before shrinks.
float soften_row(const float* scores, std::int64_t seen, std::int64_t keys, float scale, float& top,
                 float& total, std::uint16_t* weights) {
    if (seen == 0) {
        std::fill_n(weights, keys, std::uint16_t{0});
        return 1.0F;
    }
    const auto mask_of = [seen](std::int64_t i) {
        const std::int64_t left = std::clamp<std::int64_t>(seen - i, 0, 16);
        return static_cast<__mmask16>((1U << static_cast<unsigned>(left)) - 1U);
    };
    __m512 largest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    for (std::int64_t i = 0; i < seen; i += 16)
        largest = _mm512_mask_max_ps(largest, mask_of(i), largest, _mm512_loadu_ps(scores + i));
    const float new_top = std::max(top, scale * _mm512_reduce_max_ps(largest));
    const __m512 shift = _mm512_set1_ps(new_top);
    const __m512 factor = _mm512_set1_ps(scale);
    __m512 sum = _mm512_setzero_ps();
    std::int64_t i = 0;
    for (; i < seen; i += 16) {
        const __m512 power = _mm512_maskz_mov_ps(
            mask_of(i), exponential_bf16(_mm512_fmsub_ps(_mm512_loadu_ps(scores + i), factor, shift)));
        sum = _mm512_add_ps(sum, power);
        store_16(weights + i, round_bf16(power));
    }
    for (; i < keys; i += 16) store_16(weights + i, _mm256_setzero_si256());
    const float shrink = std::exp(top - new_top);
    total = total * shrink + _mm512_reduce_add_ps(sum);
    top = new_top;
    return shrink;
}

void scale_row(float* row, std::int64_t size, float factor) {
    for (std::int64_t i = 0; i < size; i += 16) {
        _mm512_storeu_ps(row + i, _mm512_mul_ps(_mm512_loadu_ps(row + i), _mm512_set1_ps(factor)));
    }
}

// Keys and values of all sequences, as the products of forward want them: sequence s and kv head h begin at
// (h·total + s.padded_begin)·dim of both.
struct KeyValues {
    Buffer<std::uint16_t> keys;
    Buffer<std::uint16_t> values;
    std::int64_t total = 0;
};

void pack_key_values(const std::uint16_t* qkv, const AttentionShape& shape, const Sequence& s,
                     std::int64_t head, KeyValues& to) {
    const std::int64_t dim = shape.head_dim;
    const std::int64_t stride = shape.row_size();
    const std::int64_t size = s.padded_size();
    thread_local Buffer<std::uint16_t> buffer;
    std::uint16_t* rows = at_least(buffer, size * dim);
    const std::uint16_t* from = qkv + s.begin * stride + (shape.heads + head) * dim;
    const std::int64_t base = (head * to.total + s.padded_begin) * dim;
    copy_rows(from, stride, s.size, size, dim, rows);
    rows_to_columns(rows, size, dim, to.keys.data() + base);
    copy_rows(from + shape.kv_heads * dim, stride, s.size, size, dim, rows);
    rows_to_pairs(rows, size, dim, to.values.data() + base, size * 16);
}

struct ForwardTask {
    const Sequence* sequence = nullptr;
    std::int64_t query_begin = 0;  // in the sequence
    std::int64_t kv_head = 0;
};

void forward_task(const std::uint16_t* qkv, const AttentionShape& shape, const ForwardTask& task,
                  const KeyValues& kv, std::uint16_t* out, float* log_sum_exp) {
    const Sequence& s = *task.sequence;
    const std::int64_t dim = shape.head_dim;
    const std::int64_t tokens = std::min(query_block, s.size - task.query_begin);
    const std::int64_t m = padded(tokens) / 32;
    const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
    thread_local Buffer<std::uint16_t> narrow;
    thread_local Buffer<float> wide;
    std::uint16_t* query = at_least(narrow, query_block * (dim + key_block));
    std::uint16_t* weights = query + query_block * dim;
    float* sum = at_least(wide, query_block * (dim + key_block));
    float* scores = sum + query_block * dim;
    float top[query_block];
    float total[query_block];
    const std::int64_t base = (task.kv_head * kv.total + s.padded_begin) * dim;
    const std::uint16_t* keys_of = kv.keys.data() + base;
    const std::uint16_t* values_of = kv.values.data() + base;
    const std::int64_t last = task.query_begin + tokens;  // keys that any of the queries sees
    const AmxTiles tiles;
    for (std::int64_t g = 0; g < shape.heads / shape.kv_heads; ++g) {
        const std::int64_t head = task.kv_head * (shape.heads / shape.kv_heads) + g;
        copy_rows(qkv + (s.begin + task.query_begin) * shape.row_size() + head * dim, shape.row_size(),
                  tokens, m * 32, dim, query);
        std::fill_n(sum, m * 32 * dim, 0.0F);
        std::fill_n(weights, m * 32 * key_block, std::uint16_t{0});
        std::fill_n(top, query_block, -std::numeric_limits<float>::infinity());
        std::fill_n(total, query_block, 0.0F);
        for (std::int64_t key = 0; key < last; key += key_block) {
            const std::int64_t keys = padded(std::min(key_block, last - key));
            tile_gemm<false>(query, dim, keys_of + key * dim, dim * 16, scores, key_block, scores, key_block,
                             m, keys / 32, dim / 32);
            for (std::int64_t r = 0; r < tokens; ++r) {
                const std::int64_t seen =
                    std::clamp<std::int64_t>(task.query_begin + r + 1 - key, 0, std::min(keys, last - key));
                const float shrink = soften_row(scores + r * key_block, seen, keys, scale, top[r], total[r],
                                                weights + r * key_block);
                if (shrink != 1.0F) scale_row(sum + r * dim, dim, shrink);
            }
            tile_gemm<true>(weights, key_block, values_of + key * 16, s.padded_size() * 16, sum, dim, sum,
                            dim, m, dim / 32, keys / 32);
        }
        for (std::int64_t r = 0; r < tokens; ++r) {
            const std::int64_t token = s.begin + task.query_begin + r;
            std::uint16_t* to = out + token * shape.query_size() + head * dim;
            const __m512 factor = _mm512_set1_ps(1.0F / total[r]);
            for (std::int64_t i = 0; i < dim; i += 16) {
                store_16(to + i, round_bf16(_mm512_mul_ps(_mm512_loadu_ps(sum + r * dim + i), factor)));
            }
            log_sum_exp[token * shape.heads + head] = top[r] + std::log(total[r]);
        }
    }
}

// One sequence and one kv head: all that adds into its keys' and values' gradients. Scores are made with keys
// as rows, so that what the gradients of keys and values multiply lies as it is needed.
struct BackwardSpace {
    std::uint16_t* keys;         // (keys, dim)
    std::uint16_t* values;       // the same
    std::uint16_t* keys_turned;  // (dim, keys)
    std::uint16_t* query;        // (query_block, dim)
    std::uint16_t* d_result;
    std::uint16_t* query_columns;
    std::uint16_t* d_result_columns;
    std::uint16_t* query_pairs;
    std::uint16_t* d_result_pairs;
    std::uint16_t* p;        // (key_step, query_block)
    std::uint16_t* d_score;  // the same
    std::uint16_t* d_score_pairs;
    float* d_keys;             // (keys, dim)
    float* d_values;           // the same
    float* scores;             // (key_step, query_block)
    float* d_weights;          // the same
    float* d_query;            // (dim, query_block)
    float shift[query_block];  // log-sum-exp
    float delta[query_block];
};

BackwardSpace backward_space(std::int64_t keys, std::int64_t dim) {
    thread_local Buffer<std::uint16_t> narrow;
    thread_local Buffer<float> wide;
    BackwardSpace space{};
    std::uint16_t* at = at_least(narrow, 3 * keys * dim + 6 * query_block * dim + 3 * key_step * query_block);
    const auto take = [&at](std::int64_t count) { return std::exchange(at, at + count); };
    space.keys = take(keys * dim);
    space.values = take(keys * dim);
    space.keys_turned = take(keys * dim);
    for (auto* one : {&space.query, &space.d_result, &space.query_columns, &space.d_result_columns,
                      &space.query_pairs, &space.d_result_pairs}) {
        *one = take(query_block * dim);
    }
    for (auto* one : {&space.p, &space.d_score, &space.d_score_pairs}) *one = take(key_step * query_block);
    float* from = at_least(wide, 2 * keys * dim + 2 * key_step * query_block + dim * query_block);
    space.d_keys = from;
    space.d_values = from + keys * dim;
    space.scores = space.d_values + keys * dim;
    space.d_weights = space.scores + key_step * query_block;
    space.d_query = space.d_weights + key_step * query_block;
    std::fill_n(from, 2 * keys * dim, 0.0F);
    return space;
}

// p and the gradients of scores, of keys `key` … key + keys − 1 (rows) and the block's queries.
void score_gradients(const BackwardSpace& space, std::int64_t key, std::int64_t keys,
                     std::int64_t query_begin, std::int64_t tokens, float scale) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512 factor = _mm512_set1_ps(scale);
    for (std::int64_t c = 0; c < query_block; c += 16) {
        const __m512 shift = _mm512_loadu_ps(space.shift + c);
        const __m512 delta = _mm512_loadu_ps(space.delta + c);
        const __m512i token = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(query_begin + c)));
        const __mmask16 real =
            _mm512_cmplt_epi32_mask(token, _mm512_set1_epi32(static_cast<int>(query_begin + tokens)));
        for (std::int64_t r = 0; r < keys; r += 2) {
            __m256i gradient[2];
#pragma GCC unroll 2
            for (int i = 0; i < 2; ++i) {
                const std::int64_t at = (r + i) * query_block + c;
                const __mmask16 seen = _mm512_mask_cmpge_epi32_mask(
                    real, token, _mm512_set1_epi32(static_cast<int>(key + r + i)));
                const __m512 score = _mm512_fmsub_ps(_mm512_loadu_ps(space.scores + at), factor, shift);
                const __m512 p = _mm512_maskz_mov_ps(seen, exponential_bf16(score));
                const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(space.d_weights + at), delta);
                gradient[i] = round_bf16(_mm512_mul_ps(_mm512_mul_ps(p, factor), d));
                store_16(space.p + at, round_bf16(p));
                store_16(space.d_score + at, gradient[i]);
            }
            _mm512_storeu_si512(space.d_score_pairs + c / 16 * key_step * 16 + r * 16,
                                pair_rows_of(gradient[0], gradient[1]));
        }
    }
}

void backward_task(const std::uint16_t* qkv, const std::uint16_t* out, const float* log_sum_exp,
                   const std::uint16_t* d_out, const AttentionShape& shape, const Sequence& s,
                   std::int64_t kv_head, float* d_qkv) {
    const std::int64_t dim = shape.head_dim;
    const std::int64_t stride = shape.row_size();
    const std::int64_t keys = s.padded_size();
    const std::int64_t heads = shape.heads / shape.kv_heads;
    const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
    BackwardSpace space = backward_space(keys, dim);
    const std::int64_t key_at = (shape.heads + kv_head) * dim;
    const std::int64_t value_at = key_at + shape.kv_heads * dim;
    copy_rows(qkv + s.begin * stride + key_at, stride, s.size, keys, dim, space.keys);
    copy_rows(qkv + s.begin * stride + value_at, stride, s.size, keys, dim, space.values);
    for (std::int64_t r = 0; r < keys; ++r) {
        for (std::int64_t i = 0; i < dim; ++i) space.keys_turned[i * keys + r] = space.keys[r * dim + i];
    }
    const AmxTiles tiles;
    for (std::int64_t begin = 0; begin < s.size; begin += query_block) {
        const std::int64_t tokens = std::min(query_block, s.size - begin);
        const std::int64_t last = begin + tokens;
        for (std::int64_t head = kv_head * heads; head < (kv_head + 1) * heads; ++head) {
            const std::int64_t row = s.begin + begin;
            copy_rows(qkv + row * stride + head * dim, stride, tokens, query_block, dim, space.query);
            const std::uint16_t* o = out + row * shape.query_size() + head * dim;
            const std::uint16_t* d_o = d_out + row * shape.query_size() + head * dim;
            copy_rows(d_o, shape.query_size(), tokens, query_block, dim, space.d_result);
            rows_to_columns(space.query, query_block, dim, space.query_columns);
            rows_to_columns(space.d_result, query_block, dim, space.d_result_columns);
            rows_to_pairs(space.query, query_block, dim, space.query_pairs, query_block * 16);
            rows_to_pairs(space.d_result, query_block, dim, space.d_result_pairs, query_block * 16);
            for (std::int64_t t = 0; t < query_block; ++t) {
                space.shift[t] = t < tokens ? log_sum_exp[(row + t) * shape.heads + head] : 0.0F;
                __m512 sum = _mm512_setzero_ps();
                for (std::int64_t i = 0; t < tokens && i < dim; i += 16) {
                    const std::int64_t at = t * shape.query_size() + i;
                    sum = _mm512_fmadd_ps(widen_bf16(load_16(o + at)), widen_bf16(load_16(d_o + at)), sum);
                }
                space.delta[t] = _mm512_reduce_add_ps(sum);
            }
            std::fill_n(space.d_query, dim * query_block, 0.0F);
            for (std::int64_t key = 0; key < last; key += key_step) {
                const std::int64_t count = padded(std::min(key_step, last - key));
                const std::int64_t m = count / 32;
                tile_gemm<false>(space.keys + key * dim, dim, space.query_columns, dim * 16, space.scores,
                                 query_block, space.scores, query_block, m, query_block / 32, dim / 32);
                tile_gemm<false>(space.values + key * dim, dim, space.d_result_columns, dim * 16,
                                 space.d_weights, query_block, space.d_weights, query_block, m,
                                 query_block / 32, dim / 32);
                score_gradients(space, key, count, begin, tokens, scale);
                tile_gemm<true>(space.p, query_block, space.d_result_pairs, query_block * 16,
                                space.d_values + key * dim, dim, space.d_values + key * dim, dim, m, dim / 32,
                                query_block / 32);
                tile_gemm<true>(space.d_score, query_block, space.query_pairs, query_block * 16,
                                space.d_keys + key * dim, dim, space.d_keys + key * dim, dim, m, dim / 32,
                                query_block / 32);
                tile_gemm<true>(space.keys_turned + key, keys, space.d_score_pairs, key_step * 16,
                                space.d_query, query_block, space.d_query, query_block, dim / 32,
                                query_block / 32, m);
            }
            float turned[256];
            for (std::int64_t t = 0; t < tokens; t += 16) {
                for (std::int64_t i = 0; i < dim; i += 16) {
                    transpose_dwords(
                        reinterpret_cast<const std::uint32_t*>(space.d_query + i * query_block + t),
                        query_block, reinterpret_cast<std::uint32_t*>(turned));
                    for (std::int64_t r = 0; r < std::min<std::int64_t>(16, tokens - t); ++r) {
                        std::memcpy(d_qkv + (row + t + r) * stride + head * dim + i, turned + r * 16, 64);
                    }
                }
            }
        }
    }
    for (std::int64_t r = 0; r < s.size; ++r) {
        float* to = d_qkv + (s.begin + r) * stride;
        std::memcpy(to + key_at, space.d_keys + r * dim, static_cast<std::size_t>(dim) * 4);
        std::memcpy(to + value_at, space.d_values + r * dim, static_cast<std::size_t>(dim) * 4);
    }
}

}  // namespace

void attention_amx(const std::uint16_t* qkv, std::span<const std::int32_t> sequence_starts,
                   const AttentionShape& shape, std::uint16_t* out, float* log_sum_exp) {
    const std::vector<Sequence> sequences = sequences_of(sequence_starts);
    if (sequences.empty()) return;
    thread_local KeyValues packed;
    KeyValues& kv = packed;  // of this thread, for the others too
    kv.total = sequences.back().padded_begin + sequences.back().padded_size();
    at_least(kv.keys, kv.total * shape.kv_heads * shape.head_dim);
    at_least(kv.values, kv.total * shape.kv_heads * shape.head_dim);
    const auto count = static_cast<std::int64_t>(sequences.size());
    base::parallel_each(count * shape.kv_heads, [&](std::int64_t i) {
        pack_key_values(qkv, shape, sequences[static_cast<std::size_t>(i / shape.kv_heads)],
                        i % shape.kv_heads, kv);
    });
    std::vector<ForwardTask> tasks;
    for (const Sequence& s : sequences) {
        // Later blocks see more keys: handed out first, they leave the short ones to even out the end.
        for (std::int64_t b = (s.size + query_block - 1) / query_block - 1; b >= 0; --b) {
            for (std::int64_t h = 0; h < shape.kv_heads; ++h) tasks.push_back({&s, b * query_block, h});
        }
    }
    base::parallel_each(static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i) {
        forward_task(qkv, shape, tasks[static_cast<std::size_t>(i)], kv, out, log_sum_exp);
    });
}

void attention_backward_amx(const std::uint16_t* qkv, const std::uint16_t* out, const float* log_sum_exp,
                            const std::uint16_t* d_out, std::span<const std::int32_t> sequence_starts,
                            const AttentionShape& shape, float* d_qkv) {
    std::vector<Sequence> sequences = sequences_of(sequence_starts);
    std::stable_sort(sequences.begin(), sequences.end(),
                     [](const Sequence& a, const Sequence& b) { return a.size > b.size; });
    const auto count = static_cast<std::int64_t>(sequences.size());
    base::parallel_each(count * shape.kv_heads, [&](std::int64_t i) {
        backward_task(qkv, out, log_sum_exp, d_out, shape,
                      sequences[static_cast<std::size_t>(i / shape.kv_heads)], i % shape.kv_heads, d_qkv);
    });
}

}  // namespace retort::tensor

RETORT_AMX_END
#else
namespace retort::tensor {
void attention_amx(const std::uint16_t*, std::span<const std::int32_t>, const AttentionShape&, std::uint16_t*,
                   float*) {
    std::abort();  // amx_attention_fits() is false on every such machine
}
void attention_backward_amx(const std::uint16_t*, const std::uint16_t*, const float*, const std::uint16_t*,
                            std::span<const std::int32_t>, const AttentionShape&, float*) {
    std::abort();
}
}  // namespace retort::tensor
#endif
