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

}  // namespace retort::evaluate
