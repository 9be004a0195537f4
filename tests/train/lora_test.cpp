// Low-rank adapters: their gradients by the chain rule from those of the merged matrices (which torch checks,
// gradients_test.cpp) and by finite differences; merged equals unmerged; training, resuming, the files.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/interrupt.h"
#include "base/random.h"
#include "golden.h"
#include "tensor/gemm.h"
#include "train/batches.h"
#include "train/trainer.h"

namespace retort::train {
namespace {

namespace fs = std::filesystem;

struct Setting {
    model::Parameters student;
    model::AdapterLayout layout;
    tensor::Buffer<float> adapters;
    tensor::Buffer<std::uint16_t> adapters_bf16;
    data::PackedBatch packed;
};

// Adapters whose B is not zero, so that everything has a gradient.
Setting setting(const std::string& shape, std::vector<std::string> targets = {}) {
    Setting s{golden::load(shape), {}, {}, {}, {}};
    s.layout = model::make_adapter_layout(s.student.layout, {4, 8, std::move(targets)}).value();
    s.adapters = model::random_adapters(s.layout, 3);
    base::RandomStream random(5);
    for (const model::Adapter& one : s.layout.adapters) {
        for (std::int64_t i = 0; i < one.rows * s.layout.rank; ++i)
            s.adapters.data()[one.b + i] = static_cast<float>(random.normal() * 0.05);
    }
    s.adapters_bf16 = tensor::Buffer<std::uint16_t>(s.layout.total);
    tensor::convert_to_bf16(s.adapters.data(), s.adapters_bf16.data(), s.layout.total);
    const auto file =
        formats::SafetensorsFile::open(golden::path("model/" + shape + "/golden.safetensors")).value();
    s.packed = golden::packed(file, {0, 1});
    return s;
}

struct Pass {
    double loss = 0;
    std::vector<float> hidden;
    std::vector<float> gradients;
};

Pass run(const Setting& s, bool with_adapters, bool bf16 = false) {
    const std::vector<std::int64_t> first = {0};
    const Batch batch = join_rows({&s.packed, 1}, first);
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
    std::vector<std::uint16_t> rounded(static_cast<std::size_t>(s.student.layout.total));
    tensor::convert_to_bf16(s.student.values.data(), rounded.data(), s.student.layout.total);
    const model::AdapterView adapters{&s.layout, s.adapters.data(), bf16 ? s.adapters_bf16.data() : nullptr};
    model::ParameterView view{s.student.values.data(), bf16 ? rounded.data() : nullptr};
    if (with_adapters) view.adapters = &adapters;
    model::Transformer transformer(s.student.layout, tokens, {true, false, bf16, s.layout.rank});
    FusedHead head(s.student.layout.config.vocab_size, s.student.layout.config.hidden_size, 0, tokens);
    const auto states = transformer.forward(view, batch.token_batch());
    Pass pass;
    pass.hidden.assign(states.begin(), states.end());
    pass.gradients.assign(static_cast<std::size_t>(with_adapters ? s.layout.total : s.student.layout.total),
                          0);
    std::vector<float> d_hidden(states.size());
    tensor::TokenLossWeights weights;
    weights.scale = 1.0F / static_cast<float>(batch.trained_tokens);
    const LossSums sums = head.run({&s.student.layout, view, states}, nullptr, batch.targets, weights,
                                   d_hidden.data(), with_adapters ? nullptr : pass.gradients.data());
    transformer.backward(view, batch.token_batch(), d_hidden, pass.gradients.data());
    pass.loss = sums.ce / static_cast<double>(sums.tokens);
    return pass;
}

double relative_gap(const std::vector<float>& a, const std::vector<float>& b) {
    double gap = 0;
    double size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        gap += std::pow(static_cast<double>(a[i]) - b[i], 2);
        size += std::pow(static_cast<double>(b[i]), 2);
    }
    return std::sqrt(gap / size);
}

class Lora : public ::testing::TestWithParam<const char*> {};

TEST_P(Lora, merged_weights_give_the_same_hidden_states) {
    Setting s = setting(GetParam());
    const Pass apart = run(s, true);
    const Pass without = run(s, false);
    model::merge_adapters(s.layout, s.adapters.data(), s.student);
    const Pass merged = run(s, false);
    // f32: W + BA is rounded once at 2⁻²⁴ where the two paths round apart; a few roundings in a row, through
    // two layers.
    EXPECT_LE(relative_gap(apart.hidden, merged.hidden), 1e-5);
    EXPECT_NEAR(apart.loss, merged.loss, 1e-5);
    EXPECT_GT(relative_gap(without.hidden, merged.hidden), 1e-2);  // or the adapters did nothing
}

// W' = W + s·B·A: dB = s·dW'·Aᵀ and dA = s·Bᵀ·dW'.
TEST_P(Lora, gradients_follow_from_those_of_the_merged_matrices) {
    for (const bool bf16 : {false, true}) {
        Setting s = setting(GetParam());
        const Pass apart = run(s, true, bf16);
        model::merge_adapters(s.layout, s.adapters.data(), s.student);
        const Pass merged = run(s, false, bf16);
        for (const model::Adapter& one : s.layout.adapters) {
            const float* d_matrix = merged.gradients.data() + one.product + one.row * one.cols;
            std::vector<float> d_a(static_cast<std::size_t>(s.layout.rank * one.cols));
            std::vector<float> d_b(static_cast<std::size_t>(one.rows * s.layout.rank));
            tensor::gemm_reference(true, false, s.layout.rank, one.cols, one.rows, s.layout.scale,
                                   s.adapters.data() + one.b, s.layout.rank, d_matrix, one.cols, 0,
                                   d_a.data(), one.cols);
            tensor::gemm_reference(false, true, one.rows, s.layout.rank, one.cols, s.layout.scale, d_matrix,
                                   one.cols, s.adapters.data() + one.a, one.cols, 0, d_b.data(),
                                   s.layout.rank);
            const auto got = [&](std::int64_t at, std::size_t count) {
                return std::vector<float>(apart.gradients.begin() + at,
                                          apart.gradients.begin() + at + static_cast<std::ptrdiff_t>(count));
            };
            // f32: sums of some hundred terms in other orders. bf16: inputs of each product at 2⁻⁹, through
            // two layers and back.
            const double tolerance = bf16 ? 0.1 : 1e-4;
            EXPECT_LE(relative_gap(got(one.a, d_a.size()), d_a), tolerance) << one.module << " A " << bf16;
            EXPECT_LE(relative_gap(got(one.b, d_b.size()), d_b), tolerance) << one.module << " B " << bf16;
        }
    }
}

TEST_P(Lora, gradients_are_finite_differences) {
    Setting s = setting(GetParam(), {"q_proj", "v_proj", "up_proj", "down_proj"});
    const Pass pass = run(s, true);
    base::RandomStream random(9);
    std::vector<float> direction(static_cast<std::size_t>(s.layout.total));
    double expected = 0;
    for (std::size_t i = 0; i < direction.size(); ++i) {
        direction[i] = static_cast<float>(random.normal());
        expected += static_cast<double>(direction[i]) * pass.gradients[i];
    }
    const auto loss_at = [&](float step) {
        for (std::size_t i = 0; i < direction.size(); ++i) s.adapters.data()[i] += step * direction[i];
        const double loss = run(s, true).loss;
        for (std::size_t i = 0; i < direction.size(); ++i) s.adapters.data()[i] -= step * direction[i];
        return loss;
    };
    // A loss of about 5 in f32 is known to some 1e-6: over 2·1e-3 that is 5e-4, beside what is of order
    // 1e-3².
    constexpr float step = 1e-3F;
    const double seen = (loss_at(step) - loss_at(-step)) / (2 * step);
    EXPECT_NEAR(seen, expected, 2e-3 + 0.01 * std::abs(expected));
    EXPECT_GT(std::abs(expected), 0.02);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Lora, ::testing::Values("llama3", "smollm2", "qwen2.5", "qwen3"));

TrainOptions lora_options(const std::string& name, bool bf16) {
    TrainOptions options;
    options.learning_rate = 1e-2;
    options.epochs = 3;
    options.rows_per_step = 2;
    options.rows_per_micro_batch = 1;
    options.lora = {4, 8, {}};
    options.bf16 = bf16;
    options.quiet = true;
    options.folder = fs::path(::testing::TempDir()) / ("retort_lora_" + name);
    fs::remove_all(options.folder);
    return options;
}

std::vector<data::PackedBatch> golden_rows() {
    return golden::batches(formats::SafetensorsFile::open(golden::path("train/adamw.safetensors")).value());
}

TEST(LoraTraining, resumes_to_the_same_bits_and_moves_only_what_is_adapted) {
    const auto rows = golden_rows();
    const model::Parameters start = golden::load("smollm2");
    for (const bool bf16 : {false, true}) {
        TrainOptions options = lora_options("whole", bf16);
        options.lora.targets = {"q_proj", "down_proj"};
        model::Parameters whole = golden::load("smollm2");
        const auto report = train(whole, nullptr, rows, options);
        ASSERT_TRUE(report) << report.error().message;
        EXPECT_LT(report->curve.back().loss, report->curve.front().loss);
        for (const model::ParameterTensor& tensor : start.layout.tensors) {
            const bool moved = !std::equal(whole.values.data() + tensor.offset,
                                           whole.values.data() + tensor.offset + tensor.count,
                                           start.values.data() + tensor.offset);
            EXPECT_EQ(moved, tensor.name.find("q_proj.weight") != std::string::npos ||
                                 tensor.name.find("down_proj.weight") != std::string::npos)
                << tensor.name;
        }
        options.folder = lora_options("pieces", bf16).folder;
        options.checkpoint_steps = 1;
        std::vector<float> pieces;
        for (int starts = 0; starts < 20; ++starts) {
            model::Parameters student = golden::load("smollm2");
            const bool before = fs::exists(options.folder / "checkpoint.bin");
            base::set_interrupted(starts % 2 == 0 && before);
            options.on_step = [](const StepRecord& record) { base::set_interrupted(record.step % 4 == 0); };
            const auto outcome = train(student, nullptr, rows, options);
            base::set_interrupted(false);
            if (!outcome) continue;
            pieces.assign(student.values.span().begin(), student.values.span().end());
            break;
        }
        EXPECT_EQ(pieces, std::vector<float>(whole.values.span().begin(), whole.values.span().end()));
        const auto file =
            formats::SafetensorsFile::open(options.folder / "adapters/adapter_model.safetensors").value();
        EXPECT_EQ(file.tensors().size(), start.layout.layers.size() * 2 * 2);
        const auto* a = file.find("base_model.model.model.layers.0.mlp.down_proj.lora_A.weight");
        ASSERT_NE(a, nullptr);
        EXPECT_EQ(a->shape, (std::vector<std::int64_t>{4, start.layout.config.intermediate_size}));
        const auto json =
            nlohmann::json::parse(base::read_file(options.folder / "adapters/adapter_config.json").value());
        EXPECT_EQ(json.at("r"), 4);
        EXPECT_EQ(json.at("lora_alpha"), 8);
    }
}

TEST(LoraTraining, what_cannot_be_adapted_is_named) {
    model::Parameters student = golden::load("smollm2");
    const auto rows = golden_rows();
    TrainOptions options = lora_options("bad", false);
    options.lora.targets = {"lm_head"};
    const auto head = train(student, nullptr, rows, options);
    ASSERT_FALSE(head);
    EXPECT_NE(head.error().message.find("lm_head"), std::string::npos);
    options.lora.targets = {};
    options.lora.rank = 1000;
    EXPECT_FALSE(train(student, nullptr, rows, options));
    options.lora.rank = -1;
    EXPECT_FALSE(train(student, nullptr, rows, options));
    EXPECT_FALSE(student.values.empty());
}

}  // namespace
}  // namespace retort::train
