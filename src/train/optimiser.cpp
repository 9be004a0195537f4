#include "train/optimiser.h"

#include <algorithm>
#include <cmath>

#include "tensor/adamw.h"

namespace retort::train {

OptimiserState make_optimiser(const model::Parameters& parameters, bool bf16) {
    OptimiserState state;
    const std::int64_t total = parameters.layout.total;
    state.gradients = tensor::Buffer<float>(total);
    state.m = tensor::Buffer<float>(total);
    state.v = tensor::Buffer<float>(total);
    if (bf16) {
        state.bf16 = tensor::Buffer<std::uint16_t>(total);
        tensor::convert_to_bf16(parameters.values.data(), state.bf16.data(), total);
    }
    return state;
}

double optimiser_step(model::Parameters& parameters, OptimiserState& state, const OptimiserOptions& options,
                      double learning_rate) {
    const double norm = std::sqrt(tensor::sum_of_squares(state.gradients.data(), state.gradients.size()));
    if (!std::isfinite(norm)) {
        std::fill_n(state.gradients.data(), state.gradients.size(), 0.0F);
        return norm;
    }
    ++state.steps;
    tensor::AdamwStep step;
    step.learning_rate = static_cast<float>(learning_rate);
    step.beta1 = static_cast<float>(options.beta1);
    step.beta2 = static_cast<float>(options.beta2);
    step.epsilon = static_cast<float>(options.epsilon);
    step.step = state.steps;
    if (options.clip_norm > 0 && norm > options.clip_norm) {
        step.gradient_scale = static_cast<float>(options.clip_norm / norm);
    }
    for (const model::ParameterTensor& tensor : parameters.layout.tensors) {
        step.weight_decay = tensor.decays ? static_cast<float>(options.weight_decay) : 0.0F;
        tensor::adamw(parameters.values.data() + tensor.offset, state.gradients.data() + tensor.offset,
                      state.m.data() + tensor.offset, state.v.data() + tensor.offset,
                      state.bf16.empty() ? nullptr : state.bf16.data() + tensor.offset, tensor.count, step);
    }
    return norm;
}

}  // namespace retort::train
