// Trains a student on packed rows, with or without a teacher whose distribution is computed live. Resumable:
// killed at any instant and started again with the same inputs, it ends at the same bits (same machine and
// number of threads).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "data/packing.h"
#include "model/parameters.h"
#include "train/cached_targets.h"
#include "train/checkpoint.h"
#include "train/fused_head.h"
#include "train/objective.h"
#include "train/optimiser.h"
#include "train/schedule.h"
#include "train/trainee.h"

namespace retort::train {

struct TrainOptions {
    Objective objective;
    const CachedTargets* cache = nullptr;  // in place of a live teacher; must outlive the run
    std::int64_t vocab_size = 0;  // of the tokenizer; rows of a head beyond it are padding. 0: the student's
    OptimiserOptions optimiser;
    ScheduleKind schedule = ScheduleKind::cosine;
    double learning_rate = 3e-4;
    double warmup_share = 0.05;  // of all steps
    double final_share = 0.1;    // of the peak learning rate
    double epochs = 1;
    std::int64_t max_steps = 0;  // 0: as epochs say
    std::int64_t rows_per_step = 4;
    std::int64_t rows_per_micro_batch = 2;  // memory is planned for this many
    std::uint64_t seed = 1;
    bool bf16 = false;
    bool recompute = false;
    model::LoraOptions lora;                      // rank 0: all weights are trained
    Communicator* world = nullptr;                // the processes that train together; null: this one alone
    std::span<const data::PackedBatch> held_out;  // never trained on; must outlive the run
    std::int64_t eval_every = 0;  // steps between measurements of the loss of held_out; 0: none
    std::int64_t patience = 0;  // measurements without a better one that end the run; 0: it never ends early
    std::filesystem::path folder;       // what train/run_steps.h keeps there; empty: nothing
    std::int64_t checkpoint_steps = 0;  // also every so many steps; 0: by time only
    double checkpoint_seconds = 60;
    std::string data_hash;   // of what shaped the rows, for the fingerprint
    std::string start_name;  // of what the student started from, for the adapters' file
    std::string label = "distill";
    bool quiet = false;
    // Called before the first step, with the steps of the whole run and the curve that a resumed one has
    // already, and between steps; may be empty.
    std::function<void(std::int64_t total_steps, std::span<const StepRecord>)> on_start;
    std::function<void(const StepRecord&)> on_step;
    double machine_gflops = 0;  // measured GEMM rate, for the share of the limit; 0: not shown
};

struct TrainReport {
    std::int64_t steps = 0;
    std::int64_t resumed_from = 0;
    std::int64_t tokens = 0;
    std::int64_t trained_tokens = 0;
    double seconds = 0;
    double cpu_seconds = 0;
    double flop = 0;
    double gflops = 0;           // sustained
    std::int64_t best_step = 0;  // whose weights the student has, where held-out loss was measured; else 0
    std::vector<StepRecord> curve;
};

// Trains in place; with adapters they are merged at the end, and kept apart in folder/adapters. teacher: null
// for ce, and with a cache.
Result<TrainReport> train(model::Parameters& student, const model::Parameters* teacher,
                          std::span<const data::PackedBatch> rows, const TrainOptions& options);

// What a step of this run needs, before it starts.
struct TrainPlan {
    std::int64_t steps = 0;
    std::int64_t tokens_per_step = 0;
    struct Memory {
        Trainee::Memory student;
        std::int64_t activations = 0;  // the student's, with the scratch of its passes
        std::int64_t head = 0;         // logits of a tile
        std::int64_t teacher = 0;      // weights and activations
    } memory;
    std::int64_t memory_bytes = 0;  // of all that
    double flops_per_token = 0;  // matrices: 6·N a student token (4·N with adapters), 2·N a teacher token,
                                 // head over trained tokens, attention
    double seconds = 0;          // at `share` of the machine's rate; 0 when the rate is unknown
};
std::string memory_text(const TrainPlan& plan);  // in one line, part by part
// How this run keeps its student.
TraineeOptions trainee_options(const TrainOptions& options);
// The end of a training function: the student's values are what was trained; adapters of a whole run are
// kept.
Status finish_training(Trainee& trainee, const TrainOptions& options, bool whole);
TrainPlan plan_training(const model::ModelConfig& student, const model::ModelConfig* teacher,
                        std::span<const data::PackedBatch> rows, const TrainOptions& options);

}  // namespace retort::train
