#include "evaluate/compare.h"

#include <algorithm>
#include <cmath>

#include "base/interrupt.h"
#include "tensor/adamw.h"
#include "tensor/gemm.h"

namespace retort::evaluate {

namespace {

constexpr auto plain_columns = static_cast<std::size_t>(Column::count);
constexpr auto bin_columns = static_cast<std::size_t>(BinColumn::count);

std::size_t confidence_bin(double confidence) {
    const auto bin = static_cast<std::size_t>(confidence * static_cast<double>(calibration_bins));
    return std::min(bin, calibration_bins - 1);
}

// Logits of [first, first + count) for gathered rows.
void project(const ModelInput& model, const float* hidden, const std::uint16_t* hidden_bf16,
             std::int64_t rows, std::int64_t first, std::int64_t count, float* logits) {
    const std::int64_t width = model.layout->config.hidden_size;
    const std::int64_t offset = model.layout->head + first * width;
    if (model.parameters.bf16 == nullptr) {
        tensor::gemm(false, true, rows, count, width, 1.0F, hidden, width, model.parameters.values + offset,
                     width, 0.0F, logits, count);
        return;
    }
    tensor::gemm_bf16(false, true, rows, count, width, hidden_bf16, width, model.parameters.bf16 + offset,
                      width, 0.0F, logits, count);
}

// One model's rows of a tile, rounded once where its products run in bf16.
class TileInput {
  public:
    TileInput(const ModelInput& model, const HiddenStates& hidden, const TileOptions& options)
        : model_(model), hidden_(hidden), logits_(options.rows * options.tokens) {
        if (model.parameters.bf16 != nullptr) {
            rounded_ = tensor::Buffer<std::uint16_t>(options.rows * hidden.width);
        }
    }
    void select(std::int64_t first_row, std::int64_t rows) {
        first_row_ = first_row;
        rows_ = rows;
        if (!rounded_.empty()) tensor::convert_to_bf16(values(), rounded_.data(), rows * hidden_.width);
    }
    const float* logits(std::int64_t first_token, std::int64_t count) {
        project(model_, values(), rounded_.data(), rows_, first_token, count, logits_.data());
        return logits_.data();
    }

