// Layers of a step whose activations stay in bf16 between its products, on machines whose tiles multiply it
// (tensor/gemm_amx.h): each product rounds as it writes, and what stands between two reads and writes bf16.
// The residual stream, sums and gradients of weights are f32.
#include "model/transformer.h"
#include "tensor/adamw.h"
#include "tensor/attention_amx.h"
#include "tensor/gemm_amx.h"
#include "tensor/narrow.h"
#include "tensor/norm.h"

namespace retort::model {

namespace {

using tensor::GemmOutput;

// Of a weight (rows, cols) and tokens.
struct Product {
    const std::uint16_t* weight;
    std::int64_t tokens;
    std::int64_t rows;
    std::int64_t cols;

    void forward(const std::uint16_t* x, const GemmOutput& y) const {
        tensor::gemm_amx(false, true, tokens, rows, cols, x, cols, weight, cols, y);
    }
    void input_gradient(const std::uint16_t* dy, const GemmOutput& dx) const {
        tensor::gemm_amx(false, false, tokens, cols, rows, dy, rows, weight, cols, dx);
    }
    void weight_gradient(const std::uint16_t* dy, const std::uint16_t* x, float* gradient) const {
        tensor::gemm_amx(true, false, rows, cols, tokens, dy, rows, x, cols,
                         {gradient, gradient, nullptr, cols});
    }
};

struct Sizes {
    std::int64_t tokens;
    std::int64_t hidden;
    std::int64_t wide;
    std::int64_t query;
    std::int64_t row;  // of query, key and value

    Sizes(const ModelConfig& config, const TokenBatch& batch)
        : tokens(static_cast<std::int64_t>(batch.tokens.size())),
          hidden(config.hidden_size),
          wide(config.intermediate_size),
          query(config.query_size()),
          row(query + 2 * config.kv_size()) {}
};

tensor::AttentionShape attention_shape(const ModelConfig& config) {
    return {config.head_count, config.kv_head_count, config.head_dim};
}

}  // namespace

void Transformer::forward_narrow(const ParameterView& parameters, const LayerOffsets& at,
                                 const TokenBatch& batch, const float* input, LayerActivations& layer,
                                 float* output) {
    const ModelConfig& config = layout_.config;
    const Sizes sizes(config, batch);
    const auto [tokens, hidden, wide, query, row] = sizes;
    const auto product = [&](std::int64_t offset, std::int64_t rows, std::int64_t cols) {
        return Product{parameters.bf16 + offset, sizes.tokens, rows, cols};
    };
    std::uint16_t* x = x_bf16_.data();
    tensor::rms_norm_bf16(input, parameters.vector(at.attention_norm), config.rms_norm_eps, tokens, hidden, x,
                          layer.attention_rstd.data());
    product(at.qkv, row, hidden).forward(x, {layer.qkv.data(), nullptr, nullptr, row});
    finish_query_key(parameters, at, batch, layer);
    tensor::convert_to_bf16(layer.qkv.data(), layer.kept_qkv.data(), tokens * row);
    tensor::attention_amx(layer.kept_qkv.data(), batch.sequence_starts, attention_shape(config),
                          layer.kept_attention.data(), layer.log_sum_exp.data());
    product(at.output, hidden, query)
        .forward(layer.kept_attention.data(), {layer.middle.data(), input, nullptr, hidden});
    tensor::rms_norm_bf16(layer.middle.data(), parameters.vector(at.mlp_norm), config.rms_norm_eps, tokens,
                          hidden, x, layer.mlp_rstd.data());
    product(at.gate_up, 2 * wide, hidden).forward(x, {nullptr, nullptr, layer.kept_gate_up.data(), 2 * wide});
    if (output == nullptr) return;
    tensor::swiglu_bf16(layer.kept_gate_up.data(), tokens, wide, x);
    product(at.down, hidden, wide).forward(x, {output, layer.middle.data(), nullptr, hidden});
}

void Transformer::backward_narrow(const ParameterView& parameters, const LayerOffsets& at,
                                  const TokenBatch& batch, const float* input, LayerActivations& layer,
                                  float* gradients) {
    const ModelConfig& config = layout_.config;
    const Sizes sizes(config, batch);
    const auto [tokens, hidden, wide, query, row] = sizes;
    const auto product = [&](std::int64_t offset, std::int64_t rows, std::int64_t cols) {
        return Product{parameters.bf16 + offset, sizes.tokens, rows, cols};
    };
    std::uint16_t* x = x_bf16_.data();
    std::uint16_t* dy = dy_bf16_.data();
    std::uint16_t* d_residual = d_narrow_bf16_.data();      // (T, hidden)
    std::uint16_t* d_inner = d_residual + tokens * hidden;  // (T, wide) or (T, query)
    float* d_normed = d_narrow_.data();

    // MLP.
    const Product down = product(at.down, hidden, wide);
    tensor::convert_to_bf16(d_residual_.data(), d_residual, tokens * hidden);
    down.input_gradient(d_residual, {nullptr, nullptr, d_inner, wide});
    tensor::swiglu_backward_bf16(layer.kept_gate_up.data(), d_inner, tokens, wide, dy, x);
    down.weight_gradient(d_residual, x, gradients + at.down);
    const Product gate_up = product(at.gate_up, 2 * wide, hidden);
    tensor::rms_norm_bf16(layer.middle.data(), parameters.vector(at.mlp_norm), config.rms_norm_eps, tokens,
                          hidden, x, nullptr);
    gate_up.input_gradient(dy, {d_normed, nullptr, nullptr, hidden});
    gate_up.weight_gradient(dy, x, gradients + at.gate_up);
    tensor::rms_norm_backward(layer.middle.data(), hidden, parameters.vector(at.mlp_norm),
                              layer.mlp_rstd.data(), d_normed, hidden, tokens, hidden, d_residual_.data(),
                              hidden, gradients + at.mlp_norm);

    // Attention.
    const Product out = product(at.output, hidden, query);
    tensor::convert_to_bf16(d_residual_.data(), d_residual, tokens * hidden);
    out.input_gradient(d_residual, {nullptr, nullptr, d_inner, query});
    out.weight_gradient(d_residual, layer.kept_attention.data(), gradients + at.output);
    tensor::attention_backward_amx(layer.kept_qkv.data(), layer.kept_attention.data(),
                                   layer.log_sum_exp.data(), d_inner, batch.sequence_starts,
                                   attention_shape(config), d_qkv_.data());
    finish_query_key_backward(parameters, at, batch, layer, gradients);
    tensor::convert_to_bf16(d_qkv_.data(), dy, tokens * row);
    tensor::rms_norm_bf16(input, parameters.vector(at.attention_norm), config.rms_norm_eps, tokens, hidden, x,
                          nullptr);
    const Product qkv = product(at.qkv, row, hidden);
    qkv.input_gradient(dy, {d_normed, nullptr, nullptr, hidden});
    qkv.weight_gradient(dy, x, gradients + at.qkv);
    tensor::rms_norm_backward(input, hidden, parameters.vector(at.attention_norm),
                              layer.attention_rstd.data(), d_normed, hidden, tokens, hidden,
                              d_residual_.data(), hidden, gradients + at.attention_norm);
}

}  // namespace retort::model
