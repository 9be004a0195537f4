// The whole of one training job from files to files: records and a teacher in, a student's folder out. What
// `retort distill` runs, and each variant of a recipe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/prune_width.h"
#include "text/text_model.h"
#include "train/cache_report.h"
#include "train/trainer.h"

namespace retort::train {

// Where the student starts: `model` as it is or with only some of its layers, or fresh from a seed.
struct StudentStart {
    std::filesystem::path model;           // empty: the teacher
    std::filesystem::path fresh;           // a shape (model/fresh.h), instead of a model
    std::filesystem::path tokenizer;       // of a fresh student; empty: the teacher's
    std::uint64_t seed = 1;                // of a fresh student's numbers
    std::int64_t keep_layers = 0;          // 0: all of them
    std::string method = "influence";      // or "contiguous", "even"; how keep_layers are chosen
    std::vector<std::int64_t> layers;      // these and no others, when given
    std::int64_t influence_tokens = 4096;  // of the training text, to measure influence on
    model::WidthTarget width;              // then the layers are made narrower
    std::int64_t importance_samples =
        512;  // conversations of the training text that say what is kept of them
};

struct DistillOptions {
    std::filesystem::path teacher;   // may be empty with objective ce and a start of its own
    std::filesystem::path cache;     // a logit cache in place of the teacher's weights; may be empty
    std::filesystem::path records;   // curated, as data::read_records reads them
    std::filesystem::path held_out;  // records whose loss is measured as it goes (train.eval_every); or empty
    StudentStart start;
    std::int64_t row_length = 512;
    bool auto_dtype = true;  // bf16 where the machine has it
    bool measure_machine =
        true;            // a short GEMM measurement, so that progress can show the share of the limit
    TrainOptions train;  // folder, bf16, data_hash and machine_gflops are set here
    std::filesystem::path output;  // model/, checkpoint.bin, metrics.jsonl, distill.json
};

struct DistillReport {
    TrainReport train;
    std::vector<std::int64_t> kept_layers;  // of the model it started from; empty: all
    std::string pruned;                     // what was cut from it: "18 of 30 layers"; empty: nothing
    std::optional<CacheUse> cache;          // that stood in for the teacher
    std::int64_t examples = 0;
    std::int64_t rows = 0;
    std::int64_t tokens = 0;          // in one epoch
    std::int64_t trained_tokens = 0;  // in one epoch
    std::int64_t parameters = 0;
    bool bf16 = false;
    std::filesystem::path model;  // the student's folder
};

// Everything before the first step.
struct PreparedRun {
    text::TextModel text;                      // the student's
    std::optional<model::Parameters> teacher;  // only where the run needs it
    std::vector<data::Example> examples;
    std::vector<data::PackedBatch> rows;
    std::vector<data::PackedBatch> held_out;
    std::vector<std::int64_t> kept;
    std::string pruned;
    model::Parameters student;
    std::optional<CachedTargets> cache;
    TrainOptions train;    // as train() takes them; points into this
    DistillReport report;  // what is known so far
    TrainPlan plan;
};
Result<std::unique_ptr<PreparedRun>> prepare_run(const DistillOptions& options);

Result<DistillReport> distill(const DistillOptions& options);

// The student before its first step, for evaluation beside the trained one, and what was cut from it.
struct StudentMade {
    model::Parameters parameters;
    std::vector<std::int64_t> kept_layers;
    std::string pruned;
};
Result<StudentMade> make_student(const DistillOptions& options);

std::string report_json(const DistillReport& report, const DistillOptions& options);

}  // namespace retort::train
