// Causal grouped-query attention over packed sequences, blocked and streaming (Dao et al. 2022): never a T ×
// T matrix. Sequences are ranges of rows; a token sees itself and the earlier tokens of its own sequence.
#pragma once

#include <cstdint>
#include <span>

namespace retort::tensor {

struct AttentionShape {
    std::int64_t heads = 0;
    std::int64_t kv_heads = 0;  // divides heads; head h reads kv head h / (heads/kv_heads)
    std::int64_t head_dim = 0;

    [[nodiscard]] std::int64_t query_size() const { return heads * head_dim; }
    [[nodiscard]] std::int64_t row_size() const { return (heads + 2 * kv_heads) * head_dim; }
};

// qkv (T, row_size): a row's query heads, key heads, value heads. sequence_starts (n+1) ends with T.
// out (T, heads·head_dim); log_sum_exp (T, heads) is kept for the backward pass. Scores are scaled by
// 1/sqrt(head_dim).
void attention(const float* qkv, std::span<const std::int32_t> sequence_starts, const AttentionShape& shape,
               float* out, float* log_sum_exp);

// d_qkv (T, row_size) is overwritten.
void attention_backward(const float* qkv, const float* out, const float* log_sum_exp, const float* d_out,
                        std::span<const std::int32_t> sequence_starts, const AttentionShape& shape,
                        float* d_qkv);

// Dense, in double precision.
void attention_reference(const float* qkv, std::span<const std::int32_t> sequence_starts,
                         const AttentionShape& shape, float* out);

}  // namespace retort::tensor
