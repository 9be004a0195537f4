// Narrower models: what does nothing can go without a trace, and what is kept is what does most.
#include "model/prune_width.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "random_text.h"

namespace retort::model {
namespace {

Parameters random_model(bool tied, bool bias, bool qk_norm) {
    ModelConfig config;
    config.architecture = "llama";
    config.vocab_size = 40;
    config.hidden_size = 24;
    config.intermediate_size = 20;
    config.layer_count = 3;
    config.head_count = 6;
    config.kv_head_count = 3;
    config.head_dim = 4;
    config.context_length = 64;
    config.tie_embeddings = tied;
    config.qkv_bias = bias;
    config.qk_norm = qk_norm;
    Parameters parameters = random_parameters(config, 3);
    base::RandomStream random(7, 7);
    for (float& value : parameters.values.span())
        value = value * 8 + static_cast<float>(0.05 * (random.uniform() - 0.5));
    return parameters;
}

std::vector<float> logits(const Parameters& parameters, const RandomText& text) {
    const ModelConfig& config = parameters.layout.config;
    Transformer transformer(parameters.layout, static_cast<std::int64_t>(text.tokens.size()), {false, false});
    const auto batches = text.batches();
    const auto hidden = transformer.forward({parameters.values.data(), nullptr}, batches.front());
    std::vector<float> out;
    for (std::size_t t = 0; t < text.tokens.size(); ++t) {
        for (std::int64_t v = 0; v < config.vocab_size; ++v) {
            const float* row = parameters.values.data() + parameters.layout.head + v * config.hidden_size;
            const float* at = hidden.data() + static_cast<std::int64_t>(t) * config.hidden_size;
            out.push_back(std::inner_product(row, row + config.hidden_size, at, 0.0F));
        }
    }
    return out;
}

// What was summed in another order differs by f32's rounding, which three layers and their softmax make
// larger; a norm that was not made good for its lost channels would differ by a tenth.
void expect_close(const std::vector<float>& a, const std::vector<float>& b) {
    ASSERT_EQ(a.size(), b.size());
    float largest = 0;
    for (const float value : a) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-3F * largest) << i;
}

// matrix (rows, cols): its columns become zero.
void clear_columns(Parameters& parameters, std::int64_t at, std::int64_t rows, std::int64_t cols,
                   const std::vector<std::int64_t>& columns) {
    for (std::int64_t r = 0; r < rows; ++r)
        for (const std::int64_t c : columns) parameters.values.data()[at + r * cols + c] = 0;
}
void clear_rows(Parameters& parameters, std::int64_t at, std::int64_t cols,
                const std::vector<std::int64_t>& rows) {
    for (const std::int64_t r : rows) std::fill_n(parameters.values.data() + at + r * cols, cols, 0.0F);
}

class Shapes : public ::testing::TestWithParam<int> {
  protected:
    [[nodiscard]] Parameters model() const {
        return random_model((GetParam() & 1) != 0, (GetParam() & 2) != 0, (GetParam() & 4) != 0);
    }
    RandomText text{{7, 12, 5}};
};

TEST_P(Shapes, all_of_it_is_the_same_model) {
    const Parameters whole = model();
    const auto same = prune_width(whole, text.batches(), {20, 6, 24});
    ASSERT_TRUE(same) << same.error().message;
    for (const ParameterTensor& tensor : whole.layout.tensors) {  // between them are gaps
        const float* was = whole.values.data() + tensor.offset;
        EXPECT_TRUE(std::equal(was, was + tensor.count, same->values.data() + tensor.offset)) << tensor.name;
    }
    EXPECT_EQ(same->layout.config.rms_norm_eps, whole.layout.config.rms_norm_eps);
}

TEST_P(Shapes, dead_channels_of_the_mlp_go_without_a_trace) {
    Parameters whole = model();
    const std::vector<std::int64_t> dead = {0, 3, 4, 11, 19};
    for (std::size_t l = 0; l < whole.layout.layers.size(); ++l) {
        const LayerOffsets& at = whole.layout.layers[l];
        if (l == 1)
            clear_columns(whole, at.down, 24, 20, dead);  // computed and not used
        else
            clear_rows(whole, at.gate_up, 24, dead);  // gate 0: nothing comes through
    }
    const auto smaller = prune_width(whole, text.batches(), {15, 0, 0});
    ASSERT_TRUE(smaller) << smaller.error().message;
    EXPECT_EQ(smaller->layout.config.intermediate_size, 15);
    expect_close(logits(whole, text), logits(*smaller, text));
}

TEST_P(Shapes, dead_heads_go_without_a_trace) {
    Parameters whole = model();
    for (const LayerOffsets& at : whole.layout.layers)
        clear_columns(whole, at.output, 24, 24,
                      {8, 9, 10, 11, 12, 13, 14, 15});  // the second group's two heads
    const auto smaller = prune_width(whole, text.batches(), {0, 4, 0});
    ASSERT_TRUE(smaller) << smaller.error().message;
    EXPECT_EQ(smaller->layout.config.head_count, 4);
    EXPECT_EQ(smaller->layout.config.kv_head_count, 2);
    EXPECT_EQ(smaller->layout.config.head_dim, 4);
    expect_close(logits(whole, text), logits(*smaller, text));
}

TEST_P(Shapes, dead_channels_of_the_residual_stream_go_without_a_trace) {
    Parameters whole = model();
    const std::vector<std::int64_t> dead = {1, 2, 8, 17, 23, 20};
    clear_columns(whole, whole.layout.embedding, 40, 24, dead);
    for (const LayerOffsets& at : whole.layout.layers) {
        clear_rows(whole, at.output, 24, dead);
        clear_rows(whole, at.down, 20, dead);
    }
    const auto smaller = prune_width(whole, text.batches(), {0, 0, 18});
    ASSERT_TRUE(smaller) << smaller.error().message;
    EXPECT_EQ(smaller->layout.config.hidden_size, 18);
    expect_close(logits(whole, text), logits(*smaller, text));
}

INSTANTIATE_TEST_SUITE_P(Width, Shapes, ::testing::Values(0, 1, 2, 5, 7));

TEST(PruneWidth, keeps_what_does_most) {
    const WidthImportance importance{{{3, 1, 2, 4}, {1, 2, 3, 4}}, {{1, 5, 2}, {9, 1, 9}}, {2, 2, 2, 3}};
    ModelConfig config;
    config.head_count = 6;
    config.kv_head_count = 3;
    const auto kept = most_important_width(importance, config, {2, 4, 3});
    ASSERT_TRUE(kept) << kept.error().message;
    EXPECT_EQ(kept->intermediate, (std::vector<std::vector<std::int64_t>>{{0, 3}, {2, 3}}));
    EXPECT_EQ(kept->groups, (std::vector<std::vector<std::int64_t>>{{1, 2}, {0, 2}}));
    EXPECT_EQ(kept->hidden, (std::vector<std::int64_t>{0, 1, 3}));
    EXPECT_FALSE(most_important_width(importance, config, {5, 0, 0}));
    EXPECT_FALSE(most_important_width(importance, config, {0, 3, 0}));
    EXPECT_FALSE(most_important_width(importance, config, {0, 0, 9}));
    EXPECT_FALSE(prune_width(random_model(false, false, false), {}, {1, 0, 0}));
}

}  // namespace
}  // namespace retort::model
