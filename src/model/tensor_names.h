// What each weight of a model is called, in Hugging Face's files and in GGUF. The one table that reading,
// writing and training share.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "model/config.h"

namespace retort::model {

enum class TensorNaming { hugging_face, gguf };

enum class LayerTensor {
    attention_norm,
    query,
    key,
    value,
    output,
    query_bias,
    key_bias,
    value_bias,
    query_norm,
    key_norm,
    mlp_norm,
    gate,
    up,
    down,
};
constexpr std::size_t layer_tensor_kinds = 14;

enum class ModelTensor { embedding, final_norm, head };

std::string tensor_name(TensorNaming naming, ModelTensor tensor);
std::string tensor_name(TensorNaming naming, LayerTensor tensor, std::int64_t layer);

// Whether a model of this config has the tensor at all.
bool has_tensor(const ModelConfig& config, LayerTensor tensor);
bool has_tensor(const ModelConfig& config, ModelTensor tensor);

struct TensorShape {
    std::int64_t rows = 0;
    std::int64_t cols = 0;  // 0: a vector of `rows`

    [[nodiscard]] bool is_vector() const { return cols == 0; }
    [[nodiscard]] std::int64_t elements() const { return cols == 0 ? rows : rows * cols; }
};
TensorShape tensor_shape(const ModelConfig& config, LayerTensor tensor);
TensorShape tensor_shape(const ModelConfig& config, ModelTensor tensor);

}  // namespace retort::model
