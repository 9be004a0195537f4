// Options of the optimiser: AdamW with clipping by the gradient's norm (train/trainee.h takes its steps).
#pragma once

namespace retort::train {

struct OptimiserOptions {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.1;  // matrices only
    double clip_norm = 1.0;     // 0: no clipping
};

}  // namespace retort::train
