// Sweeps over one row of logits. Each result depends only on the row, never on threads.
#pragma once

#include <cstdint>
#include <span>

namespace retort::generate {

// The largest logit and the least token that has it. NaN anywhere gives a value that is not finite.
struct LargestLogit {
    float value = 0;
    std::int32_t token = 0;
};
LargestLogit largest_logit(std::span<const float> logits);

// weights[i] = exp((logits[i] − largest) · inverse_temperature); returns their sum. weights may be logits.
double exponentials(std::span<const float> logits, float largest, float inverse_temperature,
                    std::span<float> weights);

// A value that at least `count` of the values reach, and few more: what is below it cannot be among the
// `count` largest.
float lower_bound_of_largest(std::span<const float> values, std::int64_t count);

// Draws i with probability weights[i] / Σ weights; `uniform` in [0, 1).
std::int32_t draw(std::span<const float> weights, double uniform);

// log Σ exp(logits)
double log_sum_exp(std::span<const float> logits, float largest);

}  // namespace retort::generate
