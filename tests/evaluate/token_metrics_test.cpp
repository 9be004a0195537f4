#include "evaluate/token_metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.h"

namespace retort::evaluate {
namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon();
constexpr float infinity = std::numeric_limits<float>::infinity();

struct Logits {
    std::int64_t rows = 0;
    std::int64_t vocab = 0;
    std::vector<float> student;
    std::vector<float> teacher;
    std::vector<std::int32_t> targets;
};

Logits random_logits(std::int64_t rows, std::int64_t vocab, double scale, double difference) {
    base::RandomStream random(static_cast<std::uint64_t>(rows * 1000 + vocab));
    Logits logits{rows, vocab, {}, {}, {}};
    for (std::int64_t i = 0; i < rows * vocab; ++i) {
        const double t = scale * random.normal();
        logits.teacher.push_back(static_cast<float>(t));
        logits.student.push_back(static_cast<float>(t + difference * random.normal()));
    }
    for (std::int64_t r = 0; r < rows; ++r) {
        logits.targets.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocab))));
    }
    return logits;
}

// In double, over the whole vocabulary at once, from the definitions.
TokenScore dense(const Logits& logits, std::int64_t row) {
    const auto log_softmax = [&](const std::vector<float>& all) {
        std::vector<double> values(all.begin() + row * logits.vocab, all.begin() + (row + 1) * logits.vocab);
        const double top = *std::max_element(values.begin(), values.end());
        double sum = 0;
        for (const double x : values) sum += std::exp(x - top);
        for (double& x : values) x -= top + std::log(sum);
        return values;
    };
    const auto q = log_softmax(logits.student);
    const auto p = log_softmax(logits.teacher);
    const auto target = static_cast<std::size_t>(logits.targets[static_cast<std::size_t>(row)]);
    TokenScore score;
    score.student_nll = -q[target];
    score.teacher_nll = -p[target];
    for (std::size_t i = 0; i < p.size(); ++i) {
        if (std::exp(p[i]) == 0) continue;
        score.kl += std::exp(p[i]) * (p[i] - q[i]);
        score.teacher_entropy -= std::exp(p[i]) * p[i];
    }
    score.student_choice = static_cast<std::int32_t>(std::max_element(q.begin(), q.end()) - q.begin());
    score.teacher_choice = static_cast<std::int32_t>(std::max_element(p.begin(), p.end()) - p.begin());
    score.student_confidence = std::exp(q[static_cast<std::size_t>(score.student_choice)]);
    score.teacher_confidence = std::exp(p[static_cast<std::size_t>(score.teacher_choice)]);
    return score;
}

Result<std::vector<TokenScore>> chunked(const Logits& logits, std::int64_t chunk, bool backwards = false,
                                        bool with_teacher = true) {
    TokenMetrics metrics;
    metrics.start(logits.targets);
    std::vector<std::int64_t> firsts;
    for (std::int64_t first = 0; first < logits.vocab; first += chunk) firsts.push_back(first);
    if (backwards) std::reverse(firsts.begin(), firsts.end());
    for (const std::int64_t first : firsts) {
        const std::int64_t count = std::min(chunk, logits.vocab - first);
        std::vector<float> student;
        std::vector<float> teacher;
        for (std::int64_t r = 0; r < logits.rows; ++r) {
            const auto begin = r * logits.vocab + first;
            student.insert(student.end(), logits.student.begin() + begin,
                           logits.student.begin() + begin + count);
            teacher.insert(teacher.end(), logits.teacher.begin() + begin,
                           logits.teacher.begin() + begin + count);
        }
        metrics.add_chunk(first, count, student.data(), with_teacher ? teacher.data() : nullptr);
    }
    std::vector<TokenScore> scores;
    RETORT_CHECK(metrics.finish(scores));
    return scores;
}

void expect_dense(const Logits& logits, const std::vector<TokenScore>& scores) {
    ASSERT_EQ(static_cast<std::int64_t>(scores.size()), logits.rows);
    for (std::int64_t r = 0; r < logits.rows; ++r) {
        const TokenScore expected = dense(logits, r);
        const TokenScore& score = scores[static_cast<std::size_t>(r)];
        // Every sum has `vocab` terms of one sign relative to its largest (each rounded, exp within 2 ulp),
        // times the largest magnitude that is cancelled: the logits' own.
        double magnitude = 1;
        for (std::int64_t i = r * logits.vocab; i < (r + 1) * logits.vocab; ++i) {
            for (const float x :
                 {logits.student[static_cast<std::size_t>(i)], logits.teacher[static_cast<std::size_t>(i)]}) {
                if (std::isfinite(x)) magnitude = std::max(magnitude, std::abs(static_cast<double>(x)));
            }
        }
        const double tolerance = epsilon * magnitude * (8 + std::sqrt(static_cast<double>(logits.vocab)));
        EXPECT_NEAR(score.student_nll, expected.student_nll, tolerance);
        EXPECT_NEAR(score.teacher_nll, expected.teacher_nll, tolerance);
        if (std::isinf(expected.kl)) {
            EXPECT_EQ(score.kl, expected.kl);
        } else {
            EXPECT_NEAR(score.kl, expected.kl, 4 * tolerance);
        }
        EXPECT_NEAR(score.teacher_entropy, expected.teacher_entropy, 4 * tolerance);
        EXPECT_NEAR(score.student_confidence, expected.student_confidence, tolerance);
        EXPECT_NEAR(score.teacher_confidence, expected.teacher_confidence, tolerance);
        EXPECT_EQ(score.student_choice, expected.student_choice);
        EXPECT_EQ(score.teacher_choice, expected.teacher_choice);
    }
}

