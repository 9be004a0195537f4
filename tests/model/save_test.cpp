#include "model/save.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "base/interrupt.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "model/weights.h"
#include "tensor/quantised.h"

namespace retort::model {
namespace {

namespace fs = std::filesystem;
using formats::GgufValue;
using testing::HasSubstr;

constexpr const char* families[] = {"llama3",  "llama_linear", "llama_yarn", "mistral",
                                    "qwen2.5", "qwen3",        "qwen3_yarn", "smollm2"};

Parameters parameters_of(const std::string& family) {
    const auto weights = load_weights(std::string(RETORT_TEST_DATA "/model/") + family);
    EXPECT_TRUE(weights) << weights.error().message;
    return parameters_from(*weights);
}

// Every parameter within the bound of its tensor's number format.
void expect_close(const Parameters& got, const Parameters& expected, float relative) {
    ASSERT_EQ(got.layout.total, expected.layout.total);
    for (const ParameterTensor& tensor : expected.layout.tensors) {
        const float* x = expected.values.data() + tensor.offset;
        const float* y = got.values.data() + tensor.offset;
        float largest = 0.0F;
        for (std::int64_t i = 0; i < tensor.count; ++i) largest = std::max(largest, std::fabs(x[i]));
        for (std::int64_t i = 0; i < tensor.count; ++i) {
            ASSERT_LE(std::fabs(x[i] - y[i]), largest * relative + 0x1p-24F)
                << tensor.name << " element " << i;
        }
    }
}

class Save : public testing::Test {
  protected:
    void SetUp() override { fs::create_directories(folder_); }
    void TearDown() override {
        base::set_interrupted(false);
        fs::remove_all(folder_);
    }
    fs::path folder_ = fs::temp_directory_path() / fmt::format("retort_save_{}", ::getpid());
    fs::path file_ = folder_ / "model.gguf";
};

TEST_F(Save, FoldersReloadTheSame) {
    for (const char* family : families) {
        const Parameters parameters = parameters_of(family);
        const auto status = save_safetensors_folder(folder_ / family, parameters.layout.config,
                                                    named_tensors(parameters), {.dtype = tensor::DType::f32});
        ASSERT_TRUE(status) << status.error().message;
        const auto again = load_weights(folder_ / family);
        ASSERT_TRUE(again) << again.error().message;
        EXPECT_EQ(config_to_json(again->config, ""), config_to_json(parameters.layout.config, ""));
        expect_close(parameters_from(*again), parameters, 0.0F);
    }
}

TEST_F(Save, HalvesRoundOnceAndNoMore) {
    const Parameters parameters = parameters_of("smollm2");
    for (const auto& [dtype, relative] :
         {std::pair{tensor::DType::bf16, 0x1p-8F}, {tensor::DType::f16, 0x1p-11F}}) {
        ASSERT_TRUE(save_safetensors_folder(folder_, parameters.layout.config, named_tensors(parameters),
                                            {.dtype = dtype}));
        const auto again = load_weights(folder_);
        ASSERT_TRUE(again) << again.error().message;
        EXPECT_EQ(again->embedding.dtype, dtype);
        expect_close(parameters_from(*again), parameters, relative);
    }
}

TEST_F(Save, LargeModelsAreSharded) {
    const Parameters parameters = parameters_of("qwen2.5");
    const auto save = [&](std::uint64_t shard_bytes) {
        return save_safetensors_folder(folder_, parameters.layout.config, named_tensors(parameters),
                                       {.dtype = tensor::DType::f32, .shard_bytes = shard_bytes});
    };
    ASSERT_TRUE(save(20'000));
    const auto index = formats::read_json_file(folder_ / "model.safetensors.index.json");
    ASSERT_TRUE(index);
    EXPECT_GT((*index)["metadata"]["total_size"].get<std::uint64_t>(), 40'000U);
    EXPECT_FALSE(fs::exists(folder_ / "model.safetensors"));
    const auto sharded = load_weights(folder_);
    ASSERT_TRUE(sharded) << sharded.error().message;
    expect_close(parameters_from(*sharded), parameters, 0.0F);
    ASSERT_TRUE(save(1'000'000));  // the index of the larger save must not hide the single file
    EXPECT_FALSE(fs::exists(folder_ / "model.safetensors.index.json"));
    ASSERT_TRUE(load_weights(folder_));
}

TEST_F(Save, GgufReloadsTheSame) {
    for (const char* family : families) {
        const Parameters parameters = parameters_of(family);
        const auto status = save_gguf(file_, parameters.layout.config, named_tensors(parameters),
                                      {.dtype = tensor::DType::f32, .name = "Tiny", .licence = "apache-2.0"});
        ASSERT_TRUE(status || std::string(family) == "qwen3_yarn")
            << family << ": " << status.error().message;
        if (!status) {
            EXPECT_THAT(status.error().message, HasSubstr("truncate"));  // GGUF has no word for it
            continue;
        }
        const auto again = load_weights(file_);
        ASSERT_TRUE(again) << again.error().message;
        expect_close(parameters_from(*again), parameters, 0.0F);
        const ModelConfig& config = parameters.layout.config;
        EXPECT_EQ(again->config.parameter_count(), config.parameter_count());
        EXPECT_EQ(again->config.tie_embeddings, config.tie_embeddings);
        EXPECT_EQ(again->config.rope.scaling, config.rope.scaling) << family;  // llama3's by its divisors
        const RopeFrequencies expected = rope_frequencies(config);
        const RopeFrequencies got = rope_frequencies(again->config);
        // Theta, the factor and the divisors each went through f32.
        for (std::size_t i = 0; i < expected.inverse.size(); ++i) {
            EXPECT_NEAR(got.inverse[i], expected.inverse[i], expected.inverse[i] * 0x1p-22) << family;
        }
        EXPECT_NEAR(got.scale, expected.scale, expected.scale * 0x1p-22) << family;
        const auto file = formats::GgufFile::open(file_);
        EXPECT_EQ(*file->string("general.name"), "Tiny");
        EXPECT_EQ(*file->string("general.license"), "apache-2.0");
    }
}

TEST_F(Save, QuantisedGgufIsWithinHalfAStep) {
    const Parameters parameters = parameters_of("mistral");
    struct Case {
        tensor::DType dtype;
        float relative;  // to a tensor's largest value
    };
    // Half a step (of 127, 8 and 7.5 codes on a side; q4_0's top code clips half a step more) and the f16 of
    // the scale.
    for (const Case& test : {Case{tensor::DType::q8_0, 0.5F / 127}, Case{tensor::DType::q4_0, 1.0F / 8},
                             Case{tensor::DType::q4_1, 0.5F / 7.5F}, Case{tensor::DType::f16, 0.0F}}) {
        ASSERT_TRUE(
            save_gguf(file_, parameters.layout.config, named_tensors(parameters), {.dtype = test.dtype}));
        const auto again = load_weights(file_);
        ASSERT_TRUE(again) << again.error().message;
        expect_close(parameters_from(*again), parameters, test.relative + 0x1p-9F);
        EXPECT_EQ(again->layers[0].gate.dtype, test.dtype);
        // Rows of 40 and of 48 fill no block of 32.
        EXPECT_EQ(again->layers[0].down.dtype, tensor::DType::f16);
        EXPECT_EQ(again->layers[0].output.dtype, tensor::DType::f16);
        const bool four_bits = test.dtype == tensor::DType::q4_0 || test.dtype == tensor::DType::q4_1;
        EXPECT_EQ(again->embedding.dtype, four_bits ? tensor::DType::q8_0 : test.dtype);
        EXPECT_EQ(formats::GgufFile::open(file_)->find_tensor("blk.0.attn_norm.weight")->dtype,
                  tensor::DType::f32);
    }
    EXPECT_THAT(
        save_gguf(file_, parameters.layout.config, named_tensors(parameters), {.dtype = tensor::DType::q6_k})
            .error()
            .message,
        HasSubstr("q6_k"));
}

TEST_F(Save, RowsOfALlamaAreInterleavedAsTheReferenceDoes) {
    const Parameters parameters = parameters_of("mistral");
    ASSERT_TRUE(
        save_gguf(file_, parameters.layout.config, named_tensors(parameters), {.dtype = tensor::DType::f16}));
    const auto ours = formats::GgufFile::open(file_);
    const auto theirs = formats::GgufFile::open(RETORT_TEST_DATA "/formats/mistral.gguf");
    ASSERT_TRUE(ours && theirs);
    ASSERT_EQ(ours->tensors().size(), theirs->tensors().size());
    for (const formats::GgufTensor& tensor : theirs->tensors()) {
        const formats::GgufTensor* mine = ours->find_tensor(tensor.name);
        ASSERT_NE(mine, nullptr) << tensor.name;
        EXPECT_EQ(mine->shape, tensor.shape);
        if (mine->dtype != tensor.dtype) continue;  // the gates, which are q8_0 there
        EXPECT_EQ(std::memcmp(mine->data.data(), tensor.data.data(), tensor.data.size()), 0) << tensor.name;
    }
}

TEST_F(Save, UnknownDivisorsSurviveInGgufButNotInAFolder) {
    Parameters parameters = parameters_of("smollm2");
    ModelConfig& config = parameters.layout.config;
    config.rope.factors.assign(static_cast<std::size_t>(config.head_dim / 2), 1.25F);
    ASSERT_TRUE(save_gguf(file_, config, named_tensors(parameters), {.dtype = tensor::DType::f32}));
    const auto again = load_weights(file_);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->config.rope.factors, config.rope.factors);
    EXPECT_THAT(save_safetensors_folder(folder_ / "hf", config, named_tensors(parameters)).error().message,
                HasSubstr("write GGUF"));
}

TEST_F(Save, VocabulariesAreFilledUp) {
    const Parameters parameters = parameters_of("mistral");  // 107 rows
    GgufOptions options;
    options.tokenizer.emplace_back("tokenizer.ggml.tokens",
                                   GgufValue::of_strings(std::vector<std::string>(100, "t")));
    options.tokenizer.emplace_back("tokenizer.ggml.token_type",
                                   GgufValue::of_i32s(std::vector<std::int32_t>(100, 1)));
    ASSERT_TRUE(save_gguf(file_, parameters.layout.config, named_tensors(parameters), options));
    const auto file = formats::GgufFile::open(file_);
    ASSERT_TRUE(file);
    const auto tokens = *file->strings("tokenizer.ggml.tokens");
    ASSERT_EQ(tokens.size(), 107U);
    EXPECT_EQ(tokens[106], "[PAD106]");
    const auto types = *(*file->array("tokenizer.ggml.token_type"))->integers();
    EXPECT_EQ(types[99], 1);
    EXPECT_EQ(types[106], 5);
    options.tokenizer[0].second = GgufValue::of_strings(std::vector<std::string>(108, "t"));
    EXPECT_THAT(
        save_gguf(file_, parameters.layout.config, named_tensors(parameters), options).error().message,
        HasSubstr("wrong vocabulary size"));
}

TEST_F(Save, TensorsMustBeThoseOfTheConfig) {
    const Parameters parameters = parameters_of("smollm2");
    const ModelConfig& config = parameters.layout.config;
    const std::vector<NamedTensor> whole = named_tensors(parameters);
    const auto error = [&](const std::vector<NamedTensor>& tensors) {
        return save_gguf(file_, config, tensors, {}).error().message;
    };
    auto missing = whole;
    missing.pop_back();
    EXPECT_THAT(error(missing), HasSubstr("is missing"));
    auto twice = whole;
    twice.push_back(whole.front());
    EXPECT_THAT(error(twice), HasSubstr("given twice"));
    auto foreign = whole;
    foreign.push_back({"model.layers.99.mlp.up_proj.weight", {1}, whole.front().values.first(1)});
    EXPECT_THAT(error(foreign), HasSubstr("has no place"));
    auto misshapen = whole;
    misshapen.front().shape = {1, static_cast<std::int64_t>(whole.front().values.size())};
    EXPECT_THAT(error(misshapen), HasSubstr("that the config says"));
    EXPECT_FALSE(fs::exists(file_));
}

TEST_F(Save, AnInterruptLeavesNothingBehind) {
    const Parameters parameters = parameters_of("smollm2");
    base::set_interrupted(true);
    const auto status = save_gguf(file_, parameters.layout.config, named_tensors(parameters), {});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::cancelled);
    EXPECT_FALSE(
        save_safetensors_folder(folder_ / "hf", parameters.layout.config, named_tensors(parameters)));
    EXPECT_TRUE(fs::is_empty(folder_ / "hf"));
    fs::remove_all(folder_ / "hf");
    EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace retort::model