  private:
    [[nodiscard]] const float* values() const { return hidden_.values.data() + first_row_ * hidden_.width; }
    const ModelInput& model_;
    const HiddenStates& hidden_;
    tensor::Buffer<float> logits_;  // (tile rows, tile tokens)
    tensor::Buffer<std::uint16_t> rounded_;
    std::int64_t first_row_ = 0;
    std::int64_t rows_ = 0;
};

void add_bin(std::span<double> sums, Side side, double confidence, bool correct, bool agrees) {
    const std::size_t bin = confidence_bin(confidence);
    sums[bin_index(side, BinColumn::tokens, bin)] += 1;
    sums[bin_index(side, BinColumn::confidence, bin)] += confidence;
    sums[bin_index(side, BinColumn::correct, bin)] += correct ? 1 : 0;
    sums[bin_index(side, BinColumn::agreements, bin)] += agrees ? 1 : 0;
}

void add_score(std::span<double> sums, const TokenScore& score, std::int32_t target, bool has_teacher) {
    const auto add = [&](Column column, double value) { sums[column_index(column)] += value; };
    const bool student_correct = score.student_choice == target;
    const bool teacher_correct = score.teacher_choice == target;
    const bool agrees = has_teacher && score.student_choice == score.teacher_choice;
    add(Column::tokens, 1);
    add(Column::student_nll, score.student_nll);
    add(Column::student_correct, student_correct ? 1 : 0);
    add_bin(sums, Side::student, score.student_confidence, student_correct, agrees);
    if (!has_teacher) return;
    add(Column::teacher_nll, score.teacher_nll);
    add(Column::kl, score.kl);
    add(Column::agreements, agrees ? 1 : 0);
    add(Column::teacher_entropy, score.teacher_entropy);
    add(Column::teacher_correct, teacher_correct ? 1 : 0);
    add_bin(sums, Side::teacher, score.teacher_confidence, teacher_correct, agrees);
}

Status check_pair(const ModelInput& student, const HiddenStates& student_hidden, const ModelInput* teacher,
                  const HiddenStates* teacher_hidden, const ScoredPositions& positions) {
    const auto count = static_cast<std::int64_t>(positions.targets.size());
    if (count == 0) {
        return fail(ErrorCode::invalid_argument,
                    "no position to score: the held-out rows have no trained token");
    }
    if (student_hidden.values.size() != count * student_hidden.width ||
        (teacher_hidden != nullptr && teacher_hidden->values.size() != count * teacher_hidden->width)) {
        return fail(ErrorCode::internal, "hidden states are not of the {} positions to score", count);
    }
    const std::int64_t vocab = student.layout->config.vocab_size;
    if (teacher != nullptr && teacher->layout->config.vocab_size != vocab) {
        return fail(ErrorCode::invalid_argument,
                    "the student has a vocabulary of {} tokens and the teacher one of {}: their "
                    "distributions cannot be compared; use models of one tokenizer",
                    vocab, teacher->layout->config.vocab_size);
    }
    return {};
}

double calibration_error(std::span<const double> totals, Side side, BinColumn hits) {
    double error = 0;
    double tokens = 0;
    for (std::size_t bin = 0; bin < calibration_bins; ++bin) {
        tokens += totals[bin_index(side, BinColumn::tokens, bin)];
        error += std::abs(totals[bin_index(side, BinColumn::confidence, bin)] -
                          totals[bin_index(side, hits, bin)]);
    }
    return error / tokens;
}

}  // namespace

std::size_t column_index(Column column) {
    return static_cast<std::size_t>(column);
}

std::size_t bin_index(Side side, BinColumn column, std::size_t bin) {
    return plain_columns + (static_cast<std::size_t>(side) * calibration_bins + bin) * bin_columns +
           static_cast<std::size_t>(column);
}

std::size_t column_total() {
    return plain_columns + 2 * calibration_bins * bin_columns;
}

Result<ScoredPositions> scored_positions(std::span<const EvaluationRow> rows, std::int64_t vocab_size) {
    ScoredPositions result;
    for (std::size_t r = 0; r < rows.size(); ++r) {
        const EvaluationRow& row = rows[r];
        const std::size_t length = row.tokens.size();
        if (row.targets.size() != length || row.positions.size() != length ||
            row.sequence_starts.size() != row.clusters.size() + 1 || row.sequence_starts.front() != 0 ||
            row.sequence_starts.back() != static_cast<std::int32_t>(length)) {
            return fail(ErrorCode::internal, "evaluation row {} is inconsistent", r);
        }
        for (std::size_t s = 0; s < row.clusters.size(); ++s) {
            const auto end = static_cast<std::size_t>(row.sequence_starts[s + 1]);
            for (auto t = static_cast<std::size_t>(row.sequence_starts[s]); t < end; ++t) {
                if (row.tokens[t] < 0 || row.tokens[t] >= vocab_size || row.targets[t] >= vocab_size) {
                    return fail(ErrorCode::invalid_argument,
                                "evaluation row {} holds token {}, outside the model's vocabulary of {}", r,
                                std::max(row.tokens[t], row.targets[t]), vocab_size);
                }
                if (row.targets[t] < 0) continue;
                result.targets.push_back(row.targets[t]);
                result.clusters.push_back(row.clusters[s]);
            }
            result.cluster_count = std::max<std::int64_t>(result.cluster_count, row.clusters[s] + 1);
        }
    }
    return result;
}

Result<HiddenStates> hidden_states(const ModelInput& model, std::span<const EvaluationRow> rows,
                                   const OnProgress& on_progress) {
    std::int64_t longest = 0;
    std::int64_t total = 0;
    std::int64_t scored = 0;
    for (const EvaluationRow& row : rows) {
        longest = std::max(longest, static_cast<std::int64_t>(row.tokens.size()));
        total += static_cast<std::int64_t>(row.tokens.size());
        scored += std::count_if(row.targets.begin(), row.targets.end(), [](auto t) { return t >= 0; });
    }
    HiddenStates result;
    result.width = model.layout->config.hidden_size;
    result.values = tensor::Buffer<float>(scored * result.width);
    model::Transformer transformer(*model.layout, longest, {.training = false});
    float* to = result.values.data();
    std::int64_t done = 0;
    for (const EvaluationRow& row : rows) {
        if (base::interrupted()) return fail(ErrorCode::cancelled, "evaluation was interrupted");
        const auto hidden =
            transformer.forward(model.parameters, {row.tokens, row.positions, row.sequence_starts});
        for (std::size_t t = 0; t < row.tokens.size(); ++t) {
            if (row.targets[t] < 0) continue;
            to = std::copy_n(hidden.data() + static_cast<std::int64_t>(t) * result.width, result.width, to);
        }
        done += static_cast<std::int64_t>(row.tokens.size());
        if (on_progress) on_progress(done, total);
    }
    return result;
}

Result<PairScores> compare_hidden(const ModelInput& student, const HiddenStates& student_hidden,
                                  const ModelInput* teacher, const HiddenStates* teacher_hidden,
                                  const ScoredPositions& positions, const TileOptions& options) {
    RETORT_CHECK(check_pair(student, student_hidden, teacher, teacher_hidden, positions));
    const std::int64_t vocab = student.layout->config.vocab_size;
    const auto count = static_cast<std::int64_t>(positions.targets.size());
    const TileOptions tile{std::clamp<std::int64_t>(options.rows, 1, count),
                           std::clamp<std::int64_t>(options.tokens, 1, vocab)};
    PairScores result;
    result.has_teacher = teacher != nullptr;
    result.sums.width = static_cast<std::int64_t>(column_total());
    result.sums.values.assign(static_cast<std::size_t>(positions.cluster_count) * column_total(), 0.0);

    TileInput student_tile(student, student_hidden, tile);
    std::vector<TileInput> teacher_tile;
    if (teacher != nullptr) teacher_tile.emplace_back(*teacher, *teacher_hidden, tile);
    TokenMetrics metrics;
    std::vector<TokenScore> scores;
    for (std::int64_t begin = 0; begin < count; begin += tile.rows) {
        if (base::interrupted()) return fail(ErrorCode::cancelled, "evaluation was interrupted");
        const std::int64_t rows = std::min(tile.rows, count - begin);
        metrics.start(std::span(positions.targets)
                          .subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(rows)));
        student_tile.select(begin, rows);
        for (TileInput& input : teacher_tile) input.select(begin, rows);
        for (std::int64_t first = 0; first < vocab; first += tile.tokens) {
            const std::int64_t tokens = std::min(tile.tokens, vocab - first);
            metrics.add_chunk(first, tokens, student_tile.logits(first, tokens),
                              teacher_tile.empty() ? nullptr : teacher_tile[0].logits(first, tokens));
        }
        RETORT_CHECK(metrics.finish(scores));
        for (std::int64_t r = 0; r < rows; ++r) {
            const auto at = static_cast<std::size_t>(begin + r);
            const auto cluster = static_cast<std::size_t>(positions.clusters[at]);
            add_score(std::span(result.sums.values).subspan(cluster * column_total(), column_total()),
                      scores[static_cast<std::size_t>(r)], positions.targets[at], result.has_teacher);
        }
    }
    return result;
}

