// Block formats taken apart into whole-number codes, scales and minimums: what repacking reads. Internal to
// the part; dequantise() is what the codes must agree with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace retort::tensor {

// 32 elements of a row: element i is scale[i / 16]·code[i] + minimum[i / 16], in f32 and in that order.
struct CodeRun {
    std::int8_t code[32];
    float scale[2];
    float minimum[2];
    // K-formats whose scales are whole numbers times one factor: scale = factor·raw_scale, minimum =
    // −(minimum_factor·raw_minimum).
    float factor;
    float minimum_factor;
    std::int8_t raw_scale[2];
    std::int8_t raw_minimum;
};

// The run `index` (elements 32·index …) of a row in a block format.
void read_codes(DType dtype, const std::byte* row, std::int64_t index, CodeRun& run);

}  // namespace retort::tensor
