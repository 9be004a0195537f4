// The loop around the gradients: the loss curve of torch's AdamW, and resuming to the same bits.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <filesystem>

#include "base/interrupt.h"
#include "golden.h"
#include "thread_ranks.h"
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
    for (const auto& [bf16, storage] :
         {std::pair(false, tensor::DType::f32), std::pair(true, tensor::DType::f32),
          std::pair(false, tensor::DType::bf16), std::pair(true, tensor::DType::bf16)}) {
        TrainOptions options = options_for(scratch("whole"));
        options.objective.kind = ObjectiveKind::fkl;
        options.bf16 = bf16;
        options.optimiser.moments = storage;
        options.optimiser.gradients = storage;
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

TEST(Checkpoint, keeps_moments_in_their_own_type_and_refuses_another) {
    const fs::path folder = scratch("moments");
    TraineeOptions narrow_options;
    narrow_options.moments = tensor::DType::bf16;
    model::Parameters student = golden::load("smollm2");
    const auto wide = Trainee::make(student, {}).value();
    const auto narrow = Trainee::make(student, narrow_options).value();
    const std::array<float, 2> values = {3, -0x1.02p-20F};  // of which bf16 has each
    narrow->write(Trainee::Section::first_moments, 5, values);
    narrow->write(Trainee::Section::second_moments, 9, values);
    ASSERT_TRUE(save_checkpoint(folder / "wide", {"run", 1, {}}, *wide));
    ASSERT_TRUE(save_checkpoint(folder / "narrow", {"run", 1, {}}, *narrow));
    // Two bytes less for each element of two sections; the headers differ by a character.
    EXPECT_NEAR(static_cast<double>(fs::file_size(folder / "wide") - fs::file_size(folder / "narrow")),
                4.0 * static_cast<double>(wide->elements()), 4);
    const auto again = Trainee::make(student, narrow_options).value();
    ASSERT_TRUE(load_checkpoint(folder / "narrow", "run", *again));
    std::array<float, 2> read{};
    again->read(Trainee::Section::first_moments, 5, read);
    EXPECT_EQ(read, values);
    again->read(Trainee::Section::second_moments, 9, read);
    EXPECT_EQ(read, values);
    const auto refused = load_checkpoint(folder / "narrow", "run", *wide);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("--moments bf16"), std::string::npos) << refused.error().message;
    const auto also = load_checkpoint(folder / "wide", "run", *again);
    ASSERT_FALSE(also);
    EXPECT_NE(also.error().message.find("--moments f32"), std::string::npos) << also.error().message;
}

// The rounding moves a run by little, and only where it is asked for.
class Storage : public ::testing::TestWithParam<std::pair<tensor::DType, tensor::DType>> {};

TEST_P(Storage, in_bf16_stays_near_the_run_with_f32) {
    const GoldenRun golden = golden_run();
    const auto run = [&](std::pair<tensor::DType, tensor::DType> storage, std::uint64_t seed) {
        TrainOptions options = options_for("");
        options.rows_per_step = 8;  // all rows: the seed changes the rounding, and the order of sums
        options.optimiser.moments = storage.first;
        options.optimiser.gradients = storage.second;
        options.seed = seed;
        model::Parameters student = golden::load("smollm2");
        return train(student, nullptr, golden.batches, options).value().curve;
    };
    const auto wide = run({tensor::DType::f32, tensor::DType::f32}, 1);
    const auto narrow = run(GetParam(), 1);
    const auto other = run(GetParam(), 2);
    ASSERT_EQ(narrow.size(), wide.size());
    // Rounding a gradient or a moment moves it by at most 2⁻⁷ of itself, and so an element's step by at most
    // 3·2⁻⁷ at first order; the loss came down by steps, each of which is changed by no more than that share.
    const double fall = wide.front().loss - wide.back().loss;
    ASSERT_GT(fall, 0.02);
    EXPECT_NEAR(narrow.back().loss, wide.back().loss, 3.0 / 128 * fall);
    EXPECT_NE(narrow.back().loss, wide.back().loss);
    EXPECT_NE(narrow.back().loss, other.back().loss);
}

TEST(Train, does_not_go_on_with_other_storage) {
    const GoldenRun golden = golden_run();
    TrainOptions options = options_for(scratch("storage"));
    options.max_steps = 1;
    model::Parameters student = golden::load("smollm2");
    ASSERT_TRUE(train(student, nullptr, golden.batches, options));
    for (const bool moments : {false, true}) {
        TrainOptions other = options;
        (moments ? other.optimiser.moments : other.optimiser.gradients) = tensor::DType::bf16;
        model::Parameters again = golden::load("smollm2");
        const auto refused = train(again, nullptr, golden.batches, other);
        ASSERT_FALSE(refused);
        EXPECT_NE(refused.error().message.find(moments ? "--moments f32" : "other settings"),
                  std::string::npos)
            << refused.error().message;
    }
}

