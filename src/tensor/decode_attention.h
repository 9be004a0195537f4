// Attention of new tokens over a paged cache of keys and values, for generation. Training's attention, over
// packed sequences and with a backward pass, is tensor/attention.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/attention.h"
#include "tensor/dtype.h"

namespace retort::tensor {

// Tokens a page holds. Keys of a head lie (head_dim, page) so that scores of neighbouring tokens are
// neighbours in a vector; values lie (page, head_dim). In bf16 two dimensions of a key, and two tokens of a
// value, share 32 bits, as bf16 products take them: keys (head_dim/2, page, 2), values (page/2, head_dim, 2).
constexpr std::int64_t kv_page_tokens = 16;

// One layer's part of the cache. Page p begins at data + p·page_stride: keys (kv_heads, head_dim, page), then
// values (kv_heads, page, head_dim), in f32 or bf16. bf16 rounds keys and values as they are stored; with
// bf16 products the kernels round queries and softmax weights as well.
struct PagedKeyValues {
    std::byte* data = nullptr;
    std::int64_t page_stride = 0;  // bytes
    DType dtype = DType::f32;
};

// Bytes of a page of one layer.
std::int64_t kv_page_bytes(const AttentionShape& shape, DType dtype);

struct PagedQuery {
    const std::int32_t* pages = nullptr;  // of its sequence, in order
    std::int64_t length = 0;              // positions it sees: its own and all before
};

// Writes the keys and values (kv_heads·head_dim each, `stride` floats from a token to the next) of `count`
// tokens from `position` of their sequence on.
void store_key_values(const PagedKeyValues& cache, const AttentionShape& shape, const std::int32_t* pages,
                      std::int64_t position, std::int64_t count, const float* keys, const float* values,
                      std::int64_t stride);

// q (queries, heads·head_dim) with row stride q_stride; out (queries, heads·head_dim). Scores are scaled by
// 1/sqrt(head_dim). A query's result does not depend on the other queries.
void paged_attention(const PagedKeyValues& cache, const AttentionShape& shape,
                     std::span<const PagedQuery> queries, const float* q, std::int64_t q_stride, float* out,
                     std::int64_t out_stride);

}  // namespace retort::tensor
