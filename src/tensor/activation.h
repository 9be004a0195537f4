// SwiGLU (Shazeer 2020): h = silu(gate) · up, silu(g) = g·σ(g).
#pragma once

#include <cstdint>

namespace retort::tensor {

// gate_up (rows, 2·size): a row's gate, then its up. h (rows, size).
void swiglu(const float* gate_up, std::int64_t rows, std::int64_t size, float* h);

// From dh (rows, size): d_gate_up (rows, 2·size), and h again, which the gradient of the next weight needs.
void swiglu_backward(const float* gate_up, const float* dh, std::int64_t rows, std::int64_t size,
                     float* d_gate_up, float* h);

void swiglu_reference(const float* gate_up, std::int64_t rows, std::int64_t size, float* h);

}  // namespace retort::tensor
