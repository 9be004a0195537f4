// The loop around the gradients: the loss curve of torch's AdamW, and resuming to the same bits.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <filesystem>

#include "base/interrupt.h"
#include "golden.h"
#include "train/batches.h"
#include "train/trainer.h"

namespace retort::train {
namespace {

namespace fs = std::filesystem;

fs::path scratch(const std::string& name) {
    const fs::path path = fs::path(::testing::TempDir()) / ("retort_train_" + name);
    fs::remove_all(path);
    return path;
}

struct GoldenRun {
    formats::SafetensorsFile file;
    std::vector<data::PackedBatch> batches;
};

GoldenRun golden_run() {
    GoldenRun run{formats::SafetensorsFile::open(golden::path("train/adamw.safetensors")).value(), {}};
    run.batches = golden::batches(run.file);
    return run;
}

TrainOptions options_for(const fs::path& folder) {
    TrainOptions options;
    options.learning_rate = 3e-3;
    options.epochs = 3;
    options.rows_per_step = 2;
    options.rows_per_micro_batch = 1;
    options.folder = folder;
    options.checkpoint_steps = 3;
    options.quiet = true;
    return options;
}

TEST(OptimiserStep, follows_torch_over_a_short_run) {
    const GoldenRun golden = golden_run();
    const auto losses = golden::values<float>(golden.file, "loss");
    const auto norms = golden::values<float>(golden.file, "gradient_norm");
    const auto rates = golden::values<float>(golden.file, "learning_rate");
    ASSERT_EQ(losses.size(), 16U);
    ASSERT_EQ(golden.batches.size(), 8U);
    model::Parameters student = golden::load("smollm2");
    const model::Parameters initial = golden::load("smollm2");
    const std::unique_ptr<Trainee> trainee = Trainee::make(student, {}).value();
    OptimiserOptions options;
    options.clip_norm = 3.5;
    Schedule schedule;
    schedule.peak = 3e-3;
    schedule.warmup_steps = 4;
    schedule.total_steps = 16;
    std::int64_t longest = 0;
    for (const auto& batch : golden.batches)
        longest = std::max<std::int64_t>(longest, static_cast<std::int64_t>(batch.tokens.size()));
    model::Transformer transformer(student.layout, longest, {true, false});
    FusedHead head(student.layout.config.vocab_size, student.layout.config.hidden_size, 0, longest);
    for (std::int64_t s = 0; s < 16; ++s) {
        LossSums sums;
        std::int64_t trained = 0;
        for (std::int64_t j = 0; j < 2; ++j)
            trained += golden.batches[static_cast<std::size_t>((2 * s + j) % 8)].trained_tokens;
        for (std::int64_t j = 0; j < 2; ++j) {
            const std::vector<std::int64_t> index = {(2 * s + j) % 8};
            const Batch batch = join_rows(golden.batches, index);
            tensor::TokenLossWeights weights;
            weights.scale = 1.0F / static_cast<float>(trained);
            const model::ParameterView view{student.values.data(), nullptr};
            const auto hidden = transformer.forward(view, batch.token_batch());
            std::vector<float> d_hidden(hidden.size());
            sums += head.run({&student.layout, view, hidden}, nullptr, batch.targets, weights,
                             d_hidden.data(), trainee->gradients());
            transformer.backward(view, batch.token_batch(), d_hidden, trainee->gradients());
        }
        const double rate = learning_rate(schedule, s);
        EXPECT_NEAR(rate, rates[static_cast<std::size_t>(s)], 1e-6 * rate);
        const double norm = trainee->step(options, rate);
        EXPECT_NEAR(sums.ce / static_cast<double>(sums.tokens), losses[static_cast<std::size_t>(s)], 1e-4)
            << s;
        EXPECT_NEAR(norm / norms[static_cast<std::size_t>(s)], 1.0, 1e-3) << s;
    }
    for (const model::ParameterTensor& tensor : student.layout.tensors) {
        const auto moved = golden::values<float>(golden.file, "final.moved." + tensor.name);
        double square = 0;
        for (std::int64_t i = tensor.offset; i < tensor.offset + tensor.count; ++i) {
            square += std::pow(static_cast<double>(student.values.data()[i]) - initial.values.data()[i], 2);
        }
        EXPECT_NEAR(std::sqrt(square) / moved.at(0), 1.0, 1e-3) << tensor.name;
    }
}

TEST(Train, resumes_to_the_same_bits_from_every_checkpoint) {
    const GoldenRun golden = golden_run();
    const model::Parameters teacher = golden::load("llama3");
    for (const bool bf16 : {false, true}) {
        TrainOptions options = options_for(scratch("whole"));
        options.objective.kind = ObjectiveKind::fkl;
        options.bf16 = bf16;
        model::Parameters whole = golden::load("smollm2");
        const auto report = train(whole, &teacher, golden.batches, options);
        ASSERT_TRUE(report) << report.error().message;
        EXPECT_EQ(report->steps, 12);
        EXPECT_LT(report->curve.back().loss, report->curve.front().loss);
        // A run that is stopped after each step, as by Ctrl-C, and started anew.
        options.folder = scratch("pieces");
        std::vector<float> pieces;
        for (int starts = 0; starts < 20; ++starts) {
            model::Parameters student = golden::load("smollm2");
            TrainOptions piece = options;
            piece.checkpoint_steps = 1;
            const auto before = std::filesystem::exists(options.folder / "checkpoint.bin");
            base::set_interrupted(starts % 2 == 0 && before);
            const auto outcome = train(student, &teacher, golden.batches, piece);
            base::set_interrupted(false);
            if (outcome) {
                pieces.assign(student.values.span().begin(), student.values.span().end());
                break;
            }
            EXPECT_EQ(outcome.error().code, ErrorCode::cancelled);
        }
        EXPECT_EQ(pieces, std::vector<float>(whole.values.span().begin(), whole.values.span().end()));
    }
}

TEST(Checkpoint, of_another_run_or_a_damaged_one_is_refused_by_name) {
    const fs::path folder = scratch("checkpoint");
    model::Parameters student = golden::load("smollm2");
    const auto trainee = Trainee::make(student, {}).value();
    const std::array<float, 1> three = {3};
    trainee->write(Trainee::Section::first_moments, 5, three);
    ASSERT_TRUE(save_checkpoint(folder / "c", {"run A", 7, {StepRecord{}}}, *trainee));
    model::Parameters again = golden::load("llama3");
    EXPECT_FALSE(load_checkpoint(folder / "c", "run A", *Trainee::make(again, {}).value()));
    model::Parameters fresh = golden::load("smollm2");
    const auto same = Trainee::make(fresh, {}).value();
    EXPECT_FALSE(load_checkpoint(folder / "c", "run B", *same));
    const auto header = load_checkpoint(folder / "c", "run A", *same);
    ASSERT_TRUE(header) << header.error().message;
    EXPECT_EQ(header->steps, 7);
    EXPECT_EQ(header->curve.size(), 1U);
    std::array<float, 1> read{};
    same->read(Trainee::Section::first_moments, 5, read);
    EXPECT_EQ(read, three);
    const auto size = fs::file_size(folder / "c");
    fs::resize_file(folder / "c", size - 1);
    EXPECT_FALSE(load_checkpoint(folder / "c", "run A", *same));
}

TEST(Train, bad_input_is_named) {
    const GoldenRun golden = golden_run();
    model::Parameters student = golden::load("smollm2");
    TrainOptions options = options_for("");
    EXPECT_FALSE(train(student, nullptr, {}, options));
    options.objective.kind = ObjectiveKind::fkl;
    EXPECT_FALSE(train(student, nullptr, golden.batches, options));
    options.objective.kind = ObjectiveKind::ce;
    auto batches = golden.batches;
    batches[3].tokens[2] = 107;
    const auto outcome = train(student, nullptr, batches, options);
    ASSERT_FALSE(outcome);
    EXPECT_NE(outcome.error().message.find("107"), std::string::npos);
    batches = golden.batches;
    for (auto& batch : batches) {
        for (auto& target : batch.targets) target = -1;
        batch.trained_tokens = 0;
    }
    EXPECT_FALSE(train(student, nullptr, batches, options));
}

TEST(RowsOfStep, visit_every_row_once_an_epoch) {
    std::vector<int> seen(7, 0);
    for (std::int64_t step = 0; step < 7; ++step) {
        for (const std::int64_t row : rows_of_step(7, 3, 5, step)) ++seen[static_cast<std::size_t>(row)];
    }
    for (const int count : seen) EXPECT_EQ(count, 3);
    EXPECT_NE(rows_of_step(7, 7, 5, 0), rows_of_step(7, 7, 5, 1));
    EXPECT_NE(rows_of_step(7, 7, 5, 0), rows_of_step(7, 7, 6, 0));
}

TEST(LearningRate, warms_up_and_comes_down) {
    Schedule schedule{ScheduleKind::cosine, 1.0, 10, 110, 0.1};
    EXPECT_DOUBLE_EQ(learning_rate(schedule, 0), 0.1);
    EXPECT_DOUBLE_EQ(learning_rate(schedule, 9), 1.0);
    EXPECT_NEAR(learning_rate(schedule, 60), 0.55, 1e-12);
    EXPECT_NEAR(learning_rate(schedule, 110), 0.1, 1e-12);
    schedule.kind = ScheduleKind::wsd;
    EXPECT_DOUBLE_EQ(learning_rate(schedule, 80), 1.0);
    EXPECT_NEAR(learning_rate(schedule, 110), 0.1, 1e-12);
}

}  // namespace
}  // namespace retort::train
