#include "model/transformer.h"

#include <algorithm>
#include <cassert>

#include "base/parallel.h"
#include "tensor/activation.h"
#include "tensor/adamw.h"
#include "tensor/attention.h"
#include "tensor/attention_amx.h"
#include "tensor/gemm.h"
#include "tensor/norm.h"

namespace retort::model {

namespace {

tensor::AttentionShape attention_shape(const ModelConfig& config) {
    return {config.head_count, config.kv_head_count, config.head_dim};
}

void add_row_vector(float* x, const float* bias, std::int64_t rows, std::int64_t size) {
    base::parallel_ranges(rows, 32, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            for (std::int64_t i = 0; i < size; ++i) x[r * size + i] += bias[i];
        }
    });
}

// Shares of columns, so that each sum runs over the rows in order whatever the number of threads.
void add_column_sums(const float* x, std::int64_t rows, std::int64_t size, float* sums) {
    base::parallel_ranges(size, 64, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t i = begin; i < end; ++i) sums[i] += x[r * size + i];
        }
    });
}

std::int64_t widest_row(const ModelConfig& config) {
    return std::max(
        {config.hidden_size, config.query_size() + 2 * config.kv_size(), 2 * config.intermediate_size});
}

// Of a layer whose activations stay narrow: the gradient of the residual stream, and of what it meets.
std::int64_t narrow_row(const ModelConfig& config) {
    return config.hidden_size + std::max(config.intermediate_size, config.query_size());
}

}  // namespace

bool Transformer::fits_narrow(const ModelConfig& config, const TransformerOptions& options) {
    return options.bf16 && options.adapter_rank == 0 && tensor::amx_attention_fits(attention_shape(config)) &&
           config.hidden_size % 32 == 0 && config.intermediate_size % 32 == 0;
}

Transformer::LayerActivations Transformer::make_activations(const ModelConfig& config, std::int64_t tokens,
                                                            Keeping keeping) {
    using Floats = tensor::Buffer<float>;
    LayerActivations layer;
    layer.attention_rstd = Floats(tokens);
    if (config.qk_norm) {
        layer.qk_before_norm = Floats(tokens * (config.query_size() + config.kv_size()));
        layer.qk_rstd = Floats(tokens * (config.head_count + config.kv_head_count));
    }
    layer.log_sum_exp = Floats(tokens * config.head_count);
    layer.middle = Floats(tokens * config.hidden_size);
    layer.mlp_rstd = Floats(tokens);
    if (keeping == Keeping::wide) {
        make_wide(config, tokens, layer);
        return layer;
    }
    using Narrow = tensor::Buffer<std::uint16_t>;
    layer.kept_qkv = Narrow(tokens * (config.query_size() + 2 * config.kv_size()));
    layer.kept_attention = Narrow(tokens * config.query_size());
    layer.kept_gate_up = Narrow(tokens * 2 * config.intermediate_size);
    return layer;
}

void Transformer::make_wide(const ModelConfig& config, std::int64_t tokens, LayerActivations& layer) {
    using Floats = tensor::Buffer<float>;
    layer.qkv = Floats(tokens * (config.query_size() + 2 * config.kv_size()));
    layer.attention = Floats(tokens * config.query_size());
    layer.gate_up = Floats(tokens * 2 * config.intermediate_size);
}

// The shared buffers go to the layer that is in work, or come back from it.
void Transformer::exchange_wide(LayerActivations& layer) {
    if (!keeps_narrow()) return;
    std::swap(layer.qkv, shared_.qkv);
    std::swap(layer.attention, shared_.attention);
    std::swap(layer.gate_up, shared_.gate_up);
}

// Forward computes with what backward will find: a rounded value is the same in both.
void Transformer::round_and_keep(tensor::Buffer<float>& x, tensor::Buffer<std::uint16_t>& kept,
                                 std::int64_t count) {
    if (!options_.bf16 || !options_.training) return;
    std::uint16_t* narrow = kept.empty() ? x_bf16_.data() : kept.data();
    tensor::convert_to_bf16(x.data(), narrow, count);
    tensor::convert_from_bf16(narrow, x.data(), count);
}

bool Transformer::attends_in_bf16(const ParameterView& parameters) const {
    return keeps_narrow() && parameters.bf16 != nullptr &&
           tensor::amx_attention_fits(attention_shape(layout_.config));
}

