// AdamW (Loshchilov & Hutter 2019), fused over flat parameter buffers: clipping, update, bf16 copy and
// clearing of the gradient in one pass over memory.
#pragma once

#include <cstdint>

namespace retort::tensor {

struct AdamwStep {
    float learning_rate = 1e-4F;
    float beta1 = 0.9F;
    float beta2 = 0.95F;
    float epsilon = 1e-8F;
    float weight_decay = 0.0F;    // decoupled: θ −= lr·λ·θ
    float gradient_scale = 1.0F;  // clipping: min(1, limit/norm)
    std::int64_t step = 1;        // from 1, for bias correction
};

// Updates value, m, v (count each) from gradient, which is set to zero. value_bf16 (may be null) receives the
// copy that bf16 products read.
void adamw(float* value, float* gradient, float* m, float* v, std::uint16_t* value_bf16, std::int64_t count,
           const AdamwStep& step);

// An f32 as two halves: the bf16 nearest to it (half away from zero), and what is left, so that bits =
// (high << 16) + low, exactly and for every bit pattern. Products read the high halves; both take the memory
// of one f32.
void split_floats(const float* from, std::uint16_t* high, std::int16_t* low, std::int64_t count);
void join_floats(const std::uint16_t* high, const std::int16_t* low, float* to, std::int64_t count);

// adamw() on values so halved: the same numbers as on the values joined.
void adamw_halves(std::uint16_t* high, std::int16_t* low, float* gradient, float* m, float* v,
                  std::int64_t count, const AdamwStep& step);

// Σ x², in double, summed in an order that depends only on count.
double sum_of_squares(const float* x, std::int64_t count);

void convert_to_bf16(const float* from, std::uint16_t* to, std::int64_t count);
void convert_from_bf16(const std::uint16_t* from, float* to, std::int64_t count);

void adamw_reference(float* value, const float* gradient, float* m, float* v, std::int64_t count,
                     const AdamwStep& step);

}  // namespace retort::tensor
