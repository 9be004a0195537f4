#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "formats/json.h"
#include "model/config_gguf.h"

namespace retort::model {
namespace {

using formats::Json;
using testing::ElementsAre;
using testing::HasSubstr;

// A config.json that is well understood, with changes.
std::string config_text(std::string_view family, const Json& changes = Json::object()) {
    Json json = {{"architectures", {family}}, {"vocab_size", 256},
                 {"hidden_size", 64},         {"intermediate_size", 128},
                 {"num_hidden_layers", 2},    {"num_attention_heads", 4},
                 {"num_key_value_heads", 2},  {"max_position_embeddings", 4096},
                 {"rms_norm_eps", 1e-5}};
    json.update(changes);
    return formats::write_json(json);
}

std::string error_of(std::string_view family, const Json& changes) {
    const auto config = config_from_json(config_text(family, changes));
    return config ? "no error" : config.error().message;
}

void expect_same(const ModelConfig& a, const ModelConfig& b) {
    EXPECT_EQ(config_to_json(a, "float32"), config_to_json(b, "float32"));
    EXPECT_EQ(a.qkv_bias, b.qkv_bias);
    EXPECT_EQ(a.qk_norm, b.qk_norm);
    EXPECT_EQ(a.parameter_count(), b.parameter_count());
}

class Families : public testing::TestWithParam<const char*> {};

TEST_P(Families, BothSpellingsOfTransformersReadAlike) {
    const std::string folder = std::string(RETORT_TEST_DATA "/model/") + GetParam();
    const auto five = config_from_json(*base::read_file(folder + "/config.json"));
    const auto four = config_from_json(*base::read_file(folder + "/config.transformers4.json"));
    ASSERT_TRUE(five) << five.error().message;
    ASSERT_TRUE(four) << four.error().message;
    expect_same(*five, *four);
    const auto again = config_from_json(config_to_json(*five, "float32"));
    ASSERT_TRUE(again) << again.error().message;
    expect_same(*five, *again);
}

INSTANTIATE_TEST_SUITE_P(All, Families,
                         testing::Values("llama3", "llama_linear", "llama_yarn", "mistral", "qwen2.5",
                                         "qwen3", "qwen3_yarn", "smollm2"),
                         [](const auto& test) {
                             std::string name = test.param;
                             std::replace(name.begin(), name.end(), '.', '_');
                             return name;
                         });

TEST(Config, RopeFrequenciesAreTheReferences) {
    const auto golden = formats::read_json_file(RETORT_TEST_DATA "/model/rope.json");
    ASSERT_TRUE(golden) << golden.error().message;
    ASSERT_GE((*golden)["cases"].size(), 8U);
    for (const Json& test : (*golden)["cases"]) {
        const auto config = config_from_json(formats::write_json(test["config"]));
        ASSERT_TRUE(config) << config.error().message;
        const RopeFrequencies got = rope_frequencies(*config);
        const auto expected = test["inverse"].get<std::vector<double>>();
        ASSERT_EQ(got.inverse.size(), expected.size());
        // The reference works in f32: the exponent is rounded (relative 2^-24, and the power multiplies that
        // by ln θ), and a few operations round the result by as much each.
        const double tolerance = (std::log(config->rope.theta) + 8.0) * 0x1p-24;
        for (std::size_t i = 0; i < expected.size(); ++i) {
            EXPECT_NEAR(got.inverse[i], expected[i], expected[i] * tolerance)
                << test["config"]["rope_parameters"] << " pair " << i;
        }
        EXPECT_NEAR(got.scale, test["scale"].get<double>(), 1e-12);
    }
}

TEST(Config, WhatIsNotUnderstoodIsRefusedByName) {
    EXPECT_EQ(error_of("LlamaForCausalLM", Json::object()), "no error");
    EXPECT_THAT(error_of("Gemma2ForCausalLM", Json::object()), HasSubstr("Gemma2ForCausalLM"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"hidden_act", "gelu"}}), HasSubstr("hidden_act gelu"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"attention_bias", true}}), HasSubstr("attention_bias"));
    EXPECT_THAT(error_of("Qwen3ForCausalLM", {{"attention_bias", true}}), HasSubstr("attention_bias"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"mlp_bias", true}}), HasSubstr("mlp_bias"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"rope_interleaved", true}}), HasSubstr("rope_interleaved"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"partial_rotary_factor", 0.5}}),
                HasSubstr("partial_rotary_factor 0.5"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"quantization_config", {{"quant_method", "gptq"}}}}),
                HasSubstr("gptq"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}}),
                HasSubstr("rope type dynamic"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"rope_parameters", {{"rope_type", "longrope"}}}}),
                HasSubstr("rope type longrope"));
    EXPECT_THAT(error_of("LlamaForCausalLM",
                         {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2.0}, {"odd", 1}}}}),
                HasSubstr("yarn has odd"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"rope_scaling", {{"rope_type", "linear"}}}}),
                HasSubstr("factor is missing"));
}