void Transformer::restore(const ParameterView& parameters, LayerActivations& layer, std::int64_t tokens) {
    if (!keeps_narrow()) return;
    const ModelConfig& config = layout_.config;
    if (!attends_in_bf16(parameters))
        tensor::convert_from_bf16(layer.kept_qkv.data(), layer.qkv.data(),
                                  tokens * (config.query_size() + 2 * config.kv_size()));
    tensor::convert_from_bf16(layer.kept_attention.data(), layer.attention.data(),
                              tokens * config.query_size());
    tensor::convert_from_bf16(layer.kept_gate_up.data(), layer.gate_up.data(),
                              tokens * 2 * config.intermediate_size);
}

Transformer::Transformer(const ParameterLayout& layout, std::int64_t max_tokens,
                         const TransformerOptions& options)
    : layout_(layout),
      max_tokens_(max_tokens),
      options_(options),
      frequencies_(rope_frequencies(layout.config)) {
    using Floats = tensor::Buffer<float>;
    const ModelConfig& config = layout.config;
    const std::int64_t hidden = config.hidden_size;
    const bool one_for_all = !options.training || options.recompute;
    for (std::int64_t l = 0; l < (one_for_all ? 1 : config.layer_count); ++l) {
        layers_.push_back(
            make_activations(config, max_tokens, keeps_narrow() ? Keeping::narrow : Keeping::wide));
    }
    if (keeps_narrow()) make_wide(config, max_tokens, shared_);
    inputs_ = Floats((options.training ? config.layer_count + 1 : 2) * max_tokens * hidden);
    final_rstd_ = Floats(max_tokens);
    hidden_ = Floats(max_tokens * hidden);
    normed_ = Floats(max_tokens * hidden);
    wide_ = Floats(max_tokens * config.intermediate_size);
    x_bf16_ = tensor::Buffer<std::uint16_t>(max_tokens * widest_row(config));
    const std::int64_t thin = max_tokens * options.adapter_rank;
    thin_ = Floats(thin);
    thin_bf16_ = tensor::Buffer<std::uint16_t>(thin);
    if (!options.training) return;
    d_thin_ = Floats(most_adapters_of_a_product * thin);
    d_thin_bf16_ = tensor::Buffer<std::uint16_t>(most_adapters_of_a_product * thin);
    dy_bf16_ = tensor::Buffer<std::uint16_t>(max_tokens * widest_row(config));
    d_narrow_bf16_ = tensor::Buffer<std::uint16_t>(max_tokens * narrow_row(config));
    d_residual_ = Floats(max_tokens * hidden);
    d_narrow_ = Floats(max_tokens * std::max(hidden, config.query_size()));
    d_wide_ = Floats(max_tokens * config.intermediate_size);
    d_gate_up_ = Floats(max_tokens * 2 * config.intermediate_size);
    d_qkv_ = Floats(max_tokens * (config.query_size() + 2 * config.kv_size()));
}

std::int64_t Transformer::memory_bytes(const ModelConfig& config, std::int64_t max_tokens,
                                       const TransformerOptions& options) {
    const std::int64_t hidden = config.hidden_size;
    const std::int64_t query = config.query_size();
    const std::int64_t qkv = query + 2 * config.kv_size();
    const std::int64_t wide = config.intermediate_size;
    std::int64_t layer = 2 + config.head_count + hidden;
    const std::int64_t wide_ones = qkv + query + 2 * wide;
    if (config.qk_norm) layer += query + config.kv_size() + config.head_count + config.kv_head_count;
    const bool one_for_all = !options.training || options.recompute;
    const std::int64_t layers = one_for_all ? 1 : config.layer_count;
    const bool narrow = options.bf16 && (options.training || fits_narrow(config, options));
    std::int64_t row = layers * layer + (narrow ? wide_ones + layers * wide_ones / 2 : layers * wide_ones);
    row += (options.training ? config.layer_count + 1 : 2) * hidden + 1 + 2 * hidden + wide;
    if (options.training) row += hidden + std::max(hidden, query) + wide + 2 * wide + qkv;
    if (options.bf16) row += (options.training ? 2 : 1) * widest_row(config) / 2;
    // Memory that is never touched is never given by the system: where activations stay narrow, that of the
    // wide ones.
    if (fits_narrow(config, options)) {
        row -= query + 3 * wide + hidden;
        if (options.training) row += narrow_row(config) / 2 - 3 * wide;
    }
    row += (1 + most_adapters_of_a_product) * options.adapter_rank;
    return max_tokens * row * 4;
}

