// Optimiser state over a model's flat parameter buffer, and one step of it: global-norm clipping, then AdamW.
#pragma once

#include <cstdint>

#include "model/parameters.h"
#include "tensor/buffer.h"

namespace retort::train {

struct OptimiserOptions {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.1;  // matrices only
    double clip_norm = 1.0;     // 0: no clipping
};

struct OptimiserState {
    tensor::Buffer<float> gradients;
    tensor::Buffer<float> m;
    tensor::Buffer<float> v;
    tensor::Buffer<std::uint16_t> bf16;  // the parameters rounded; empty in f32
    std::int64_t steps = 0;              // taken
};

OptimiserState make_optimiser(const model::Parameters& parameters, bool bf16);

// Updates the parameters from state.gradients, which are zero afterwards. Returns the gradient's norm before
// clipping; when that is not finite nothing is changed but the gradients, which are cleared, and the step
// does not count.
double optimiser_step(model::Parameters& parameters, OptimiserState& state, const OptimiserOptions& options,
                      double learning_rate);

}  // namespace retort::train
