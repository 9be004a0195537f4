// Decode attention over bf16 keys and values by bf16 products: queries and softmax weights are rounded to
// bf16 too, sums stay f32. Internal to the part: tensor/decode_attention.h is the door.
#pragma once

#include "tensor/decode_attention_chunk.h"

namespace retort::tensor {

// Whether this machine and these heads can: else the kernels that widen keys and values serve.
bool bf16_attention_fits(std::int64_t head_dim);
void attend_chunk_bf16(const ChunkTask& task);

// A whole page of keys and values, as store_key_values() lays them out; rows are `stride` floats apart.
void store_page_bf16(std::byte* page, const AttentionShape& shape, const float* keys, const float* values,
                     std::int64_t stride);

}  // namespace retort::tensor
