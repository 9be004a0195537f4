// A student beside its teacher on held-out answers: both run over the same packed rows, their hidden states
// are projected to the vocabulary a tile at a time, and what each trained position scores is summed by
// cluster (an answer, or all answers to one prompt), so that intervals rest on clusters and not on tokens.
// The teacher's hidden states are computed once and serve every student.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "evaluate/token_metrics.h"
#include "model/parameters.h"
#include "model/transformer.h"
#include "stats/bootstrap.h"
#include "tensor/buffer.h"

namespace retort::evaluate {

// One packed row, as packing lays it out. clusters has an entry a sequence, 0 … cluster_count − 1.
struct EvaluationRow {
    std::span<const std::int32_t> tokens;
    std::span<const std::int32_t> targets;  // −1 where not scored
    std::span<const std::int32_t> positions;
    std::span<const std::int32_t> sequence_starts;
    std::span<const std::int32_t> clusters;
};

struct ModelInput {
    const model::ParameterLayout* layout = nullptr;
    model::ParameterView parameters;
};

// Scored positions of all rows, in order.
struct ScoredPositions {
    std::vector<std::int32_t> targets;
    std::vector<std::int32_t> clusters;
    std::int64_t cluster_count = 0;
};
Result<ScoredPositions> scored_positions(std::span<const EvaluationRow> rows, std::int64_t vocab_size);

// After the final norm, at the scored positions only: (positions, width).
struct HiddenStates {
    tensor::Buffer<float> values;
    std::int64_t width = 0;
};
// on_progress is called with tokens done and tokens in all.
using OnProgress = std::function<void(std::int64_t done, std::int64_t total)>;
Result<HiddenStates> hidden_states(const ModelInput& model, std::span<const EvaluationRow> rows,
                                   const OnProgress& on_progress = {});

struct TileOptions {
    std::int64_t rows = 256;
    std::int64_t tokens = 8192;  // of the vocabulary
};

constexpr std::size_t calibration_bins = 15;

// Columns of the sums. Bin columns follow; see bin_column().
enum class Column : std::uint8_t {
    tokens,
    student_nll,
    teacher_nll,
    kl,
    agreements,  // first choices are the same
    teacher_entropy,
    student_correct,  // first choice is the target
    teacher_correct,
    count,
};
enum class Side : std::uint8_t { student, teacher };
// Of positions whose confidence falls into the bin: their number, and sums over them.
enum class BinColumn : std::uint8_t { tokens, confidence, correct, agreements, count };
std::size_t column_index(Column column);
std::size_t bin_index(Side side, BinColumn column, std::size_t bin);
std::size_t column_total();

struct PairScores {
    stats::ClusterSums sums;  // a row a cluster, column_total() wide
    bool has_teacher = false;
};

// Projects both and scores. teacher may be null: then only the student's own columns are filled.
Result<PairScores> compare_hidden(const ModelInput& student, const HiddenStates& student_hidden,
                                  const ModelInput* teacher, const HiddenStates* teacher_hidden,
                                  const ScoredPositions& positions, const TileOptions& options = {});

// All of it, for one student.
Result<PairScores> evaluate_pair(const ModelInput& student, const ModelInput* teacher,
                                 std::span<const EvaluationRow> rows, const TileOptions& options = {},
                                 const OnProgress& on_progress = {});

// The numbers of a report. Each is a function of the sums' totals, with its interval by cluster.
enum class Metric : std::uint8_t {
    nll,                // −log q(target) per token
    kl,                 // KL(p‖q) per token
    agreement,          // share of positions with the same first choice
    accuracy,           // share of positions whose first choice is the target
    calibration,        // ECE: |confidence − share correct| over bins of confidence, weighted
    teacher_agreement,  // ECE with "correct" read as "the teacher's first choice"
    teacher_nll,
    teacher_entropy,
    teacher_accuracy,
    teacher_calibration,
};
stats::Statistic metric_statistic(Metric metric);
stats::Estimate metric_estimate(const PairScores& scores, Metric metric,
                                const stats::BootstrapOptions& options = {});
// metric of a − metric of b, paired by cluster. Fails where the two were not scored on the same positions.
Result<stats::Estimate> metric_difference(const PairScores& a, const PairScores& b, Metric metric,
                                          const stats::BootstrapOptions& options = {});

struct CalibrationBin {
    double tokens = 0;
    double confidence = 0;  // mean
    double correct = 0;     // share
};
std::array<CalibrationBin, calibration_bins> calibration(const PairScores& scores, Side side);

}  // namespace retort::evaluate
