// Losses and gradients at the inputs of independent implementations (tests/golden/token_losses.py: TRL's GKD
// loss, PyTorch's kl_div), and the first losses of runs of torch's (tests/golden/training.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "golden.h"
#include "train/batches.h"
#include "train/trainer.h"

namespace retort::train {
namespace {

TEST(TokenLossGolden, is_that_of_trl_and_torch) {
    const auto file = formats::SafetensorsFile::open(golden::path("train/token_losses.safetensors")).value();
    const auto metadata = nlohmann::json::parse(file.metadata().at("golden"));
    std::size_t checked = 0;
    double worst_loss = 0;
    double worst_gradient = 0;
    for (const auto& [name, values] : metadata.at("cases").items()) {
        Objective objective;
        objective.kind = objective_from_name(values.at(0).get<std::string>()).value();
        objective.beta = objective.alpha = values.at(1).get<double>();
        objective.temperature = values.at(2).get<double>();
        const std::string input = "input." + std::to_string(values.at(3).get<int>());
        auto student = golden::values<float>(file, input + ".student");
        auto teacher = golden::values<float>(file, input + ".teacher");
        const auto targets = golden::values<std::int32_t>(file, input + ".targets");
        const auto rows = static_cast<std::int64_t>(targets.size());
        tensor::TokenLossWeights weights = loss_weights(objective);
        weights.scale = 1.0F / static_cast<float>(rows);
        std::vector<tensor::TokenLoss> losses(targets.size());
        tensor::token_loss(student.data(), teacher.data(), targets.data(), rows,
                           static_cast<std::int64_t>(student.size()) / rows, weights, losses.data());
        double loss = 0;
        for (const auto& one : losses) loss += one.divergence / static_cast<double>(rows);
        const double want = golden::values<float>(file, name + ".loss").at(0);
        EXPECT_NEAR(loss / want, 1.0, 1e-5) << name;
        const auto gradient = golden::values<float>(file, name + ".gradient");
        double gap = 0;
        double size = 0;
        for (std::size_t i = 0; i < gradient.size(); ++i) {
            gap += std::pow(static_cast<double>(student[i]) - gradient[i], 2);
            size += std::pow(static_cast<double>(gradient[i]), 2);
        }
        EXPECT_LE(std::sqrt(gap / size), 1e-5) << name;
        worst_loss = std::max(worst_loss, std::abs(loss / want - 1.0));
        worst_gradient = std::max(worst_gradient, std::sqrt(gap / size));
        ++checked;
    }
    // In the output of --gtest_output, for tests/golden/transcripts/objectives.md.
    RecordProperty("worst_relative_error_of_loss", std::to_string(worst_loss * 1e6) + "e-6");
    RecordProperty("worst_relative_error_of_gradient", std::to_string(worst_gradient * 1e6) + "e-6");
    EXPECT_EQ(checked, 48U);
}

struct Curve {
    const char* name;
    Objective objective;
};

class TorchCurve : public ::testing::TestWithParam<Curve> {};

// The data's order is fixed (micro-batches 2s and 2s + 1, modulo 8), where train() draws its own.
TEST_P(TorchCurve, first_twenty_losses) {
    const auto data = formats::SafetensorsFile::open(golden::path("train/adamw.safetensors")).value();
    const auto file = formats::SafetensorsFile::open(golden::path("train/distill.safetensors")).value();
    const auto expected = golden::values<float>(file, std::string(GetParam().name) + ".loss");
    ASSERT_EQ(expected.size(), 20U);
    const std::vector<data::PackedBatch> batches = golden::batches(data);
    ASSERT_EQ(batches.size(), 8U);
    std::int64_t longest = 0;
    for (const auto& batch : batches)
        longest = std::max(longest, static_cast<std::int64_t>(batch.tokens.size()));
    model::Parameters student = golden::load("smollm2");
    const model::Parameters teacher = golden::load("llama3");
    const std::unique_ptr<Trainee> trainee = Trainee::make(student, {}).value();
    OptimiserOptions options;
    options.clip_norm = 3.5;
    Schedule schedule;
    schedule.peak = 3e-3;
    schedule.warmup_steps = 4;
    schedule.total_steps = 20;
    model::Transformer transformer(student.layout, longest, {true, false});
    model::Transformer teacher_transformer(teacher.layout, longest, {false, false});
    FusedHead head(student.layout.config.vocab_size, student.layout.config.hidden_size,
                   teacher.layout.config.hidden_size, longest);
    const Objective& objective = GetParam().objective;
    double worst = 0;
    for (std::size_t s = 0; s < expected.size(); ++s) {
        std::int64_t trained = 0;
        for (const std::size_t j : {2 * s, 2 * s + 1}) trained += batches[j % 8].trained_tokens;
        LossSums sums;
        for (const std::size_t j : {2 * s, 2 * s + 1}) {
            const std::vector<std::int64_t> index = {static_cast<std::int64_t>(j % 8)};
            const Batch batch = join_rows(batches, index);
            tensor::TokenLossWeights weights = loss_weights(objective);
            weights.scale = 1.0F / static_cast<float>(trained);
            const model::ParameterView view{student.values.data(), nullptr};
            const model::ParameterView teacher_view{teacher.values.data(), nullptr};
            const HeadInput teacher_input{&teacher.layout, teacher_view,
                                          teacher_transformer.forward(teacher_view, batch.token_batch())};
            const auto hidden = transformer.forward(view, batch.token_batch());
            std::vector<float> d_hidden(hidden.size());
            sums +=
                head.run({&student.layout, view, hidden}, uses_teacher(objective) ? &teacher_input : nullptr,
                         batch.targets, weights, d_hidden.data(), trainee->gradients());
            transformer.backward(view, batch.token_batch(), d_hidden, trainee->gradients());
        }
        const double rate = learning_rate(schedule, static_cast<std::int64_t>(s));
        trainee->step(options, rate);
        // The bound; 1e-5 and less is seen.
        EXPECT_NEAR(sums.value(objective) / expected[s], 1.0, 1e-3) << "step " << s;
        worst = std::max(worst, std::abs(sums.value(objective) / expected[s] - 1.0));
    }
    RecordProperty("worst_relative_error_of_20_losses", std::to_string(worst * 1e6) + "e-6");
}

INSTANTIATE_TEST_SUITE_P(Objectives, TorchCurve,
                         ::testing::Values(Curve{"ce", {ObjectiveKind::ce}},
                                           Curve{"fkl", {ObjectiveKind::fkl}},
                                           Curve{"fkl2", {ObjectiveKind::fkl, 2.0}},
                                           Curve{"rkl", {ObjectiveKind::rkl}},
                                           Curve{"jsd", {ObjectiveKind::jsd}}),
                         [](const auto& curve) { return std::string(curve.param.name); });

}  // namespace
}  // namespace retort::train