INSTANTIATE_TEST_SUITE_P(Train, Storage,
                         ::testing::Values(std::pair(tensor::DType::bf16, tensor::DType::f32),
                                           std::pair(tensor::DType::f32, tensor::DType::bf16),
                                           std::pair(tensor::DType::bf16, tensor::DType::bf16)));

// A step's gradients by way of on_layer(): of the same norm, and f32's memory is empty between layers.
TEST(Trainee, keeps_the_gradients_of_layers_in_bf16) {
    const GoldenRun golden = golden_run();
    for (const bool recompute : {false, true}) {
        std::array<double, 2> norms{};
        for (const tensor::DType type : {tensor::DType::f32, tensor::DType::bf16}) {
            model::Parameters student = golden::load("smollm2");
            TraineeOptions kept;
            kept.gradients = type;
            const auto trainee = Trainee::make(student, kept).value();
            const model::ParameterLayout& layout = trainee->layout();
            const std::vector<std::int64_t> index = {0, 1};
            const Batch batch = join_rows(golden.batches, index);
            model::Transformer transformer(layout, static_cast<std::int64_t>(batch.tokens.size()),
                                           {true, recompute});
            const auto hidden = transformer.forward(trainee->view(), batch.token_batch());
            const std::vector<float> d_hidden(hidden.size(), 1e-3F);
            transformer.backward(trainee->view(), batch.token_batch(), d_hidden, trainee->gradients(),
                                 trainee->on_layer());
            if (type == tensor::DType::bf16) {
                const std::int64_t end =
                    layout.layers.back().down + layout.config.hidden_size * layout.config.intermediate_size;
                for (std::int64_t i = layout.layers.front().qkv; i < end; ++i)
                    ASSERT_EQ(trainee->gradients()[i], 0) << i;
            }
            norms[type == tensor::DType::bf16 ? 1 : 0] = trainee->step({}, 1e-4);
            EXPECT_EQ(trainee->step({}, 1e-4), 0);  // they are zero after a step
        }
        // Each element moves by under 2⁻⁷ of itself, up or down: the square of the norm of n of one size by
        // under 2·2⁻⁷/√n; there are thousands, some far larger than others.
        EXPECT_NEAR(norms[1] / norms[0], 1, 1e-3);
        EXPECT_NE(norms[1], norms[0]);
    }
}

TEST(Trainee, refuses_by_name_what_bf16_gradients_do_not_go_with) {
    model::Parameters student = golden::load("smollm2");
    TraineeOptions options;
    options.gradients = tensor::DType::bf16;
    options.lora.rank = 4;
    const auto adapters = Trainee::make(student, options);
    ASSERT_FALSE(adapters);
    EXPECT_NE(adapters.error().message.find("--lora-rank"), std::string::npos);
    options.lora.rank = 0;
    Meeting meeting(2);
    ThreadRank world(meeting, 0);
    options.world = &world;
    const auto several = Trainee::make(student, options);
    ASSERT_FALSE(several);
    EXPECT_NE(several.error().message.find("2 processes"), std::string::npos);
}

TEST(TrainPlan, counts_gradients_and_moments_as_they_are_kept) {
    const GoldenRun golden = golden_run();
    const model::Parameters student = golden::load("smollm2");
    TrainOptions options = options_for("");
    const TrainPlan wide = plan_training(student.layout.config, nullptr, golden.batches, options);
    options.optimiser.moments = tensor::DType::bf16;
    const TrainPlan narrow = plan_training(student.layout.config, nullptr, golden.batches, options);
    EXPECT_EQ(wide.memory.student.moments, 8 * student.layout.total);
    EXPECT_EQ(narrow.memory.student.moments, 4 * student.layout.total);
    EXPECT_EQ(wide.memory_bytes - narrow.memory_bytes, 4 * student.layout.total);
    options.optimiser.gradients = tensor::DType::bf16;
    const TrainPlan both = plan_training(student.layout.config, nullptr, golden.batches, options);
    const auto& layers = student.layout.layers;
    const std::int64_t of_layers = student.layout.matrices - layers.front().qkv;  // the head is tied
    const std::int64_t of_one = layers[1].qkv - layers[0].qkv;
    EXPECT_NEAR(static_cast<double>(narrow.memory_bytes - both.memory_bytes),
                static_cast<double>(2 * of_layers - 4 * of_one), 256);
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
