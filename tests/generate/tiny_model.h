// Models of every shape with random weights in any format that can be written, made in memory in a moment.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "model/weights.h"
#include "tensor/quantised.h"

namespace retort::generate::test {

inline model::ModelConfig tiny_config(const std::string& architecture) {
    model::ModelConfig config;
    config.architecture = architecture;
    config.vocab_size = 131;
    config.hidden_size = 64;
    config.intermediate_size = 96;
    config.layer_count = 2;
    config.head_count = 4;
    config.kv_head_count = 2;
    config.head_dim = architecture == "qwen3" ? 24 : 16;
    config.context_length = 512;
    config.rope.theta = 1000.0;
    config.tie_embeddings = architecture == "llama";
    config.qkv_bias = architecture == "qwen2";
    config.qk_norm = architecture == "qwen3";
    return config;
}

class RandomWeights {
  public:
    RandomWeights(const model::ModelConfig& config, tensor::DType dtype, std::uint64_t seed)
        : random_(seed), dtype_(dtype) {
        weights_.config = config;
        weights_.embedding = matrix(config.vocab_size, config.hidden_size, 1.0);
        weights_.final_norm = vector(config.hidden_size, 1.0);
        weights_.head =
            config.tie_embeddings ? weights_.embedding : matrix(config.vocab_size, config.hidden_size);
        for (std::int64_t i = 0; i < config.layer_count; ++i) {
            model::LayerWeights layer;
            layer.attention_norm = vector(config.hidden_size, 1.0);
            layer.mlp_norm = vector(config.hidden_size, 1.0);
            layer.query = matrix(config.query_size(), config.hidden_size);
            layer.key = matrix(config.kv_size(), config.hidden_size);
            layer.value = matrix(config.kv_size(), config.hidden_size);
            layer.output = matrix(config.hidden_size, config.query_size());
            layer.gate = matrix(config.intermediate_size, config.hidden_size);
            layer.up = matrix(config.intermediate_size, config.hidden_size);
            layer.down = matrix(config.hidden_size, config.intermediate_size);
            if (config.qkv_bias) {
                layer.query_bias = vector(config.query_size(), 0.0);
                layer.key_bias = vector(config.kv_size(), 0.0);
                layer.value_bias = vector(config.kv_size(), 0.0);
            }
            if (config.qk_norm) {
                layer.query_norm = vector(config.head_dim, 1.0);
                layer.key_norm = vector(config.head_dim, 1.0);
            }
            weights_.layers.push_back(std::move(layer));
        }
    }

    model::Weights take() { return std::move(weights_); }

  private:
    std::vector<float> vector(std::int64_t size, double mean) {
        std::vector<float> values(static_cast<std::size_t>(size));
        for (float& value : values) value = static_cast<float>(mean + 0.2 * random_.normal());
        return values;
    }

    tensor::MatrixView matrix(std::int64_t rows, std::int64_t cols, double deviation = 0.15) {
        // A row that does not fill the format's blocks is f16, as model files have it.
        const bool fills = cols % tensor::dtype_info(dtype_).block_elements == 0;
        const tensor::DType dtype = fills ? dtype_ : tensor::DType::f16;
        std::vector<float> values(static_cast<std::size_t>(rows * cols));
        for (float& value : values) value = static_cast<float>(deviation * random_.normal());
        const auto bytes = static_cast<std::size_t>(rows * tensor::dtype_bytes(dtype, cols));
        std::shared_ptr<std::byte[]> memory(new std::byte[bytes]);
        EXPECT_TRUE(tensor::quantise(dtype, values.data(), memory.get(), rows * cols));
        weights_.owners.emplace_back(memory, memory.get());
        return {dtype, rows, cols, memory.get()};
    }

    base::RandomStream random_;
    tensor::DType dtype_;
    model::Weights weights_;
};

inline model::Weights tiny_weights(const std::string& architecture, tensor::DType dtype,
                                   std::uint64_t seed = 1) {
    return RandomWeights(tiny_config(architecture), dtype, seed).take();
}

inline std::vector<std::int32_t> random_tokens(std::int64_t count, std::int64_t vocab_size,
                                               std::uint64_t seed) {
    base::RandomStream random(seed, 3);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
    for (auto& token : tokens)
        token = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocab_size)));
    return tokens;
}

}  // namespace retort::generate::test