TEST(Config, SlidingWindowsMatterOnlyWithinTheContext) {
    EXPECT_THAT(error_of("MistralForCausalLM", {{"sliding_window", 1024}}),
                HasSubstr("sliding window of 1024"));
    EXPECT_EQ(error_of("MistralForCausalLM", {{"sliding_window", nullptr}}), "no error");
    EXPECT_EQ(error_of("MistralForCausalLM", {{"sliding_window", 4096}}), "no error");
    // The class's default of 4096 acts when the key is absent.
    EXPECT_EQ(error_of("MistralForCausalLM", Json::object()), "no error");
    EXPECT_THAT(error_of("MistralForCausalLM", {{"max_position_embeddings", 8192}}),
                HasSubstr("sliding window of 4096"));
    EXPECT_EQ(error_of("Qwen2ForCausalLM", {{"sliding_window", 1024}, {"use_sliding_window", false}}),
              "no error");
    EXPECT_EQ(error_of("Qwen2ForCausalLM",
                       {{"sliding_window", 1024}, {"use_sliding_window", true}, {"max_window_layers", 2}}),
              "no error");
    EXPECT_THAT(error_of("Qwen2ForCausalLM",
                         {{"sliding_window", 1024}, {"use_sliding_window", true}, {"max_window_layers", 1}}),
                HasSubstr("sliding window of 1024"));
    EXPECT_THAT(error_of("Qwen3ForCausalLM", {{"sliding_window", 1024},
                                              {"use_sliding_window", true},
                                              {"layer_types", {"full_attention", "sliding_attention"}}}),
                HasSubstr("sliding window of 1024"));
    EXPECT_THAT(error_of("Qwen3ForCausalLM", {{"layer_types", {"linear_attention"}}}),
                HasSubstr("linear_attention"));
}

TEST(Config, ShapesThatCannotWorkAreNamed) {
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"num_key_value_heads", 3}}), HasSubstr("cannot share 3"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"head_dim", 15}}), HasSubstr("head_dim is 15"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"vocab_size", 0}}), HasSubstr("vocab_size is 0"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"hidden_size", 4294967296}}),
                HasSubstr("hidden_size is 4294967296"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"num_attention_heads", 0}}),
                HasSubstr("num_attention_heads is 0"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"num_attention_heads", 5}}), HasSubstr("no multiple of 5"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"num_hidden_layers", 2000000000},
                                              {"hidden_size", 2000000000},
                                              {"intermediate_size", 2000000000},
                                              {"head_dim", 2}}),
                HasSubstr("more weights than can be counted"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"rope_theta", 0.0}}), HasSubstr("rope theta 0"));
    EXPECT_THAT(error_of("LlamaForCausalLM", {{"num_hidden_layers", "two"}}),
                HasSubstr("num_hidden_layers is a string"));
    EXPECT_THAT(error_of("Qwen2ForCausalLM", {{"num_key_value_heads", nullptr}}), "no error");
    EXPECT_FALSE(config_from_json("[]"));
    EXPECT_FALSE(config_from_json("{"));
}

TEST(Config, DefaultsAreTheFamilys) {
    const ModelConfig llama = *config_from_json(config_text("LlamaForCausalLM", {{"eos_token_id", {5, 6}}}));
    EXPECT_EQ(llama.head_dim, 16);
    EXPECT_FALSE(llama.tie_embeddings);
    EXPECT_FALSE(llama.qkv_bias);
    EXPECT_THAT(llama.eos_token_ids, ElementsAre(5, 6));
    EXPECT_EQ(llama.rms_norm_eps, 1e-5F);
    const ModelConfig qwen3 = *config_from_json(config_text("Qwen3ForCausalLM"));
    EXPECT_EQ(qwen3.head_dim, 128);
    EXPECT_TRUE(qwen3.qk_norm);
    EXPECT_TRUE(config_from_json(config_text("Qwen2ForCausalLM"))->qkv_bias);
}

TEST(Config, CountsParameters) {
    // By hand: embedding and head 2·256·64; a layer's q, o 2·64·64, k, v 2·64·32, mlp 3·64·128, two norms of
    // 64; the last.
    const ModelConfig llama = *config_from_json(config_text("LlamaForCausalLM"));
    EXPECT_EQ(llama.parameter_count(),
              2 * 256 * 64 + 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64) + 64);
    ModelConfig tied = llama;
    tied.tie_embeddings = true;
    EXPECT_EQ(llama.parameter_count() - tied.parameter_count(), 256 * 64);
    ModelConfig biased = llama;
    biased.qkv_bias = true;
    EXPECT_EQ(biased.parameter_count() - llama.parameter_count(), 2 * (64 + 2 * 32));
}

}  // namespace
}  // namespace retort::model
