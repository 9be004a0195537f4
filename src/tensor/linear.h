// Linear layers of a model that runs: y = x·Wᵀ with W in the format of the model file, x and y in f32, sums
// in f32. Weights are unpacked in registers or in cache-sized panels, never whole. Training's products, whose
// weights are f32 or bf16 in memory, are tensor/gemm.h.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/matrix.h"

namespace retort::tensor {

struct LinearTask {
    MatrixView weight;            // (rows, cols)
    float* y = nullptr;           // (tokens, rows), row stride y_stride
    std::int64_t y_stride = 0;    // at least weight.rows
    const float* bias = nullptr;  // (rows), may be null
    bool add = false;             // y += instead of y =
};

// All tasks read the same x (tokens, cols), row stride x_stride, and have the same cols: one parallel region.
// Up to linear_exact_tokens tokens, a token's result does not depend on how many others there are.
void linear(std::span<const LinearTask> tasks, const float* x, std::int64_t x_stride, std::int64_t tokens);
void linear(const LinearTask& task, const float* x, std::int64_t x_stride, std::int64_t tokens);

constexpr std::int64_t linear_exact_tokens = 8;

// One row of an embedding as f32 (cols).
void fetch_row(const MatrixView& matrix, std::int64_t row, float* to);

// Plain loops over the dequantised matrix, in double precision.
void linear_reference(const MatrixView& weight, const float* x, std::int64_t x_stride, std::int64_t tokens,
                      float* y, std::int64_t y_stride);

}  // namespace retort::tensor
