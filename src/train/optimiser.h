// Options of the optimiser: AdamW with clipping by the gradient's norm (train/trainee.h takes its steps).
#pragma once

#include <string>

#include "tensor/dtype.h"

namespace retort::train {

struct OptimiserOptions {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.1;                     // matrices only
    double clip_norm = 1.0;                        // 0: no clipping
    tensor::DType moments = tensor::DType::f32;    // or bf16, rounded stochastically
    tensor::DType gradients = tensor::DType::f32;  // or bf16, those of the layers' matrices, added so
};

// For a run's fingerprint: nothing with f32, as before there was a choice.
inline std::string storage_text(const OptimiserOptions& options) {
    std::string text;
    if (options.moments != tensor::DType::f32)
        text += " moments=" + std::string(tensor::dtype_info(options.moments).name);
    if (options.gradients != tensor::DType::f32)
        text += " gradients=" + std::string(tensor::dtype_info(options.gradients).name);
    return text;
}

}  // namespace retort::train
