// Decode attention over bf16 keys and values by bf16 products: queries and softmax weights are rounded to
// bf16 too, sums stay f32. Internal to the part: tensor/decode_attention.h is the door.
#pragma once

#include "tensor/decode_attention_chunk.h"

namespace retort::tensor {

// Whether this machine and these heads can: else the kernels that widen keys and values serve.
bool bf16_attention_fits(std::int64_t head_dim);
void attend_chunk_bf16(const ChunkTask& task);

}  // namespace retort::tensor
