// The inner loops of tensor/linear.cpp, one thread's share of the rows each. Internal to the part.
#pragma once

#include <cstdint>

#include "tensor/matrix.h"

namespace retort::tensor {

// y[t·y_stride + row] = weight[row]·x[t] for rows begin … end−1.
void linear_rows(const MatrixView& weight, std::int64_t begin, std::int64_t end, const float* x,
                 std::int64_t x_stride, std::int64_t tokens, float* y, std::int64_t y_stride);

// Rows as f32 into panel (end − begin, cols).
void dequantise_rows(const MatrixView& weight, std::int64_t begin, std::int64_t end, float* panel);

}  // namespace retort::tensor