Result<PairScores> evaluate_pair(const ModelInput& student, const ModelInput* teacher,
                                 std::span<const EvaluationRow> rows, const TileOptions& options,
                                 const OnProgress& on_progress) {
    RETORT_TRY(const ScoredPositions positions, scored_positions(rows, student.layout->config.vocab_size));
    HiddenStates teacher_hidden;
    if (teacher != nullptr) {
        RETORT_CHECK(scored_positions(rows, teacher->layout->config.vocab_size));
        RETORT_TRY(teacher_hidden, hidden_states(*teacher, rows, on_progress));
    }
    RETORT_TRY(const HiddenStates student_hidden, hidden_states(student, rows, on_progress));
    return compare_hidden(student, student_hidden, teacher, teacher == nullptr ? nullptr : &teacher_hidden,
                          positions, options);
}

stats::Statistic metric_statistic(Metric metric) {
    const auto per_token = [](Column column) -> stats::Statistic {
        return [column](std::span<const double> totals) {
            return totals[column_index(column)] / totals[column_index(Column::tokens)];
        };
    };
    switch (metric) {
        case Metric::nll:
            return per_token(Column::student_nll);
        case Metric::kl:
            return per_token(Column::kl);
        case Metric::agreement:
            return per_token(Column::agreements);
        case Metric::accuracy:
            return per_token(Column::student_correct);
        case Metric::calibration:
            return [](auto totals) { return calibration_error(totals, Side::student, BinColumn::correct); };
        case Metric::teacher_agreement:
            return
                [](auto totals) { return calibration_error(totals, Side::student, BinColumn::agreements); };
        case Metric::teacher_nll:
            return per_token(Column::teacher_nll);
        case Metric::teacher_entropy:
            return per_token(Column::teacher_entropy);
        case Metric::teacher_accuracy:
            return per_token(Column::teacher_correct);
        case Metric::teacher_calibration:
            break;
    }
    return [](auto totals) { return calibration_error(totals, Side::teacher, BinColumn::correct); };
}

