#include "evaluate/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/parallel.h"
#include "base/random.h"
#include "tensor/adamw.h"

namespace retort::evaluate {
namespace {

constexpr std::int32_t vocab = 61;

model::ModelConfig config(std::int64_t layers, std::int64_t hidden) {
    model::ModelConfig result;
    result.architecture = "llama";
    result.vocab_size = vocab;
    result.hidden_size = hidden;
    result.intermediate_size = 2 * hidden;
    result.layer_count = layers;
    result.head_count = 2;
    result.kv_head_count = 1;
    result.head_dim = hidden / 2;
    result.context_length = 128;
    return result;
}

// Matrices large enough that the models have opinions.
model::Parameters model(std::int64_t layers, std::int64_t hidden, std::uint64_t seed) {
    model::Parameters parameters = model::random_parameters(config(layers, hidden), seed);
    for (float& value : parameters.values.span()) value *= value == 1.0F ? 1.0F : 12.0F;
    return parameters;
}

ModelInput input_of(const model::Parameters& parameters) {
    return {&parameters.layout, {parameters.values.data(), nullptr}};
}

struct Sequence {
    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> targets;
    std::int32_t cluster = 0;
};

std::vector<Sequence> random_sequences(int count, std::uint64_t seed) {
    base::RandomStream random(seed);
    std::vector<Sequence> sequences;
    for (int s = 0; s < count; ++s) {
        Sequence sequence;
        const auto length = static_cast<std::size_t>(4 + random.below(14));
        for (std::size_t t = 0; t < length; ++t) {
            sequence.tokens.push_back(static_cast<std::int32_t>(random.below(vocab)));
        }
        for (std::size_t t = 0; t < length; ++t) {
            sequence.targets.push_back(t >= 2 && t + 1 < length ? sequence.tokens[t + 1] : -1);
        }
        sequence.cluster = s / 2;  // two answers to each prompt
        sequences.push_back(std::move(sequence));
    }
    return sequences;
}

struct PackedRow {
    std::vector<std::int32_t> tokens, targets, positions, sequence_starts = {0}, clusters;

