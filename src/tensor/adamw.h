// AdamW (Loshchilov & Hutter 2019), fused over flat parameter buffers: clipping, update, bf16 copy and
// clearing of the gradient in one pass over memory.
#pragma once

#include <cstdint>

#include "tensor/stochastic_rounding.h"

namespace retort::tensor {

// AdamW's two moments of a range of elements: in f32; or, where those are null, in bf16, each rounded
// stochastically after it served its step in f32.
struct Moments {
    float* m = nullptr;
    float* v = nullptr;
    std::uint16_t* m_bf16 = nullptr;
    std::uint16_t* v_bf16 = nullptr;
    RoundingKey m_key = 0;  // of this step
    RoundingKey v_key = 0;
    std::int64_t first = 0;  // the first element's number, which its draws go by
};

// What a step goes by: in f32, or in bf16 where that is null.
struct GradientView {
    float* f32 = nullptr;
    std::uint16_t* bf16 = nullptr;
};

struct AdamwStep {
    float learning_rate = 1e-4F;
    float beta1 = 0.9F;
    float beta2 = 0.95F;
    float epsilon = 1e-8F;
    float weight_decay = 0.0F;    // decoupled: θ −= lr·λ·θ
    float gradient_scale = 1.0F;  // clipping: min(1, limit/norm)
    std::int64_t step = 1;        // from 1, for bias correction
};

// Updates value and moments (count each) from gradient, which is set to zero. value_bf16 (may be null)
// receives the copy that bf16 products read.
void adamw(float* value, const GradientView& gradient, const Moments& moments, std::uint16_t* value_bf16,
           std::int64_t count, const AdamwStep& step);

// An f32 as two halves: the bf16 nearest to it (half away from zero), and what is left, so that bits =
// (high << 16) + low, exactly and for every bit pattern. Products read the high halves; both take the memory
// of one f32.
void split_floats(const float* from, std::uint16_t* high, std::int16_t* low, std::int64_t count);
void join_floats(const std::uint16_t* high, const std::int16_t* low, float* to, std::int64_t count);

// adamw() on values so halved: the same numbers as on the values joined.
void adamw_halves(std::uint16_t* high, std::int16_t* low, const GradientView& gradient,
                  const Moments& moments, std::int64_t count, const AdamwStep& step);

// Σ x², in double, summed in an order that depends only on count.
double sum_of_squares(const float* x, std::int64_t count);
double sum_of_squares(const std::uint16_t* x_bf16, std::int64_t count);

// sum_bf16 += x, rounded stochastically by the draws of elements first, first + 1, …
void add_to_bf16(const float* x, std::uint16_t* sum_bf16, std::int64_t count, RoundingKey key,
                 std::int64_t first);

void convert_to_bf16(const float* from, std::uint16_t* to, std::int64_t count);
void convert_from_bf16(const std::uint16_t* from, float* to, std::int64_t count);

void adamw_reference(float* value, const float* gradient, float* m, float* v, std::int64_t count,
                     const AdamwStep& step);

}  // namespace retort::tensor
