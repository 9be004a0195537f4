#include "model/tensor_names.h"

#include <fmt/format.h>

namespace retort::model {

namespace {

struct Names {
    std::string_view hugging_face;
    std::string_view gguf;
};

// In the order of LayerTensor.
constexpr std::array<Names, layer_tensor_kinds> layer_names = {{
    {"input_layernorm.weight", "attn_norm.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"self_attn.q_proj.bias", "attn_q.bias"},
    {"self_attn.k_proj.bias", "attn_k.bias"},
    {"self_attn.v_proj.bias", "attn_v.bias"},
    {"self_attn.q_norm.weight", "attn_q_norm.weight"},
    {"self_attn.k_norm.weight", "attn_k_norm.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
}};

constexpr std::array<Names, 3> model_names = {{
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
}};

}  // namespace

std::string tensor_name(TensorNaming naming, ModelTensor tensor) {
    const Names& names = model_names[static_cast<std::size_t>(tensor)];
    return std::string(naming == TensorNaming::gguf ? names.gguf : names.hugging_face);
}

std::string tensor_name(TensorNaming naming, LayerTensor tensor, std::int64_t layer) {
    const Names& names = layer_names[static_cast<std::size_t>(tensor)];
    return naming == TensorNaming::gguf ? fmt::format("blk.{}.{}", layer, names.gguf)
                                        : fmt::format("model.layers.{}.{}", layer, names.hugging_face);
}

bool has_tensor(const ModelConfig& config, LayerTensor tensor) {
    switch (tensor) {
        case LayerTensor::query_bias:
        case LayerTensor::key_bias:
        case LayerTensor::value_bias:
            return config.qkv_bias;
        case LayerTensor::query_norm:
        case LayerTensor::key_norm:
            return config.qk_norm;
        default:
            return true;
    }
}

bool has_tensor(const ModelConfig& config, ModelTensor tensor) {
    return tensor != ModelTensor::head || !config.tie_embeddings;
}

TensorShape tensor_shape(const ModelConfig& config, LayerTensor tensor) {
    switch (tensor) {
        case LayerTensor::attention_norm:
        case LayerTensor::mlp_norm:
            return {config.hidden_size};
        case LayerTensor::query:
            return {config.query_size(), config.hidden_size};
        case LayerTensor::key:
        case LayerTensor::value:
            return {config.kv_size(), config.hidden_size};
        case LayerTensor::output:
            return {config.hidden_size, config.query_size()};
        case LayerTensor::query_bias:
            return {config.query_size()};
        case LayerTensor::key_bias:
        case LayerTensor::value_bias:
            return {config.kv_size()};
        case LayerTensor::query_norm:
        case LayerTensor::key_norm:
            return {config.head_dim};
        case LayerTensor::gate:
        case LayerTensor::up:
            return {config.intermediate_size, config.hidden_size};
        case LayerTensor::down:
            return {config.hidden_size, config.intermediate_size};
    }
    return {};
}

TensorShape tensor_shape(const ModelConfig& config, ModelTensor tensor) {
    if (tensor == ModelTensor::final_norm) return {config.hidden_size};
    return {config.vocab_size, config.hidden_size};
}

}  // namespace retort::model