    void add(const Sequence& sequence) {
        tokens.insert(tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
        targets.insert(targets.end(), sequence.targets.begin(), sequence.targets.end());
        for (std::size_t t = 0; t < sequence.tokens.size(); ++t) {
            positions.push_back(static_cast<std::int32_t>(t));
        }
        sequence_starts.push_back(static_cast<std::int32_t>(tokens.size()));
        clusters.push_back(sequence.cluster);
    }
    [[nodiscard]] EvaluationRow row() const {
        return {tokens, targets, positions, sequence_starts, clusters};
    }
};

std::vector<PackedRow> packed(const std::vector<Sequence>& sequences, std::size_t in_a_row) {
    std::vector<PackedRow> rows;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
        if (i % in_a_row == 0) rows.emplace_back();
        rows.back().add(sequences[i]);
    }
    return rows;
}

std::vector<EvaluationRow> views(const std::vector<PackedRow>& rows) {
    std::vector<EvaluationRow> result;
    for (const PackedRow& row : rows) result.push_back(row.row());
    return result;
}

std::vector<double> log_softmax_of_hidden(const model::Parameters& parameters, const float* hidden) {
    const std::int64_t width = parameters.layout.config.hidden_size;
    std::vector<double> logits(vocab);
    for (std::int64_t v = 0; v < vocab; ++v) {
        const float* head = parameters.values.data() + parameters.layout.head + v * width;
        for (std::int64_t i = 0; i < width; ++i) {
            logits[static_cast<std::size_t>(v)] +=
                static_cast<double>(head[i]) * static_cast<double>(hidden[i]);
        }
    }
    double sum = 0;
    for (const double x : logits) sum += std::exp(x);
    for (double& x : logits) x -= std::log(sum);
    return logits;
}

// Each sequence alone, whole vocabulary, double precision after the hidden states.
struct DenseSums {
    double tokens = 0, nll = 0, teacher_nll = 0, kl = 0, agreements = 0, entropy = 0, correct = 0;
};
std::map<std::int32_t, DenseSums> dense(const model::Parameters& student, const model::Parameters& teacher,
                                        const std::vector<Sequence>& sequences) {
    std::map<std::int32_t, DenseSums> result;
    for (const Sequence& sequence : sequences) {
        PackedRow row;
        row.add(sequence);
        const auto length = static_cast<std::int64_t>(row.tokens.size());
        model::Transformer run_student(student.layout, length, {.training = false});
        model::Transformer run_teacher(teacher.layout, length, {.training = false});
        const model::TokenBatch batch{row.tokens, row.positions, row.sequence_starts};
        const auto student_hidden = run_student.forward(input_of(student).parameters, batch);
        const auto teacher_hidden = run_teacher.forward(input_of(teacher).parameters, batch);
        DenseSums& sums = result[sequence.cluster];
        for (std::int64_t t = 0; t < length; ++t) {
            const std::int32_t target = row.targets[static_cast<std::size_t>(t)];
            if (target < 0) continue;
            const auto q =
                log_softmax_of_hidden(student, student_hidden.data() + t * student.layout.config.hidden_size);
            const auto p =
                log_softmax_of_hidden(teacher, teacher_hidden.data() + t * teacher.layout.config.hidden_size);
            const auto best_q = std::max_element(q.begin(), q.end()) - q.begin();
            sums.tokens += 1;
            sums.nll -= q[static_cast<std::size_t>(target)];
            sums.teacher_nll -= p[static_cast<std::size_t>(target)];
            sums.agreements += best_q == std::max_element(p.begin(), p.end()) - p.begin() ? 1 : 0;
            sums.correct += best_q == target ? 1 : 0;
            for (std::size_t i = 0; i < p.size(); ++i) {
                sums.kl += std::exp(p[i]) * (p[i] - q[i]);
                sums.entropy -= std::exp(p[i]) * p[i];
            }
        }
    }
    return result;
}

double at(const PairScores& scores, std::int64_t cluster, Column column) {
    return scores.sums.row(cluster)[column_index(column)];
}

// Thousands of tiny products: on a busy machine, waking a second thread for each would take most of the time.
class OneThread {
  public:
    OneThread() { base::set_thread_count(1); }
    OneThread(const OneThread&) = delete;
    OneThread& operator=(const OneThread&) = delete;
    ~OneThread() { base::set_thread_count(threads_); }

