// Products with weights in plain formats (f32, f16, bf16). Internal to the part: tensor/linear.h is the door.
#pragma once

#include <cstdint>

#include "tensor/matrix.h"

namespace retort::tensor {

// out (tokens, end − begin) with row stride out_stride: rows begin … end−1 times every token. A result does
// not depend on how many tokens or rows there are.
void plain_products(const MatrixView& weight, std::int64_t begin, std::int64_t end, const float* x,
                    std::int64_t x_stride, std::int64_t tokens, float* out, std::int64_t out_stride);

// Rows as f32 into panel (end − begin, cols).
void widen_rows(const MatrixView& weight, std::int64_t begin, std::int64_t end, float* panel);

}  // namespace retort::tensor
