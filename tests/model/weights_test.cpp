#include "model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>

#include "base/file.h"
#include "formats/gguf_writer.h"
#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"
#include "model/config_gguf.h"

namespace retort::model {
namespace {

namespace fs = std::filesystem;
using formats::GgufFile;
using formats::GgufMetadata;
using formats::GgufValue;
using formats::TensorDescription;
using testing::HasSubstr;

constexpr const char* mistral_folder = RETORT_TEST_DATA "/model/mistral";
constexpr const char* mistral_gguf = RETORT_TEST_DATA "/formats/mistral.gguf";

std::vector<float> values_of(const tensor::MatrixView& view) {
    const auto* first = reinterpret_cast<const float*>(view.data);
    return {first, first + view.rows * view.cols};
}

std::string error_of(const fs::path& path) {
    const auto weights = load_weights(path);
    return weights ? "no error" : weights.error().message;
}

class WeightFiles : public testing::Test {
  protected:
    void SetUp() override { fs::create_directories(folder_); }
    void TearDown() override { fs::remove_all(folder_); }

    // The Mistral-shaped file again, with metadata and the table of tensors changed.
    using Change = std::function<void(GgufMetadata&, std::vector<TensorDescription>&)>;
    fs::path rewritten(const Change& change) {
        const auto file = GgufFile::open(mistral_gguf);
        EXPECT_TRUE(file);
        GgufMetadata metadata = file->metadata();
        std::vector<TensorDescription> tensors;
        for (const formats::GgufTensor& tensor : file->tensors()) {
            tensors.push_back({std::string(tensor.name), tensor.dtype, tensor.shape});
        }
        change(metadata, tensors);
        const fs::path path = folder_ / "changed.gguf";
        auto writer = formats::GgufWriter::create(path, metadata, tensors);
        EXPECT_TRUE(writer);
        for (const TensorDescription& tensor : tensors) {
            const auto* stored = file->find_tensor(tensor.name);
            std::vector<std::byte> bytes(tensor.bytes());
            if (stored != nullptr)
                std::copy_n(stored->data.begin(), std::min(stored->data.size(), bytes.size()), bytes.begin());
            EXPECT_TRUE(writer->append(bytes));
        }
        EXPECT_TRUE(writer->commit());
        return path;
    }
    static void set(GgufMetadata& metadata, std::string_view key, GgufValue value) {
        for (auto& [name, old] : metadata) {
            if (name != key) continue;
            old = std::move(value);
            return;
        }
        metadata.emplace_back(std::string(key), std::move(value));
    }
    std::string error_with(std::string_view key, GgufValue value) {
        return error_of(
            rewritten([&](GgufMetadata& metadata, auto&) { set(metadata, key, std::move(value)); }));
    }