float* Transformer::input(std::size_t layer) {
    const std::size_t slot = options_.training ? layer : layer % 2;
    return inputs_.data() + static_cast<std::int64_t>(slot) * max_tokens_ * layout_.config.hidden_size;
}

std::span<const float> Transformer::layer_input(std::int64_t layer) const {
    assert(options_.training);
    const std::int64_t size = max_tokens_ * layout_.config.hidden_size;
    return {inputs_.data() + layer * size, static_cast<std::size_t>(size)};
}

Transformer::LayerView Transformer::layer_view(std::int64_t layer, std::int64_t tokens) const {
    assert(options_.training && !options_.recompute && !options_.bf16);
    const LayerActivations& from = layers_[static_cast<std::size_t>(layer)];
    const ModelConfig& config = layout_.config;
    const auto rows = [tokens](const tensor::Buffer<float>& buffer, std::int64_t width) {
        return std::span<const float>(buffer.data(), static_cast<std::size_t>(tokens * width));
    };
    return {rows(from.attention, config.query_size()), rows(from.middle, config.hidden_size),
            rows(from.gate_up, 2 * config.intermediate_size)};
}

void Transformer::linear(const ParameterView& parameters, std::int64_t weight, const float* x,
                         std::int64_t tokens, std::int64_t rows, std::int64_t cols, float beta, float* y) {
    if (parameters.bf16 == nullptr) {
        tensor::gemm(false, true, tokens, rows, cols, 1.0F, x, cols, parameters.values + weight, cols, beta,
                     y, rows);
    } else {
        tensor::convert_to_bf16(x, x_bf16_.data(), tokens * cols);
        tensor::gemm_bf16(false, true, tokens, rows, cols, x_bf16_.data(), cols, parameters.bf16 + weight,
                          cols, beta, y, rows);
    }
    if (parameters.adapters != nullptr) adapters_forward(*parameters.adapters, weight, x, tokens, rows, y);
}

void Transformer::linear_input_gradient(const ParameterView& parameters, std::int64_t weight, const float* dy,
                                        std::int64_t tokens, std::int64_t rows, std::int64_t cols,
                                        float* dx) {
    if (parameters.bf16 == nullptr) {
        tensor::gemm(false, false, tokens, cols, rows, 1.0F, dy, rows, parameters.values + weight, cols, 0.0F,
                     dx, cols);
    } else {
        tensor::convert_to_bf16(dy, dy_bf16_.data(), tokens * rows);
        tensor::gemm_bf16(false, false, tokens, cols, rows, dy_bf16_.data(), rows, parameters.bf16 + weight,
                          cols, 0.0F, dx, cols);
    }
    if (parameters.adapters != nullptr)
        adapters_input_gradient(*parameters.adapters, weight, dy, tokens, rows, dx);
}

void Transformer::linear_weight_gradient(const ParameterView& parameters, std::int64_t weight, const float* x,
                                         const float* dy, std::int64_t tokens, std::int64_t rows,
                                         std::int64_t cols, float* gradients) {
    if (parameters.bf16 != nullptr) tensor::convert_to_bf16(x, x_bf16_.data(), tokens * cols);
    if (parameters.adapters != nullptr) {
        adapters_weight_gradient(*parameters.adapters, weight, x, dy, tokens, rows, gradients);
    } else if (parameters.bf16 == nullptr) {
        tensor::gemm(true, false, rows, cols, tokens, 1.0F, dy, rows, x, cols, 1.0F, gradients + weight,
                     cols);
    } else {
        tensor::gemm_bf16(true, false, rows, cols, tokens, dy_bf16_.data(), rows, x_bf16_.data(), cols, 1.0F,
                          gradients + weight, cols);
    }
}

