// A read-only matrix in any number format, usually a view of a mapped model file. Shapes are checked once,
// where the view is made; kernels take the raw pointer and sizes from it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace retort::tensor {

struct MatrixView {
    DType dtype = DType::f32;
    std::int64_t rows = 0;  // outputs of a linear layer, or the vocabulary
    std::int64_t cols = 0;  // inputs; a row is contiguous, cols a multiple of the format's block
    const std::byte* data = nullptr;

    [[nodiscard]] bool empty() const { return data == nullptr; }
    [[nodiscard]] std::int64_t row_bytes() const { return dtype_bytes(dtype, cols); }
    [[nodiscard]] const std::byte* row(std::int64_t index) const { return data + index * row_bytes(); }
};

}  // namespace retort::tensor