  private:
    int threads_ = base::thread_count();
};

TEST(Compare, the_number_of_threads_changes_no_more_than_rounding) {
    const auto student = model(1, 16, 1);
    const auto teacher = model(2, 24, 2);
    const auto teacher_input = input_of(teacher);
    const auto rows = packed(random_sequences(12, 3), 12);
    const auto several = evaluate_pair(input_of(student), &teacher_input, views(rows));
    const OneThread one_thread;
    const auto one = evaluate_pair(input_of(student), &teacher_input, views(rows));
    ASSERT_TRUE(several && one);
    // Rounding of the products may follow how they are split: the tolerance of the next test, where a sum of
    // at most 40 tokens stands.
    const double tolerance = 40 * 24 * 10 * static_cast<double>(std::numeric_limits<float>::epsilon());
    for (std::size_t i = 0; i < one->sums.values.size(); ++i) {
        EXPECT_NEAR(several->sums.values[i], one->sums.values[i], tolerance);
    }
}

TEST(Compare, chunked_and_packed_equal_dense_and_alone) {
    const OneThread one_thread;
    const auto student = model(1, 16, 1);
    const auto teacher = model(2, 24, 2);
    const auto sequences = random_sequences(12, 3);
    const auto expected = dense(student, teacher, sequences);
    for (const std::size_t in_a_row : {1U, 3U, 12U}) {
        const auto rows = packed(sequences, in_a_row);
        for (const TileOptions tile : {TileOptions{}, {5, 3}, {7, 10}, {1000, 60}}) {
            const auto teacher_input = input_of(teacher);
            const auto scores = evaluate_pair(input_of(student), &teacher_input, views(rows), tile);
            ASSERT_TRUE(scores) << scores.error().message;
            ASSERT_EQ(scores->sums.clusters(), 6);
            for (const auto& [cluster, sums] : expected) {
                // Logits are f32 dot products of 16 to 24 terms, and of hidden states that a packed row's
                // other shapes of product round differently: some 24 ulps of logits up to about 10, each
                // of `tokens` terms.
                const double tolerance =
                    sums.tokens * 24 * 10 * static_cast<double>(std::numeric_limits<float>::epsilon());
                EXPECT_EQ(at(*scores, cluster, Column::tokens), sums.tokens);
                EXPECT_NEAR(at(*scores, cluster, Column::student_nll), sums.nll, tolerance);
                EXPECT_NEAR(at(*scores, cluster, Column::teacher_nll), sums.teacher_nll, tolerance);
                EXPECT_NEAR(at(*scores, cluster, Column::kl), sums.kl, tolerance);
                EXPECT_NEAR(at(*scores, cluster, Column::teacher_entropy), sums.entropy, tolerance);
                EXPECT_EQ(at(*scores, cluster, Column::agreements), sums.agreements);
                EXPECT_EQ(at(*scores, cluster, Column::student_correct), sums.correct);
            }
        }
    }
}

TEST(Compare, a_model_agrees_with_itself_and_is_as_sure_as_itself) {
    const OneThread one_thread;
    const auto teacher = model(2, 24, 2);
    const auto rows = packed(random_sequences(10, 5), 4);
    const auto input = input_of(teacher);
    const auto scores = evaluate_pair(input, &input, views(rows));
    ASSERT_TRUE(scores);
    EXPECT_EQ(metric_estimate(*scores, Metric::agreement).low, 1);
    EXPECT_NEAR(metric_estimate(*scores, Metric::kl).high, 0, 1e-12);
    const auto own = metric_estimate(*scores, Metric::calibration);
    const auto as_teacher = metric_estimate(*scores, Metric::teacher_calibration);
    EXPECT_EQ(own.value, as_teacher.value);
    EXPECT_EQ(own.low, as_teacher.low);
    EXPECT_EQ(metric_estimate(*scores, Metric::nll).high, metric_estimate(*scores, Metric::teacher_nll).high);
    EXPECT_EQ(metric_difference(*scores, *scores, Metric::nll)->high, 0);
}

TEST(Compare, without_a_teacher) {
    const OneThread one_thread;
    const auto student = model(1, 16, 1);
    const auto teacher = model(1, 16, 2);
    const auto rows = packed(random_sequences(6, 5), 4);
    const auto teacher_input = input_of(teacher);
    const auto alone = evaluate_pair(input_of(student), nullptr, views(rows));
    const auto beside = evaluate_pair(input_of(student), &teacher_input, views(rows));
    ASSERT_TRUE(alone);
    EXPECT_FALSE(alone->has_teacher);
    EXPECT_EQ(metric_estimate(*alone, Metric::nll).value, metric_estimate(*beside, Metric::nll).value);
    EXPECT_EQ(metric_estimate(*alone, Metric::kl).value, 0);
}

TEST(Compare, bf16_stays_near_f32) {
    const OneThread one_thread;
    const auto student = model(1, 16, 1);
    const auto teacher = model(2, 24, 2);
    const auto rows = packed(random_sequences(8, 5), 4);
    const auto teacher_input = input_of(teacher);
    tensor::Buffer<std::uint16_t> rounded(student.values.size());
    tensor::convert_to_bf16(student.values.data(), rounded.data(), student.values.size());
    const ModelInput narrow{&student.layout, {student.values.data(), rounded.data()}};
    const double f32 =
        metric_estimate(*evaluate_pair(input_of(student), &teacher_input, views(rows)), Metric::nll).value;
    const auto scores = evaluate_pair(narrow, &teacher_input, views(rows), {5, 9});
    ASSERT_TRUE(scores);
    const double bf16 = metric_estimate(*scores, Metric::nll).value;
    // bf16 has 8 bits: each product's inputs are off by 2⁻⁹, logits up to about 10 by some 10·2⁻⁸, and means
    // by less.
    EXPECT_NEAR(bf16, f32, 10 * 2.0 / 256);
    EXPECT_NE(bf16, f32);
}

// Confidence bins by hand: position i has confidence c and hit h.
TEST(Compare, calibration_error_by_hand) {
    PairScores scores;
    scores.has_teacher = true;
    scores.sums.width = static_cast<std::int64_t>(column_total());
    scores.sums.values.assign(2 * column_total(), 0.0);
    const auto set = [&](std::size_t cluster, std::size_t index, double value) {
        scores.sums.values[cluster * column_total() + index] += value;
    };
    // Bin 3: two positions at .25, one right. Bin 14: two at 0.95, both right.
    for (const std::size_t cluster : {0U, 1U}) {
        set(cluster, column_index(Column::tokens), 2);
        set(cluster, bin_index(Side::student, BinColumn::tokens, 3), 1);
        set(cluster, bin_index(Side::student, BinColumn::confidence, 3), 0.25);
        set(cluster, bin_index(Side::student, BinColumn::tokens, 14), 1);
        set(cluster, bin_index(Side::student, BinColumn::confidence, 14), 0.95);
        set(cluster, bin_index(Side::student, BinColumn::correct, 14), 1);
    }
    set(0, bin_index(Side::student, BinColumn::correct, 3), 1);
    const auto estimate = metric_estimate(scores, Metric::calibration);
    EXPECT_NEAR(estimate.value, (std::abs(0.5 - 1) + std::abs(1.9 - 2)) / 4, 1e-15);
    EXPECT_LE(estimate.low, estimate.value);
    EXPECT_GE(estimate.high, estimate.value);
    const auto bins = calibration(scores, Side::student);
    EXPECT_DOUBLE_EQ(bins[3].correct, 0.5);
    EXPECT_DOUBLE_EQ(bins[14].confidence, 0.95);
    EXPECT_EQ(bins[0].tokens, 0);
}

TEST(Compare, bad_input_is_named) {
    const OneThread one_thread;
    const auto student = model(1, 16, 1);
    auto other_config = config(1, 16);
    other_config.vocab_size = vocab + 3;
    const auto other = model::random_parameters(other_config, 2);
    const auto rows = packed(random_sequences(4, 5), 4);
    const auto other_input = input_of(other);
    const auto mismatch = evaluate_pair(input_of(student), &other_input, views(rows));
    ASSERT_FALSE(mismatch);
    EXPECT_NE(mismatch.error().message.find("64"), std::string::npos) << mismatch.error().message;

    auto nothing = rows;
    for (auto& target : nothing[0].targets) target = -1;
    EXPECT_FALSE(evaluate_pair(input_of(student), nullptr, views(nothing)));

    auto outside = rows;
    outside[0].tokens[3] = vocab;
    const auto refused = evaluate_pair(input_of(student), nullptr, views(outside));
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("61"), std::string::npos);

    const auto fewer = packed(random_sequences(2, 5), 4);
    const auto a = evaluate_pair(input_of(student), nullptr, views(rows));
    const auto b = evaluate_pair(input_of(student), nullptr, views(fewer));
    EXPECT_FALSE(metric_difference(*a, *b, Metric::nll));
}

}  // namespace
}  // namespace retort::evaluate
