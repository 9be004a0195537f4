#include "evaluate/training_curve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "evaluate/findings.h"

namespace retort::evaluate {
namespace {

using testing::HasSubstr;

TEST(TrainingCurve, APointALineWithItsRateAndItsShareOfTheMachine) {
    const auto curve = parse_training_curve(
        "{\"step\":1,\"loss\":2.5,\"learning_rate\":1e-4,\"tokens\":1024,\"seconds\":4,\"peak_share\":0.5,"
        "\"held_out\":2.75}"
        "\n\n"
        "{\"step\":2,\"loss\":2.25,\"tokens\":1024,\"seconds\":0}",
        "metrics.jsonl");
    ASSERT_TRUE(curve) << curve.error().message;
    ASSERT_EQ(curve->points.size(), 2U);
    EXPECT_EQ(curve->points[0].step, 1);
    EXPECT_EQ(curve->points[0].loss, 2.5);
    EXPECT_EQ(curve->points[0].learning_rate, 1e-4);
    EXPECT_EQ(curve->points[0].tokens_per_second, 256);
    EXPECT_EQ(curve->points[0].peak_share, 0.5);
    EXPECT_EQ(curve->points[0].held_out, 2.75);
    EXPECT_EQ(curve->points[1].held_out, std::nullopt);
    EXPECT_EQ(curve->points[1].step, 2);
    EXPECT_EQ(curve->points[1].tokens_per_second, 0);
    EXPECT_EQ(curve->points[1].peak_share, 0);
}

TEST(TrainingCurve, WrongTypesAndBrokenLinesAreErrorsThatNameTheLine) {
    const std::string good = "{\"step\":1,\"loss\":2.5}\n";
    for (const char* bad : {"{\"step\":\"two\",\"loss\":2.5}", "{\"step\":2,\"loss\":[]}", "{\"step\":2}",
                            "[1]", "{\"step\":2,", "{\"step\":2,\"loss\":1,\"seconds\":\"x\"}"}) {
        const auto curve = parse_training_curve(good + bad, "metrics.jsonl");
        ASSERT_FALSE(curve) << bad;
        EXPECT_THAT(curve.error().message, HasSubstr("metrics.jsonl:2")) << bad;
    }
    EXPECT_FALSE(read_training_curve("/nowhere/metrics.jsonl"));
}

TEST(TrainingCost, IsTheSumOfTheSteps) {
    const auto cost = parse_training_cost(
        "{\"step\":1,\"loss\":2,\"flop\":3e9,\"cpu_seconds\":0.5,\"tokens\":10}\n"
        "{\"step\":2,\"loss\":1,\"flop\":1e9,\"cpu_seconds\":0.25,\"tokens\":5,\"sampled_tokens\":7}\n",
        "metrics.jsonl");
    ASSERT_TRUE(cost) << cost.error().message;
    EXPECT_DOUBLE_EQ(cost->flop, 4e9);
    EXPECT_DOUBLE_EQ(cost->cpu_seconds, 0.75);
    EXPECT_DOUBLE_EQ(cost->tokens, 15);
    EXPECT_DOUBLE_EQ(cost->sampled_tokens, 7);
    EXPECT_FALSE(parse_training_cost("{\"flop\":\"x\"}", "metrics.jsonl"));
    const ModelEntry ours{"a",
                          "Ours",
                          Role::distilled,
                          "",
                          {{"training_gflop", Measured(4.0)}, {"training_cpu_seconds", Measured(2.0)}}};
    const ModelEntry rival{"b",
                           "Rival",
                           Role::other,
                           "",
                           {{"training_gflop", Measured(6.0)}, {"training_cpu_seconds", Measured(1.0)}}};
    const auto finding = training_cost_finding(rival, ours);
    ASSERT_TRUE(finding);
    EXPECT_THAT(finding->text,
                HasSubstr("Rival had 1.50 times the arithmetic and 0.50 times the CPU time of Ours"));
    EXPECT_FALSE(training_cost_finding(ModelEntry{}, ours));
}

TEST(Summary, SaysHowTheDistilledStudentStandsToTheOthers) {
    ComparisonReport report;
    report.models = {{"teacher", "Teacher", Role::teacher, "", {{"task", Measured(1)}}},
                     {"text", "On text", Role::text_only, "", {{"agreement", Measured(0.5, 0.48, 0.52)}}}};
    EXPECT_EQ(summary_of(report), "");
    report.models.push_back({"distilled",
                             "Distilled",
                             Role::distilled,
                             "",
                             {{"agreement", Measured(0.6, 0.58, 0.62)}, {"task", Measured(0.9, 0.8, 0.95)}}});
    const std::string summary = summary_of(report);
    EXPECT_THAT(summary, HasSubstr("Distilled chooses the teacher's next token at 60.0 % [58.0, 62.0]"));
    EXPECT_THAT(summary, HasSubstr("text alone at 50.0 % [48.0, 52.0]."));
    EXPECT_THAT(summary, HasSubstr("for 90.0 % [80.0, 95.0] of the prompts, the teacher for 100.0 %."));
}

}  // namespace
}  // namespace retort::evaluate
