// Shallower models: which layers go.
#include "model/prune.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "random_text.h"

namespace retort::model {
namespace {

using Layers = std::vector<std::int64_t>;

Parameters model_of(std::int64_t layers) {
    ModelConfig config;
    config.architecture = "llama";
    config.vocab_size = 40;
    config.hidden_size = 24;
    config.intermediate_size = 20;
    config.layer_count = layers;
    config.head_count = 6;
    config.kv_head_count = 3;
    config.head_dim = 4;
    config.context_length = 64;
    Parameters parameters = random_parameters(config, 3);
    for (float& value : parameters.values.span()) value *= 8;
    return parameters;
}

// The layer adds so much of what it would to the residual stream.
void scale_layer(Parameters& parameters, std::size_t layer, float factor) {
    const ModelConfig& config = parameters.layout.config;
    const auto& place = parameters.layout.layers[layer];
    float* values = parameters.values.data();
    const std::int64_t attention = config.hidden_size * config.head_count * config.head_dim;
    std::for_each_n(values + place.output, attention, [&](float& value) { value *= factor; });
    std::for_each_n(values + place.down, config.hidden_size * config.intermediate_size,
                    [&](float& value) { value *= factor; });
}

TEST(Prune, a_layer_that_adds_nothing_has_no_influence) {
    const RandomText text({24});
    Parameters parameters = model_of(6);
    scale_layer(parameters, 2, 0);
    const auto influence = block_influence(parameters, text.batches());
    ASSERT_EQ(influence.size(), 6U);
    EXPECT_NEAR(influence[2], 0, 1e-6);
    for (const std::size_t layer : {0U, 1U, 3U, 4U, 5U}) EXPECT_GT(influence[layer], 1e-3) << layer;
    EXPECT_EQ(*most_influential_layers(influence, 5), (Layers{0, 1, 3, 4, 5}));
}

TEST(Prune, a_run_is_judged_by_what_enters_and_what_leaves_it) {
    // Layers 3 and 4 add nothing, layer 1 little: of single layers the least are 1, 3 and 4, of runs of two
    // it is 3 and 4.
    const RandomText text({24});
    Parameters parameters = model_of(7);
    scale_layer(parameters, 1, 1e-3F);
    scale_layer(parameters, 3, 0);
    scale_layer(parameters, 4, 0);
    const auto runs = block_influence(parameters, text.batches(), 2);
    ASSERT_EQ(runs.size(), 6U);
    EXPECT_NEAR(runs[3], 0, 1e-6);
    // Of these one layer adds nothing and the other does.
    EXPECT_GT(runs[2], 1e-3);
    EXPECT_GT(runs[4], 1e-3);
    EXPECT_EQ(*layers_around_a_run(runs, 7, 5), (Layers{0, 1, 2, 5, 6}));
    EXPECT_EQ(*most_influential_layers(block_influence(parameters, text.batches()), 4), (Layers{0, 2, 5, 6}));
}

TEST(Prune, the_ends_of_the_model_stay) {
    EXPECT_EQ(*layers_around_a_run(std::vector<double>{0, 3, 2, 1, 0}, 5, 4), (Layers{0, 1, 2, 4}));
    EXPECT_EQ(*layers_around_a_run(std::vector<double>{0, 0, 0}, 4, 2), (Layers{0, 3}));
    EXPECT_EQ(*layers_around_a_run(std::vector<double>{1, 1, 1}, 3, 3), (Layers{0, 1, 2}));
    EXPECT_EQ(*evenly_spread_layers(7, 3), (Layers{0, 3, 6}));
    for (const std::int64_t keep : {0, 1, 6}) {
        const auto layers = layers_around_a_run(std::vector<double>(5, 1.0), 5, keep);
        ASSERT_FALSE(layers) << keep;
        EXPECT_EQ(layers.error().code, ErrorCode::invalid_argument);
    }
}

}  // namespace
}  // namespace retort::model
