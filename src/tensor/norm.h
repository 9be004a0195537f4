// RMSNorm: y = w · x / sqrt(mean(x²) + ε), over the last dimension (Zhang & Sennrich 2019).
#pragma once

#include <cstdint>

namespace retort::tensor {

// x, y (rows, size) with row strides; rstd (rows) receives 1/sqrt(mean(x²) + ε). x and y may be the same.
void rms_norm(const float* x, std::int64_t x_stride, const float* weight, float epsilon, std::int64_t rows,
              std::int64_t size, float* y, std::int64_t y_stride, float* rstd);

// Adds to dx (rows, size) and to d_weight (size): dx += r·(w·dy) − x·r³/size·Σ(w·dy·x), dw += Σ_rows dy·x·r.
// d_weight may be null: a frozen weight's gradient is nobody's.
void rms_norm_backward(const float* x, std::int64_t x_stride, const float* weight, const float* rstd,
                       const float* dy, std::int64_t dy_stride, std::int64_t rows, std::int64_t size,
                       float* dx, std::int64_t dx_stride, float* d_weight);

void rms_norm_reference(const float* x, const float* weight, float epsilon, std::int64_t rows,
                        std::int64_t size, float* y);

}  // namespace retort::tensor
