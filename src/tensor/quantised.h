// GGUF's block formats: unpacking of every one that is read, packing of those that are written.
// The layouts are docs/formats/gguf.md. Used by formats (conversion) and by the kernels (their reference).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "tensor/dtype.h"

namespace retort::tensor {

float f16_to_f32(std::uint16_t value);
std::uint16_t f32_to_f16(float value);  // to nearest even
float bf16_to_f32(std::uint16_t value);
std::uint16_t f32_to_bf16(float value);  // to nearest even; NaN stays NaN

// Any format to f32: `elements` is a multiple of the block; `from` needs no alignment.
void dequantise(DType dtype, const std::byte* from, float* to, std::int64_t elements);

// f32 to any of f32, f16, bf16, q8_0, q4_0, q4_1; another is ErrorCode::unsupported.
Status quantise(DType dtype, const float* from, std::byte* to, std::int64_t elements);

}  // namespace retort::tensor
