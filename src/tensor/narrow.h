// The passes between products of a training step whose activations stay in bf16: read or written so, computed
// in f32. For machines with AMX, whose products are so fast that every further pass over memory shows.
#pragma once

#include <cstdint>

namespace retort::tensor {

// As rms_norm(), y (rows, size) in bf16; size is a multiple of 16.
void rms_norm_bf16(const float* x, const float* weight, float epsilon, std::int64_t rows, std::int64_t size,
                   std::uint16_t* y, float* rstd);

// As swiglu() and swiglu_backward(), all in bf16; size is a multiple of 16.
void swiglu_bf16(const std::uint16_t* gate_up, std::int64_t rows, std::int64_t size, std::uint16_t* h);
void swiglu_backward_bf16(const std::uint16_t* gate_up, const std::uint16_t* dh, std::int64_t rows,
                          std::int64_t size, std::uint16_t* d_gate_up, std::uint16_t* h);

}  // namespace retort::tensor
