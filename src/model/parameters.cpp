#include "model/parameters.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "tensor/quantised.h"

namespace retort::model {

namespace {

constexpr std::int64_t alignment = 16;  // elements: a cache line

// Matrices and vectors each in a space of their own; finish() lays the vectors after the matrices.
class LayoutBuilder {
  public:
    explicit LayoutBuilder(ParameterLayout& layout) : layout_(layout) {}

    // The offset of a tensor that begins on a cache line.
    std::int64_t add(std::string name, std::vector<std::int64_t> shape) {
        std::int64_t& end = end_of(shape);
        end = aligned(end);
        return append(std::move(name), std::move(shape));
    }

    // The offset of a tensor that follows the last one of its space without a gap.
    std::int64_t append(std::string name, std::vector<std::int64_t> shape) {
        std::int64_t& end = end_of(shape);
        ParameterTensor tensor;
        tensor.name = std::move(name);
        tensor.count = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
        tensor.decays = shape.size() > 1;
        tensor.shape = std::move(shape);
        tensor.offset = end;
        end += tensor.count;
        layout_.tensors.push_back(std::move(tensor));
        return layout_.tensors.back().offset;
    }

    void finish() {
        layout_.matrices = aligned(matrices_);
        layout_.total = layout_.matrices + aligned(vectors_);
        for (ParameterTensor& tensor : layout_.tensors) {
            if (tensor.shape.size() == 1) tensor.offset += layout_.matrices;
        }
        for (LayerOffsets& at : layout_.layers) {
            for (std::int64_t* vector :
                 {&at.attention_norm, &at.qkv_bias, &at.query_norm, &at.key_norm, &at.mlp_norm}) {
                if (*vector >= 0) *vector += layout_.matrices;
            }
        }
        layout_.final_norm += layout_.matrices;
    }

  private:
    static std::int64_t aligned(std::int64_t offset) {
        return (offset + alignment - 1) / alignment * alignment;
    }
    std::int64_t& end_of(const std::vector<std::int64_t>& shape) {
        return shape.size() > 1 ? matrices_ : vectors_;
    }