TEST(TokenMetrics, chunks_equal_the_dense_reference) {
    for (const auto& [rows, vocab, scale, difference] : {std::tuple{1, 2, 1.0, 1.0},
                                                         {3, 17, 3.0, 0.5},
                                                         {5, 1000, 8.0, 2.0},
                                                         {2, 4099, 0.1, 0.0},
                                                         {4, 331, 300.0, 300.0},
                                                         {2, 503, 1e-4, 1e-6}}) {
        const Logits logits = random_logits(rows, vocab, scale, difference);
        for (const std::int64_t chunk : {1, 7, 64, 1000, 5000}) {
            SCOPED_TRACE(testing::Message() << "vocabulary " << vocab << ", chunk " << chunk);
            for (const bool backwards : {false, true}) {
                const auto scores = chunked(logits, chunk, backwards);
                ASSERT_TRUE(scores) << scores.error().message;
                expect_dense(logits, *scores);
            }
        }
    }
}

TEST(TokenMetrics, extreme_logits) {
    Logits logits{4, 6, {}, {}, {5, 0, 2, 1}};
    logits.student = {-3e38F, -3e38F, 0,    0,    0,    3e38F,   // certain
                      1e4F,   -1e4F,  0,    88,   -88,  104,     // beyond what exp holds in f32
                      0,      0,      0,    0,    0,    0,       // all equal: the first is the choice
                      -200,   -210,   -220, -230, -240, -1000};  // nothing near 0
    logits.teacher = {0, -3e38F, 0, 0, 0, 3e38F, -1e4F, 1e4F, 0, 1, 2, 3,
                      5, 5,      0, 0, 0, 0,     700,   1,    2, 3, 4, 5};
    for (const std::int64_t chunk : {1, 2, 5, 6}) {
        const auto scores = chunked(logits, chunk);
        ASSERT_TRUE(scores) << scores.error().message;
        expect_dense(logits, *scores);
        EXPECT_EQ((*scores)[2].student_choice, 0);
    }
}

TEST(TokenMetrics, tokens_ruled_out_by_minus_infinity) {
    Logits logits{3, 5, {}, {}, {0, 1, 2}};
    logits.teacher = {1, 2, -infinity, 0, -infinity, 1, 2, 3, 4, 5, -infinity, -infinity, 3, -infinity, 1};
    logits.student = {1, 1, -infinity, 0, 4, 1, -infinity, 3, 4, 5, -infinity, 2, 2, -infinity, 2};
    // Row 1: the student rules out a token that the teacher does not.
    for (const std::int64_t chunk : {1, 2, 3, 5}) {
        const auto scores = chunked(logits, chunk);
        ASSERT_TRUE(scores) << scores.error().message;
        EXPECT_TRUE(std::isinf((*scores)[1].kl));
        EXPECT_TRUE(std::isinf((*scores)[1].student_nll));
        for (const std::int64_t r : {0, 2}) {
            EXPECT_NEAR((*scores)[static_cast<std::size_t>(r)].kl, dense(logits, r).kl, 32 * epsilon);
        }
    }
}

TEST(TokenMetrics, the_same_model_twice_has_no_divergence) {
    Logits logits = random_logits(8, 997, 5, 0);
    logits.student = logits.teacher;
    const auto scores = chunked(logits, 100);
    for (const TokenScore& score : *scores) {
        EXPECT_NEAR(score.kl, 0, 64 * epsilon * 20);  // logits up to about 20
        EXPECT_GE(score.kl, 0);
        EXPECT_EQ(score.student_choice, score.teacher_choice);
    }
}

TEST(TokenMetrics, without_a_teacher_only_the_student_is_scored) {
    const Logits logits = random_logits(3, 50, 2, 1);
    const auto both = chunked(logits, 20);
    const auto alone = chunked(logits, 20, false, false);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ((*alone)[i].student_nll, (*both)[i].student_nll);
        EXPECT_EQ((*alone)[i].kl, 0);
        EXPECT_EQ((*alone)[i].teacher_choice, -1);
    }
}

TEST(TokenMetrics, damaged_logits_and_missing_targets_are_errors) {
    for (const float bad : {std::nanf(""), infinity}) {
        for (const std::size_t at : {0U, 5U, 9U}) {
            Logits logits = random_logits(1, 10, 1, 1);
            logits.student[at] = bad;
            const auto student = chunked(logits, 4);
            ASSERT_FALSE(student);
            EXPECT_NE(student.error().message.find("student"), std::string::npos);
            logits = random_logits(1, 10, 1, 1);
            logits.teacher[at] = bad;
            const auto teacher = chunked(logits, 4);
            ASSERT_FALSE(teacher);
            EXPECT_NE(teacher.error().message.find("teacher"), std::string::npos);
        }
    }
    Logits logits = random_logits(1, 10, 1, 1);
    logits.student.assign(10, -infinity);
    EXPECT_FALSE(chunked(logits, 4));
    logits = random_logits(1, 10, 1, 1);
    logits.targets[0] = 10;
    EXPECT_FALSE(chunked(logits, 4));
}

}  // namespace
}  // namespace retort::evaluate
