// One chunk of a paged context, which the kernels of decode attention compute: the unit that threads share
// out and whose results are merged in order. Internal to the part: tensor/decode_attention.h is the door.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/decode_attention.h"

namespace retort::tensor {

// Positions whose softmax is taken at once; longer contexts are merged from such chunks, in order, so that
// the result does not depend on which thread took which chunk.
constexpr std::int64_t attention_chunk_tokens = 256;

// One kv head of `queries` neighbouring queries over one chunk of positions. Row i is head i % group of query
// i / group; a row's numbers do not depend on the other rows.
struct ChunkTask {
    const std::byte* cache;  // of this layer
    std::int64_t page_stride;
    std::int64_t key_offset;    // of the kv head in a page, bytes
    std::int64_t value_offset;  // the same
    const std::int32_t* pages;  // of the chunk
    std::int64_t length;        // of the first query, 1 … attention_chunk_tokens
    std::int64_t queries;
    const float* q;         // (queries, group, head_dim)
    std::int64_t q_stride;  // of a query
    std::int64_t group;
    std::int64_t head_dim;
    float* out;             // (queries, group, head_dim): Σ exp(s − max)·v
    float* maximum;         // (queries, group)
    float* sum;             // (queries, group): Σ exp(s − max)
    std::int64_t step = 1;  // each next query sees so many more: 1, or 0 where all see the whole chunk

    [[nodiscard]] std::int64_t rows() const { return queries * group; }
    [[nodiscard]] std::int64_t longest() const { return length + (queries - 1) * step; }
    [[nodiscard]] std::int64_t length_of(std::int64_t row) const { return length + row / group * step; }
    [[nodiscard]] const float* q_of(std::int64_t row) const {
        return q + row / group * q_stride + row % group * head_dim;
    }
    // Keys and values of the page that position `start` begins.
    template <typename T>
    [[nodiscard]] const T* keys_at(std::int64_t start) const {
        return reinterpret_cast<const T*>(cache + pages[start / kv_page_tokens] * page_stride + key_offset);
    }
    template <typename T>
    [[nodiscard]] const T* values_at(std::int64_t start) const {
        return reinterpret_cast<const T*>(cache + pages[start / kv_page_tokens] * page_stride + value_offset);
    }
};

}  // namespace retort::tensor
