#include "model/fresh.h"

#include <gtest/gtest.h>

namespace retort::model {
namespace {

constexpr FreshTokens tokens{461, -1, 0};

std::string fault(std::string_view text) {
    const auto config = parse_fresh_config(text, "shape", tokens);
    return config ? std::string() : config.error().message;
}

TEST(Fresh, toml_with_defaults) {
    const auto config = parse_fresh_config(
        "hidden_size = 96\nnum_hidden_layers = 2\nnum_attention_heads = 4\nmax_position_embeddings = 128\n",
        "shape", tokens);
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->architecture, "llama");
    EXPECT_EQ(config->vocab_size, 461);
    EXPECT_EQ(config->kv_head_count, 4);
    EXPECT_EQ(config->head_dim, 24);
    EXPECT_EQ(config->intermediate_size, 256);
    EXPECT_TRUE(config->tie_embeddings);
    EXPECT_EQ(config->eos_token_ids, std::vector<std::int64_t>{0});
    EXPECT_EQ(config->bos_token_id, -1);
}

TEST(Fresh, a_whole_config_json_comes_back) {
    const auto first = parse_fresh_config(
        "model_type = \"qwen3\"\nhidden_size = 96\nhead_dim = 32\nintermediate_size = 200\nnum_hidden_layers "
        "= 2\n"
        "num_attention_heads = 4\nnum_key_value_heads = 2\nmax_position_embeddings = 128\n",
        "shape", tokens);
    ASSERT_TRUE(first) << first.error().message;
    const auto second = parse_fresh_config(config_to_json(*first, "float32"), "config.json", tokens);
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ(second->architecture, "qwen3");
    EXPECT_EQ(second->intermediate_size, 200);
    EXPECT_EQ(second->parameter_count(), first->parameter_count());
}

TEST(Fresh, faults_are_named) {
    EXPECT_NE(fault("hidden_size = 96\nhidden_layers = 2\n").find("hidden_layers is no key"),
              std::string::npos);
    EXPECT_NE(fault("hidden_size = 96\n").find("shape: "), std::string::npos);
    EXPECT_NE(fault("vocab_size = 100\nhidden_size = 96\nnum_hidden_layers = 2\nnum_attention_heads = 4\n"
                    "max_position_embeddings = 128\n")
                  .find("below the tokenizer's 461"),
              std::string::npos);
    EXPECT_NE(fault("hidden_size = 97\nnum_hidden_layers = 2\nnum_attention_heads = 4\n"
                    "max_position_embeddings = 128\n")
                  .find("no multiple"),
              std::string::npos);
}

}  // namespace
}  // namespace retort::model
