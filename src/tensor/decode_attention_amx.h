// Decode attention over bf16 keys and values in AMX's tiles: many neighbouring queries of a prompt, or one.
// As decode_attention_bf16.h otherwise. Internal to the part: tensor/decode_attention.h is the door.
#pragma once

#include "tensor/decode_attention_chunk.h"

namespace retort::tensor {

// Whether the active path has AMX and heads of this size fit its tiles.
bool amx_decode_attention_fits(std::int64_t head_dim);
void attend_chunk_amx(const ChunkTask& task);

}  // namespace retort::tensor
