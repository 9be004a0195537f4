// The loop of every training run: a learning rate a step, checkpoints and resuming, the curve on disk,
// held-out loss with the best weights kept, stopping early, Ctrl-C. Knows no objective: what a step does is
// its caller's.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "train/trainer.h"

namespace retort::train {

struct StepLoop {
    const TrainOptions& options;  // schedule, folder, checkpoints, eval_every, patience, label
    std::string fingerprint;      // of everything that decides the resulting bits
    std::int64_t total_steps = 0;
    Trainee& trainee;
    // Step `index` (from 0) at this learning rate; the record's own number, time and learning rate are set by
    // the loop. An error of code cancelled is an interruption: the step is not taken.
    std::function<Result<StepRecord>(std::int64_t index, double learning_rate)> step;
    std::function<double()> held_out_loss;               // per token, of the weights as they are; or empty
    std::function<std::string(const StepRecord&)> note;  // beside the progress
};

// Files in options.folder: checkpoint.bin (the last state), best.bin (the state with the lowest held-out
// loss), metrics.jsonl, and an event file for TensorBoard. With held-out loss the student ends with the best
// weights.
Result<TrainReport> run_steps(const StepLoop& loop);

// What a curve says of its held-out losses.
struct HeldOutWatch {
    std::int64_t best_step = 0;  // 0: none was measured
    double best = 0;
    std::int64_t since = 0;  // measurements after the best
};
HeldOutWatch watch_held_out(std::span<const StepRecord> curve);

}  // namespace retort::train