    fs::path folder_ = fs::temp_directory_path() / fmt::format("retort_weights_{}", ::getpid());
};

TEST(Weights, GgufAndFolderHoldTheSameModel) {
    const auto from_folder = load_weights(mistral_folder);
    const auto from_gguf = load_weights(mistral_gguf);
    ASSERT_TRUE(from_folder) << from_folder.error().message;
    ASSERT_TRUE(from_gguf) << from_gguf.error().message;
    EXPECT_EQ(from_gguf->config.architecture, "llama");
    EXPECT_EQ(from_gguf->config.parameter_count(), from_folder->config.parameter_count());
    EXPECT_EQ(from_gguf->config.rms_norm_eps, from_folder->config.rms_norm_eps);
    EXPECT_EQ(from_gguf->config.eos_token_ids, from_folder->config.eos_token_ids);
    EXPECT_EQ(from_gguf->final_norm, from_folder->final_norm);

    const Weights a = dequantised(*from_folder);
    const Weights b = dequantised(*from_gguf);
    ASSERT_EQ(a.layers.size(), b.layers.size());
    // The GGUF file has most matrices in f16 (relative error 2^-11) and the gates in q8_0: half a step of the
    // block's largest value over 127, and the rounding of the step.
    const auto compare = [](const tensor::MatrixView& x, const tensor::MatrixView& y, bool q8) {
        ASSERT_EQ(x.rows, y.rows);
        ASSERT_EQ(x.cols, y.cols);
        const auto left = values_of(x);
        const auto right = values_of(y);
        float largest = 0.0F;
        for (const float value : left) largest = std::max(largest, std::fabs(value));
        for (std::size_t i = 0; i < left.size(); ++i) {
            const float bound =
                q8 ? largest * (0.5F / 127.0F + 0x1p-10F) : std::fabs(left[i]) * 0x1p-11F + 0x1p-25F;
            ASSERT_LE(std::fabs(left[i] - right[i]), bound) << "element " << i;
        }
    };
    compare(a.embedding, b.embedding, false);
    compare(a.head, b.head, false);
    for (std::size_t i = 0; i < a.layers.size(); ++i) {
        const LayerWeights& x = a.layers[i];
        const LayerWeights& y = b.layers[i];
        EXPECT_EQ(x.attention_norm, y.attention_norm);
        EXPECT_EQ(x.mlp_norm, y.mlp_norm);
        compare(x.query, y.query, false);  // rows put back into the order of halves
        compare(x.key, y.key, false);
        compare(x.value, y.value, false);
        compare(x.output, y.output, false);
        compare(x.gate, y.gate, true);
        compare(x.up, y.up, false);
        compare(x.down, y.down, false);
    }
}

TEST(Weights, EveryFamilyLoads) {
    for (const char* name :
         {"llama3", "llama_linear", "llama_yarn", "mistral", "qwen2.5", "qwen3", "qwen3_yarn", "smollm2"}) {
        const auto weights = load_weights(std::string(RETORT_TEST_DATA "/model/") + name);
        ASSERT_TRUE(weights) << weights.error().message;
        const ModelConfig& config = weights->config;
        EXPECT_EQ(static_cast<std::int64_t>(weights->layers.size()), config.layer_count);
        EXPECT_EQ(weights->layers[0].query_bias.empty(), !config.qkv_bias);
        EXPECT_EQ(weights->layers[0].query_norm.empty(), !config.qk_norm);
        EXPECT_EQ(weights->head.data == weights->embedding.data, config.tie_embeddings);
    }
}

TEST(Weights, MatricesOfHalvesStayHalves) {
    const auto weights = load_weights(mistral_gguf);
    ASSERT_TRUE(weights);
    EXPECT_EQ(weights->embedding.dtype, tensor::DType::f16);
    EXPECT_EQ(weights->layers[0].gate.dtype, tensor::DType::q8_0);
    EXPECT_EQ(dequantised(*weights).layers[0].gate.dtype, tensor::DType::f32);
    // q8_0 takes 34 bytes for 32, f16 two each.
    const std::int64_t elements = dequantised(*weights).bytes / 4;
    const std::int64_t gates = 2 * 40 * 32;
    EXPECT_EQ(weights->bytes, gates / 32 * 34 + (elements - gates) * 2);
}

TEST_F(WeightFiles, DequantisedOutlivesWhatItCameFrom) {
    fs::copy(mistral_gguf, folder_ / "m.gguf");
    Weights copy;
    {
        const auto weights = load_weights(folder_ / "m.gguf");
        ASSERT_TRUE(weights);
        copy = dequantised(*weights);
    }
    const auto values = values_of(copy.layers[1].down);  // a read of freed memory under ASan, were it not so
    EXPECT_TRUE(std::isfinite(values.back()));
}

TEST_F(WeightFiles, MissingAndForeignTensorsAreNamed) {
    EXPECT_THAT(error_of(rewritten([](auto&, auto& tensors) {
                    std::erase_if(tensors, [](const auto& t) { return t.name == "blk.1.ffn_up.weight"; });
                })),
                HasSubstr("tensor blk.1.ffn_up.weight is missing"));
    EXPECT_THAT(error_of(rewritten([](auto&, auto& tensors) {
                    tensors.push_back({"blk.0.attn_q.bias", tensor::DType::f32, {48}});
                })),
                HasSubstr("tensor blk.0.attn_q.bias (48) has no place"));
    EXPECT_THAT(error_of(rewritten(
                    [](auto& metadata, auto&) { set(metadata, "llama.block_count", GgufValue::of_u32(1)); })),
                HasSubstr("has no place in a llama model of 1 layers"));
    EXPECT_THAT(error_with("llama.block_count", GgufValue::of_u32(2'000'000)),
                HasSubstr("2000000 layers by its config"));
}

TEST_F(WeightFiles, WrongVocabularySizeIsSaidSo) {
    EXPECT_THAT(error_with("llama.vocab_size", GgufValue::of_u32(100)), HasSubstr("wrong vocabulary size"));
    EXPECT_THAT(
        error_with("tokenizer.ggml.tokens", GgufValue::of_strings(std::vector<std::string>(108, "x"))),
        HasSubstr("wrong vocabulary size: 108 tokens"));
    // A padded vocabulary: fewer tokens than rows.
    EXPECT_EQ(error_with("tokenizer.ggml.tokens", GgufValue::of_strings(std::vector<std::string>(100, "x"))),
              "no error");
    fs::copy(mistral_folder, folder_ / "hf");
    std::string config = *base::read_file(folder_ / "hf/config.json");
    config.replace(config.find("107"), 3, "108");
    ASSERT_TRUE(base::write_file_atomic(folder_ / "hf/config.json", config));
    EXPECT_THAT(error_of(folder_ / "hf"),
                HasSubstr("wrong vocabulary size: tensor model.embed_tokens.weight is (107, 32)"));
}

TEST_F(WeightFiles, MetadataOutsideTheSkeletonAreRefusedByName) {
    EXPECT_THAT(error_with("general.architecture", GgufValue::of_string("gemma2")),
                HasSubstr("architecture gemma2"));
    EXPECT_THAT(error_with("llama.expert_count", GgufValue::of_u32(8)), HasSubstr("mixture of 8 experts"));
    EXPECT_THAT(error_with("llama.attn_logit_softcapping", GgufValue::of_f32(50)),
                HasSubstr("attn_logit_softcapping"));
    EXPECT_THAT(error_with("llama.attention.sliding_window", GgufValue::of_u32(64)),
                HasSubstr("sliding window of 64"));
    EXPECT_EQ(error_with("llama.attention.sliding_window", GgufValue::of_u32(4096)), "no error");
    EXPECT_THAT(error_with("llama.rope.dimension_count", GgufValue::of_u32(12)),
                HasSubstr("12 of a head's 24"));
    EXPECT_THAT(error_with("llama.rope.scaling.type", GgufValue::of_string("longrope")),
                HasSubstr("longrope"));
    EXPECT_THAT(error_with("llama.attention.value_length", GgufValue::of_u32(32)), HasSubstr("values of 32"));
    EXPECT_THAT(error_with("split.count", GgufValue::of_u32(3)), HasSubstr("one of 3 parts"));
    EXPECT_THAT(error_with("llama.feed_forward_length", GgufValue::of_i32s({40, 80})),
                HasSubstr("layer to layer"));
    EXPECT_EQ(error_with("llama.feed_forward_length", GgufValue::of_i32s({40, 40})), "no error");
    EXPECT_THAT(error_with("llama.embedding_length", GgufValue::of_string("x")),
                HasSubstr("llama.embedding_length is string"));
}

TEST_F(WeightFiles, FoldersAndPathsThatHoldNoModel) {
    EXPECT_THAT(error_of(folder_ / "none"), HasSubstr("no such file or folder"));
    EXPECT_THAT(error_of(folder_), HasSubstr("no model here"));
    fs::copy(mistral_gguf, folder_ / "one.gguf");
    EXPECT_EQ(error_of(folder_), "no error");  // a folder with one GGUF file
    fs::copy(mistral_gguf, folder_ / "two.gguf");
    EXPECT_THAT(error_of(folder_), HasSubstr("2 GGUF files"));
    fs::copy(mistral_gguf, folder_ / "no_extension");
    EXPECT_EQ(error_of(folder_ / "no_extension"), "no error");
    ASSERT_TRUE(base::write_file_atomic(folder_ / "alone/model.safetensors", std::string_view("x")));
    EXPECT_THAT(error_of(folder_ / "alone/model.safetensors"), HasSubstr("config.json"));
    std::error_code code;
    fs::resize_file(folder_ / "one.gguf", fs::file_size(folder_ / "one.gguf") / 2, code);
    EXPECT_THAT(error_of(folder_ / "one.gguf"), HasSubstr("cut short"));
}

// safetensors need not align its data: kernels must be given aligned numbers all the same.
TEST_F(WeightFiles, UnalignedTensorsAreCopied) {
    fs::copy(mistral_folder, folder_ / "hf");
    const fs::path path = folder_ / "hf/model.safetensors";
    std::string bytes = *base::read_file(path);
    std::uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof header);
    ++header;
    bytes.insert(8 + header - 1, " ");
    std::memcpy(bytes.data(), &header, sizeof header);
    ASSERT_TRUE(base::write_file_atomic(path, bytes));
    const auto shifted = load_weights(folder_ / "hf");
    const auto plain = load_weights(mistral_folder);
    ASSERT_TRUE(shifted) << shifted.error().message;
    ASSERT_TRUE(plain);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(shifted->layers[0].up.data) % alignof(float), 0U);
    EXPECT_EQ(values_of(shifted->layers[0].up), values_of(plain->layers[0].up));
    EXPECT_EQ(shifted->final_norm, plain->final_norm);
}

}  // namespace
}  // namespace retort::model
