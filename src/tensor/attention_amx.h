// Training's attention in AMX's tiles: products of bf16, sums and exponentials in f32; blocked and streaming
// as tensor/attention.h's, which serves every other machine and f32.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/attention.h"

namespace retort::tensor {

// Whether the active path has AMX and heads of this size fit its tiles.
bool amx_attention_fits(const AttentionShape& shape);

// As attention() and attention_backward(), with qkv, out and d_out in bf16. Weights of the values, and the
// gradients of scores, are rounded to bf16 too where they enter a product.
void attention_amx(const std::uint16_t* qkv, std::span<const std::int32_t> sequence_starts,
                   const AttentionShape& shape, std::uint16_t* out, float* log_sum_exp);
void attention_backward_amx(const std::uint16_t* qkv, const std::uint16_t* out, const float* log_sum_exp,
                            const std::uint16_t* d_out, std::span<const std::int32_t> sequence_starts,
                            const AttentionShape& shape, float* d_qkv);

}  // namespace retort::tensor