// What stands between the projection and attention: bias, norms of the heads, rotation.
void Transformer::finish_query_key(const ParameterView& parameters, const LayerOffsets& at,
                                   const TokenBatch& batch, LayerActivations& layer) {
    const ModelConfig& config = layout_.config;
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
    const std::int64_t query = config.query_size();
    const std::int64_t row = query + 2 * config.kv_size();
    if (at.qkv_bias >= 0) add_row_vector(layer.qkv.data(), parameters.vector(at.qkv_bias), tokens, row);
    if (config.qk_norm) {
        const std::int64_t width = query + config.kv_size();
        for (std::int64_t t = 0; t < tokens; ++t) {
            std::copy_n(layer.qkv.data() + t * row, width, layer.qk_before_norm.data() + t * width);
        }
        for (std::int64_t h = 0; h < config.head_count + config.kv_head_count; ++h) {
            const float* weight = parameters.vector(h < config.head_count ? at.query_norm : at.key_norm);
            float* head = layer.qkv.data() + h * config.head_dim;
            tensor::rms_norm(head, row, weight, config.rms_norm_eps, tokens, config.head_dim, head, row,
                             layer.qk_rstd.data() + h * max_tokens_);
        }
    }
    tensor::rope(layer.qkv.data(), row, tokens, config.head_count + config.kv_head_count,
                 batch.positions.data(), rope_, false);
}

void Transformer::layer_attention(const ParameterView& parameters, const LayerOffsets& at,
                                  const TokenBatch& batch, const float* input, LayerActivations& layer) {
    const ModelConfig& config = layout_.config;
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
    const std::int64_t hidden = config.hidden_size;
    const std::int64_t query = config.query_size();
    const std::int64_t row = query + 2 * config.kv_size();
    tensor::rms_norm(input, hidden, parameters.vector(at.attention_norm), config.rms_norm_eps, tokens, hidden,
                     normed_.data(), hidden, layer.attention_rstd.data());
    linear(parameters, at.qkv, normed_.data(), tokens, row, hidden, 0.0F, layer.qkv.data());
    finish_query_key(parameters, at, batch, layer);
    if (attends_in_bf16(parameters)) {
        tensor::convert_to_bf16(layer.qkv.data(), layer.kept_qkv.data(), tokens * row);
        tensor::attention_amx(layer.kept_qkv.data(), batch.sequence_starts, attention_shape(config),
                              layer.kept_attention.data(), layer.log_sum_exp.data());
        tensor::convert_from_bf16(layer.kept_attention.data(), layer.attention.data(), tokens * query);
    } else {
        round_and_keep(layer.qkv, layer.kept_qkv, tokens * row);
        tensor::attention(layer.qkv.data(), batch.sequence_starts, attention_shape(config),
                          layer.attention.data(), layer.log_sum_exp.data());
        round_and_keep(layer.attention, layer.kept_attention, tokens * query);
    }
    std::copy_n(input, tokens * hidden, layer.middle.data());
    linear(parameters, at.output, layer.attention.data(), tokens, hidden, query, 1.0F, layer.middle.data());
}

void Transformer::layer_mlp(const ParameterView& parameters, const LayerOffsets& at, std::int64_t tokens,
                            LayerActivations& layer) {
    const ModelConfig& config = layout_.config;
    const std::int64_t hidden = config.hidden_size;
    tensor::rms_norm(layer.middle.data(), hidden, parameters.vector(at.mlp_norm), config.rms_norm_eps, tokens,
                     hidden, normed_.data(), hidden, layer.mlp_rstd.data());
    linear(parameters, at.gate_up, normed_.data(), tokens, 2 * config.intermediate_size, hidden, 0.0F,
           layer.gate_up.data());
    round_and_keep(layer.gate_up, layer.kept_gate_up, tokens * 2 * config.intermediate_size);
}