namespace {

// Each bin's error is an absolute value, which resampling can only push up where it is near 0: BCa's
// correction would then run off the distribution, so ECE has percentile intervals, stretched to hold the
// estimate itself.
bool is_calibration(Metric metric) {
    return metric == Metric::calibration || metric == Metric::teacher_agreement ||
           metric == Metric::teacher_calibration;
}

// A cluster without a scored token would weigh nothing, yet be drawn; it says nothing and is left out.
stats::ClusterSums with_tokens(const stats::ClusterSums& sums, std::size_t tokens_column) {
    stats::ClusterSums kept{{}, sums.width};
    for (std::int64_t c = 0; c < sums.clusters(); ++c) {
        const auto row = sums.row(c);
        if (row[tokens_column] > 0) kept.values.insert(kept.values.end(), row.begin(), row.end());
    }
    return kept;
}

}  // namespace

stats::Estimate metric_estimate(const PairScores& scores, Metric metric,
                                const stats::BootstrapOptions& options) {
    stats::BootstrapOptions chosen = options;
    if (is_calibration(metric)) chosen.method = stats::IntervalMethod::percentile;
    stats::Estimate estimate = stats::cluster_bootstrap(
        with_tokens(scores.sums, column_index(Column::tokens)), metric_statistic(metric), chosen);
    estimate.low = std::min(estimate.low, estimate.value);
    estimate.high = std::max(estimate.high, estimate.value);
    return estimate;
}

Result<stats::Estimate> metric_difference(const PairScores& a, const PairScores& b, Metric metric,
                                          const stats::BootstrapOptions& options) {
    const std::int64_t clusters = a.sums.clusters();
    const std::size_t tokens = column_index(Column::tokens);
    bool same = clusters == b.sums.clusters() && a.sums.width == b.sums.width;
    stats::ClusterSums both{{}, a.sums.width + b.sums.width};
    for (std::int64_t c = 0; same && c < clusters; ++c) {
        same = a.sums.row(c)[tokens] == b.sums.row(c)[tokens];
        for (const auto row : {a.sums.row(c), b.sums.row(c)}) {
            both.values.insert(both.values.end(), row.begin(), row.end());
        }
    }
    if (!same) {
        return fail(ErrorCode::invalid_argument,
                    "the two models were scored on different held-out positions; a paired difference needs "
                    "the same");
    }
    const auto width = static_cast<std::size_t>(a.sums.width);
    const stats::Statistic one = metric_statistic(metric);
    const stats::Statistic difference = [&](std::span<const double> totals) {
        return one(totals.first(width)) - one(totals.subspan(width));
    };
    return stats::cluster_bootstrap(with_tokens(both, tokens), difference, options);
}

std::array<CalibrationBin, calibration_bins> calibration(const PairScores& scores, Side side) {
    std::array<CalibrationBin, calibration_bins> bins;
    for (std::size_t bin = 0; bin < calibration_bins; ++bin) {
        CalibrationBin& to = bins[bin];
        for (std::int64_t c = 0; c < scores.sums.clusters(); ++c) {
            const auto row = scores.sums.row(c);
            to.tokens += row[bin_index(side, BinColumn::tokens, bin)];
            to.confidence += row[bin_index(side, BinColumn::confidence, bin)];
            to.correct += row[bin_index(side, BinColumn::correct, bin)];
        }
        if (to.tokens == 0) continue;
        to.confidence /= to.tokens;
        to.correct /= to.tokens;
    }
    return bins;
}

}  // namespace retort::evaluate
