// The whole state of a training run in one file (docs/formats/checkpoint.md): what is trained, optimiser
// moments, the number of steps taken, and the curve so far. Written whole or not at all; every piece is
// checksummed. The same whatever the number of processes that train, and read by any other number of them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "train/trainee.h"

namespace retort::train {

struct StepRecord {
    std::int64_t step = 0;  // from 1
    double loss = 0;        // the objective, per trained token
    double ce = 0;
    double divergence = 0;  // T²·D of the objective, with a teacher
    double agreement = 0;   // share of trained tokens, with a teacher
    double learning_rate = 0;
    double gradient_norm = 0;
    std::int64_t tokens = 0;
    std::int64_t trained_tokens = 0;
    double seconds = 0;
    double cpu_seconds = 0;  // of all threads
    double flop = 0;        // operations: the student's, the teacher's and those of sampling (compute_cost.h)
    double peak_share = 0;  // of the machine's measured GEMM rate; 0: not measured
    double correct = 0;     // on-policy, with a verifier: share of the sampled answers
    double entropy = 0;     // on-policy: of the student at sampled tokens, in nats
    std::int64_t sampled_tokens = 0;
    std::optional<double> held_out;  // loss per token of held-out text, where it was measured after this step
};

struct CheckpointHeader {
    std::string fingerprint;  // of everything that shapes the run; a checkpoint of another run is refused
    std::int64_t steps = 0;
    std::vector<StepRecord> curve;
    int processes = 1;  // that took the last step, and threads of each: other numbers sum in another order
    int threads = 0;    // 0: these
};

// All processes of the run take part; the first writes.
Status save_checkpoint(const std::filesystem::path& path, const CheckpointHeader& header, Trainee& trainee);

// Fills the trainee in place (it must have the layout that was saved). Every process reads the file.
Result<CheckpointHeader> load_checkpoint(const std::filesystem::path& path, std::string_view fingerprint,
                                         Trainee& trainee);

// One line of metrics.jsonl, without the newline.
std::string step_json(const StepRecord& record);

}  // namespace retort::train
