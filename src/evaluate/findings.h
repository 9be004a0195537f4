// The metrics that `eval` and `run` report, by their keys, and the sentences that a comparison supports.
#pragma once

#include <vector>

#include "evaluate/compare.h"
#include "evaluate/report.h"

namespace retort::evaluate {

// nll, kl, agreement, ece, task, bytes, parameters, tokens_per_second, cpu_seconds_per_1000_tokens,
// joules_per_1000_tokens: name, unit, meaning and direction of each.
const MetricInfo& standard_metric(std::string_view key);
// Those of them that any model of the report has a value for, in that order.
std::vector<MetricInfo> metrics_in_use(const std::vector<ModelEntry>& models);

// Sets nll, kl, agreement and ece from scores.
void add_student_values(ModelEntry& entry, const PairScores& scores,
                        const stats::BootstrapOptions& options = {});
// The teacher's row from any student's scores: its own likelihood and calibration; KL 0 and agreement 1 by
// definition, without interval.
void add_teacher_values(ModelEntry& entry, const PairScores& scores,
                        const stats::BootstrapOptions& options = {});
Reliability reliability_of(std::string model_key, const PairScores& scores, Side side);

// "Top-1 agreement: distilled beats text-only by 5.1 points". Supported when the two intervals do not overlap
// and `a` is on the better side; not supported otherwise, in words that say which way it went and whether the
// paired difference tells them apart. difference is a − b.
Finding separation(const MetricInfo& metric, const ModelEntry& a, const ModelEntry& b,
                   const stats::Estimate& difference);

// How much more or less a rival's training took than ours; none where one of them has no figures.
std::optional<Finding> training_cost_finding(const ModelEntry& rival, const ModelEntry& ours);

// The outcome in a sentence or two: how the distilled student stands to the teacher, and to the same student
// trained on text alone. Empty without a distilled student.
std::string summary_of(const ComparisonReport& report);

}  // namespace retort::evaluate