    ParameterLayout& layout_;
    std::int64_t matrices_ = 0;
    std::int64_t vectors_ = 0;
};

void copy_matrix(const tensor::MatrixView& view, float* to) {
    tensor::dequantise(view.dtype, view.data, to, view.rows * view.cols);
}

void copy_vector(const std::vector<float>& from, float* to) {
    std::copy(from.begin(), from.end(), to);
}

}  // namespace

ParameterLayout make_layout(const ModelConfig& config) {
    ParameterLayout layout;
    layout.config = config;
    LayoutBuilder builder(layout);
    const std::int64_t hidden = config.hidden_size;
    layout.embedding = builder.add("model.embed_tokens.weight", {config.vocab_size, hidden});
    for (std::int64_t l = 0; l < config.layer_count; ++l) {
        const std::string prefix = fmt::format("model.layers.{}.", l);
        LayerOffsets at;
        at.attention_norm = builder.add(prefix + "input_layernorm.weight", {hidden});
        at.qkv = builder.add(prefix + "self_attn.q_proj.weight", {config.query_size(), hidden});
        builder.append(prefix + "self_attn.k_proj.weight", {config.kv_size(), hidden});
        builder.append(prefix + "self_attn.v_proj.weight", {config.kv_size(), hidden});
        if (config.qkv_bias) {
            at.qkv_bias = builder.add(prefix + "self_attn.q_proj.bias", {config.query_size()});
            builder.append(prefix + "self_attn.k_proj.bias", {config.kv_size()});
            builder.append(prefix + "self_attn.v_proj.bias", {config.kv_size()});
        }
        if (config.qk_norm) {
            at.query_norm = builder.add(prefix + "self_attn.q_norm.weight", {config.head_dim});
            at.key_norm = builder.add(prefix + "self_attn.k_norm.weight", {config.head_dim});
        }
        at.output = builder.add(prefix + "self_attn.o_proj.weight", {hidden, config.query_size()});
        at.mlp_norm = builder.add(prefix + "post_attention_layernorm.weight", {hidden});
        at.gate_up = builder.add(prefix + "mlp.gate_proj.weight", {config.intermediate_size, hidden});
        builder.append(prefix + "mlp.up_proj.weight", {config.intermediate_size, hidden});
        at.down = builder.add(prefix + "mlp.down_proj.weight", {hidden, config.intermediate_size});
        layout.layers.push_back(at);
    }
    layout.final_norm = builder.add("model.norm.weight", {hidden});
    layout.head =
        config.tie_embeddings ? layout.embedding : builder.add("lm_head.weight", {config.vocab_size, hidden});
    builder.finish();
    return layout;
}

Parameters make_parameters(const ModelConfig& config) {
    Parameters parameters;
    parameters.layout = make_layout(config);
    parameters.values = tensor::Buffer<float>(parameters.layout.total);
    return parameters;
}

Parameters parameters_from(const Weights& weights) {
    Parameters parameters = make_parameters(weights.config);
    const ModelConfig& config = weights.config;
    const ParameterLayout& layout = parameters.layout;
    float* values = parameters.values.data();
    copy_matrix(weights.embedding, values + layout.embedding);
    for (std::size_t l = 0; l < weights.layers.size(); ++l) {
        const LayerWeights& from = weights.layers[l];
        const LayerOffsets& at = layout.layers[l];
        copy_vector(from.attention_norm, values + at.attention_norm);
        copy_matrix(from.query, values + at.qkv);
        copy_matrix(from.key, values + at.qkv + config.query_size() * config.hidden_size);
        copy_matrix(from.value,
                    values + at.qkv + (config.query_size() + config.kv_size()) * config.hidden_size);
        if (config.qkv_bias) {
            copy_vector(from.query_bias, values + at.qkv_bias);
            copy_vector(from.key_bias, values + at.qkv_bias + config.query_size());
            copy_vector(from.value_bias, values + at.qkv_bias + config.query_size() + config.kv_size());
        }
        if (config.qk_norm) {
            copy_vector(from.query_norm, values + at.query_norm);
            copy_vector(from.key_norm, values + at.key_norm);
        }
        copy_matrix(from.output, values + at.output);
        copy_vector(from.mlp_norm, values + at.mlp_norm);
        copy_matrix(from.gate, values + at.gate_up);
        copy_matrix(from.up, values + at.gate_up + config.intermediate_size * config.hidden_size);
        copy_matrix(from.down, values + at.down);
    }
    copy_vector(weights.final_norm, values + layout.final_norm);
    if (!config.tie_embeddings) copy_matrix(weights.head, values + layout.head);
    return parameters;
}

Parameters random_parameters(const ModelConfig& config, std::uint64_t seed) {
    Parameters parameters = make_parameters(config);
    const double residual_scale = 1.0 / std::sqrt(2.0 * static_cast<double>(config.layer_count));
    for (std::size_t index = 0; index < parameters.layout.tensors.size(); ++index) {
        const ParameterTensor& tensor = parameters.layout.tensors[index];
        float* values = parameters.values.data() + tensor.offset;
        if (tensor.shape.size() == 1) {
            std::fill_n(values, tensor.count, tensor.name.ends_with("bias") ? 0.0F : 1.0F);
            continue;
        }
        const bool into_residual =
            tensor.name.ends_with("o_proj.weight") || tensor.name.ends_with("down_proj.weight");
        const double deviation = 0.02 * (into_residual ? residual_scale : 1.0);
        base::RandomStream random(seed, index);
        for (std::int64_t i = 0; i < tensor.count; ++i) {
            values[i] = static_cast<float>(random.normal() * deviation);
        }
    }
    return parameters;
}

void ParameterView::copy_row(std::int64_t offset, std::int64_t count, float* to) const {
    if (values != nullptr) {
        std::copy_n(values + offset, count, to);
    } else {
        for (std::int64_t i = 0; i < count; ++i) to[i] = tensor::bf16_to_f32(bf16[offset + i]);
    }
}

Weights weights_view(const Parameters& parameters) {
    Weights weights = weights_view(parameters.layout, {parameters.values.data()});
    weights.bytes = static_cast<std::int64_t>(parameters.values.bytes());
    return weights;
}

Weights weights_view(const ParameterLayout& layout, const ParameterView& view) {
    const ModelConfig& config = layout.config;
    const auto matrix = [&](std::int64_t offset, std::int64_t rows, std::int64_t cols) {
        if (view.bf16 != nullptr) {
            return tensor::MatrixView{tensor::DType::bf16, rows, cols,
                                      reinterpret_cast<const std::byte*>(view.bf16 + offset)};
        }
        return tensor::MatrixView{tensor::DType::f32, rows, cols,
                                  reinterpret_cast<const std::byte*>(view.values + offset)};
    };
    const auto vector = [&](std::int64_t offset, std::int64_t count) {
        return std::vector<float>(view.vector(offset), view.vector(offset) + count);
    };
    Weights weights;
    weights.config = config;
    weights.embedding = matrix(layout.embedding, config.vocab_size, config.hidden_size);
    weights.head = matrix(layout.head, config.vocab_size, config.hidden_size);
    weights.final_norm = vector(layout.final_norm, config.hidden_size);
    const std::int64_t hidden = config.hidden_size;
    for (const LayerOffsets& at : layout.layers) {
        LayerWeights layer;
        layer.attention_norm = vector(at.attention_norm, hidden);
        layer.query = matrix(at.qkv, config.query_size(), hidden);
        layer.key = matrix(at.qkv + config.query_size() * hidden, config.kv_size(), hidden);
        layer.value =
            matrix(at.qkv + (config.query_size() + config.kv_size()) * hidden, config.kv_size(), hidden);
        if (config.qkv_bias) {
            layer.query_bias = vector(at.qkv_bias, config.query_size());
            layer.key_bias = vector(at.qkv_bias + config.query_size(), config.kv_size());
            layer.value_bias = vector(at.qkv_bias + config.query_size() + config.kv_size(), config.kv_size());
        }
        if (config.qk_norm) {
            layer.query_norm = vector(at.query_norm, config.head_dim);
            layer.key_norm = vector(at.key_norm, config.head_dim);
        }
        layer.output = matrix(at.output, hidden, config.query_size());
        layer.mlp_norm = vector(at.mlp_norm, hidden);
        layer.gate = matrix(at.gate_up, config.intermediate_size, hidden);
        layer.up = matrix(at.gate_up + config.intermediate_size * hidden, config.intermediate_size, hidden);
        layer.down = matrix(at.down, hidden, config.intermediate_size);
        weights.layers.push_back(std::move(layer));
    }
    weights.bytes = layout.total * (view.bf16 != nullptr ? 2 : 4);
    return weights;
}

}  // namespace retort::model
