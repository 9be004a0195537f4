// The curve of a training run, as its metrics.jsonl tells it (docs/formats/checkpoint.md). Knows nothing of
// training.
#pragma once

#include <filesystem>
#include <string_view>

#include "base/result.h"
#include "evaluate/report.h"

namespace retort::evaluate {

// Points of one curve; model and objective are the caller's to set. A line that is no object, or a member of
// another type than documented, is an error that names the line.
Result<TrainingCurve> parse_training_curve(std::string_view text, std::string_view name);
Result<TrainingCurve> read_training_curve(const std::filesystem::path& path);

// What a training took, summed over its steps; 0 where the file does not say.
struct TrainingCost {
    double flop = 0;         // operations, as training counts them
    double cpu_seconds = 0;  // of all threads
    double tokens = 0;       // read in training, each pass counted
    double sampled_tokens = 0;

    void operator+=(const TrainingCost& other);
};
Result<TrainingCost> parse_training_cost(std::string_view text, std::string_view name);
Result<TrainingCost> read_training_cost(const std::filesystem::path& path);

}  // namespace retort::evaluate