std::span<const float> Transformer::forward(const ParameterView& parameters, const TokenBatch& batch) {
    const ModelConfig& config = layout_.config;
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
    const std::int64_t hidden = config.hidden_size;
    assert(tokens <= max_tokens_);
    if (tokens == 0) return {};
    rope_.extend(*std::max_element(batch.positions.begin(), batch.positions.end()) + 1, frequencies_.inverse,
                 frequencies_.scale);
    float* first = input(0);
    for (std::int64_t t = 0; t < tokens; ++t) {
        parameters.copy_row(layout_.embedding + batch.tokens[static_cast<std::size_t>(t)] * hidden, hidden,
                            first + t * hidden);
    }
    for (std::size_t l = 0; l < layout_.layers.size(); ++l) {
        const LayerOffsets& at = layout_.layers[l];
        LayerActivations& layer = activations(l);
        exchange_wide(layer);
        if (stays_narrow(parameters)) {
            forward_narrow(parameters, at, batch, input(l), layer, input(l + 1));
            exchange_wide(layer);
            continue;
        }
        layer_attention(parameters, at, batch, input(l), layer);
        layer_mlp(parameters, at, tokens, layer);
        tensor::swiglu(layer.gate_up.data(), tokens, config.intermediate_size, wide_.data());
        std::copy_n(layer.middle.data(), tokens * hidden, input(l + 1));
        linear(parameters, at.down, wide_.data(), tokens, hidden, config.intermediate_size, 1.0F,
               input(l + 1));
        exchange_wide(layer);
    }
    tensor::rms_norm(input(layout_.layers.size()), hidden, parameters.vector(layout_.final_norm),
                     config.rms_norm_eps, tokens, hidden, hidden_.data(), hidden, final_rstd_.data());
    return {hidden_.data(), static_cast<std::size_t>(tokens * hidden)};
}

void Transformer::backward_query_key(const ParameterView& parameters, const LayerOffsets& at,
                                     const TokenBatch& batch, LayerActivations& layer, float* gradients) {
    const ModelConfig& config = layout_.config;
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
    const std::int64_t row = config.query_size() + 2 * config.kv_size();
    tensor::rope(d_qkv_.data(), row, tokens, config.head_count + config.kv_head_count, batch.positions.data(),
                 rope_, true);
    if (!config.qk_norm) return;
    const std::int64_t dim = config.head_dim;
    const std::int64_t width = config.query_size() + config.kv_size();
    for (std::int64_t h = 0; h < config.head_count + config.kv_head_count; ++h) {
        const std::int64_t norm = h < config.head_count ? at.query_norm : at.key_norm;
        float* d_head = d_narrow_.data();  // (T, head_dim)
        std::fill_n(d_head, tokens * dim, 0.0F);
        tensor::rms_norm_backward(layer.qk_before_norm.data() + h * dim, width, parameters.vector(norm),
                                  layer.qk_rstd.data() + h * max_tokens_, d_qkv_.data() + h * dim, row,
                                  tokens, dim, d_head, dim,
                                  parameters.adapters != nullptr ? nullptr : gradients + norm);
        for (std::int64_t t = 0; t < tokens; ++t) {
            std::copy_n(d_head + t * dim, dim, d_qkv_.data() + t * row + h * dim);
        }
    }
}

void Transformer::finish_query_key_backward(const ParameterView& parameters, const LayerOffsets& at,
                                            const TokenBatch& batch, LayerActivations& layer,
                                            float* gradients) {
    backward_query_key(parameters, at, batch, layer, gradients);
    if (at.qkv_bias < 0 || parameters.adapters != nullptr) return;
    add_column_sums(d_qkv_.data(), static_cast<std::int64_t>(batch.tokens.size()),
                    layout_.config.query_size() + 2 * layout_.config.kv_size(), gradients + at.qkv_bias);
}

void Transformer::layer_backward(const ParameterView& parameters, const LayerOffsets& at,
                                 const TokenBatch& batch, const float* input, LayerActivations& layer,
                                 float* gradients) {
    const ModelConfig& config = layout_.config;
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
    const std::int64_t hidden = config.hidden_size;
    const std::int64_t wide = config.intermediate_size;
    const std::int64_t row = config.query_size() + 2 * config.kv_size();
    const auto of_vector = [&](std::int64_t offset) {  // frozen beside adapters
        return parameters.adapters != nullptr ? nullptr : gradients + offset;
    };

    // MLP. dh = d_residual·W_down has to be there before h is made again.
    linear_input_gradient(parameters, at.down, d_residual_.data(), tokens, hidden, wide, d_wide_.data());
    tensor::swiglu_backward(layer.gate_up.data(), d_wide_.data(), tokens, wide, d_gate_up_.data(),
                            wide_.data());
    linear_weight_gradient(parameters, at.down, wide_.data(), d_residual_.data(), tokens, hidden, wide,
                           gradients);
    tensor::rms_norm(layer.middle.data(), hidden, parameters.vector(at.mlp_norm), config.rms_norm_eps, tokens,
                     hidden, normed_.data(), hidden, nullptr);
    linear_input_gradient(parameters, at.gate_up, d_gate_up_.data(), tokens, 2 * wide, hidden,
                          d_narrow_.data());
    linear_weight_gradient(parameters, at.gate_up, normed_.data(), d_gate_up_.data(), tokens, 2 * wide,
                           hidden, gradients);
    tensor::rms_norm_backward(layer.middle.data(), hidden, parameters.vector(at.mlp_norm),
                              layer.mlp_rstd.data(), d_narrow_.data(), hidden, tokens, hidden,
                              d_residual_.data(), hidden, of_vector(at.mlp_norm));

    // Attention.
    linear_input_gradient(parameters, at.output, d_residual_.data(), tokens, hidden, config.query_size(),
                          d_narrow_.data());
    linear_weight_gradient(parameters, at.output, layer.attention.data(), d_residual_.data(), tokens, hidden,
                           config.query_size(), gradients);
    if (attends_in_bf16(parameters)) {
        tensor::convert_to_bf16(d_narrow_.data(), dy_bf16_.data(), tokens * config.query_size());
        tensor::attention_backward_amx(layer.kept_qkv.data(), layer.kept_attention.data(),
                                       layer.log_sum_exp.data(), dy_bf16_.data(), batch.sequence_starts,
                                       attention_shape(config), d_qkv_.data());
    } else {
        tensor::attention_backward(layer.qkv.data(), layer.attention.data(), layer.log_sum_exp.data(),
                                   d_narrow_.data(), batch.sequence_starts, attention_shape(config),
                                   d_qkv_.data());
    }
    finish_query_key_backward(parameters, at, batch, layer, gradients);
    tensor::rms_norm(input, hidden, parameters.vector(at.attention_norm), config.rms_norm_eps, tokens, hidden,
                     normed_.data(), hidden, nullptr);
    linear_input_gradient(parameters, at.qkv, d_qkv_.data(), tokens, row, hidden, d_narrow_.data());
    linear_weight_gradient(parameters, at.qkv, normed_.data(), d_qkv_.data(), tokens, row, hidden, gradients);
    tensor::rms_norm_backward(input, hidden, parameters.vector(at.attention_norm),
                              layer.attention_rstd.data(), d_narrow_.data(), hidden, tokens, hidden,
                              d_residual_.data(), hidden, of_vector(at.attention_norm));
}

void Transformer::backward(const ParameterView& parameters, const TokenBatch& batch,
                           std::span<const float> d_hidden, float* gradients, const OnLayer& on_layer) {
    assert(options_.training);
    const ModelConfig& config = layout_.config;
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
    const std::int64_t hidden = config.hidden_size;
    if (tokens == 0) return;
    std::fill_n(d_residual_.data(), tokens * hidden, 0.0F);
    tensor::rms_norm_backward(input(layout_.layers.size()), hidden, parameters.vector(layout_.final_norm),
                              final_rstd_.data(), d_hidden.data(), hidden, tokens, hidden, d_residual_.data(),
                              hidden,
                              parameters.adapters != nullptr ? nullptr : gradients + layout_.final_norm);
    for (std::size_t l = layout_.layers.size(); l-- > 0;) {
        LayerActivations& layer = activations(l);
        exchange_wide(layer);
        if (stays_narrow(parameters)) {
            if (options_.recompute)
                forward_narrow(parameters, layout_.layers[l], batch, input(l), layer, nullptr);
            backward_narrow(parameters, layout_.layers[l], batch, input(l), layer, gradients);
            exchange_wide(layer);
            if (on_layer) on_layer(l);
            continue;
        }
        if (!options_.recompute) restore(parameters, layer, tokens);
        if (options_.recompute) {
            layer_attention(parameters, layout_.layers[l], batch, input(l), layer);
            layer_mlp(parameters, layout_.layers[l], tokens, layer);
        }
        layer_backward(parameters, layout_.layers[l], batch, input(l), layer, gradients);
        exchange_wide(layer);
        if (on_layer) on_layer(l);
    }
    if (parameters.adapters != nullptr) return;
    // Shares of columns, so that a token that comes twice is summed in the order of the rows.
    base::parallel_ranges(hidden, 32, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = 0; t < tokens; ++t) {
            float* row = gradients + layout_.embedding + batch.tokens[static_cast<std::size_t>(t)] * hidden;
            for (std::int64_t i = begin; i < end; ++i) row[i] += d_residual_.data()[t * hidden + i];
        }
    });
}

}  // namespace retort::model
