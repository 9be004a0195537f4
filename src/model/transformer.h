// The transformer for training and for scoring text: forward over packed sequences, and the backward pass
// written out layer by layer. Ends at the hidden states after the final norm; projecting them to the
// vocabulary, and the loss, are the caller's (train/objective.h, evaluate), who never needs tokens ×
// vocabulary at once. Generation, with its KV cache, is generate/decoder.h.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/adapters.h"
#include "model/parameters.h"
#include "tensor/buffer.h"
#include "tensor/rope.h"

namespace retort::model {

// Sequences laid end to end. positions restart in each; sequence_starts has one more entry than sequences.
struct TokenBatch {
    std::span<const std::int32_t> tokens;
    std::span<const std::int32_t> positions;
    std::span<const std::int32_t> sequence_starts;
};

struct TransformerOptions {
    bool training = true;  // keeps what backward() needs
    bool recompute =
        false;  // keeps only each layer's input, and runs its forward again in backward(): the same bits
    bool bf16 = false;              // activations are rounded to it, and so kept, but for the residual stream
    std::int64_t adapter_rank = 0;  // of the adapters that views may come with
};

class Transformer {
  public:
    // Plans all memory for batches of up to max_tokens. The layout must outlive the object.
    Transformer(const ParameterLayout& layout, std::int64_t max_tokens, const TransformerOptions& options);

    // Hidden states after the final norm (tokens, hidden), valid until the next call.
    std::span<const float> forward(const ParameterView& parameters, const TokenBatch& batch);

    // d_hidden (tokens, hidden): gradient of the loss by the last forward()'s result. Adds to gradients:
    // in the layout's order; or, where the view has adapters, in theirs, all else being frozen.
    // on_layer (may be empty) is called when all has been added to the matrices' gradients of a layer, from
    // the last layer to the first.
    using OnLayer = std::function<void(std::size_t layer)>;
    void backward(const ParameterView& parameters, const TokenBatch& batch, std::span<const float> d_hidden,
                  float* gradients, const OnLayer& on_layer = {});

    // Residual stream (tokens, hidden) that enters layer `layer` in the last forward(); the last layer's
    // result at layer_count. Only with options.training.
    [[nodiscard]] std::span<const float> layer_input(std::int64_t layer) const;

    // What layer `layer` computed in the last forward(), `tokens` rows of each. Only with options.training
    // and in f32 without recompute.
    struct LayerView {
        std::span<const float> attention;  // (tokens, query_size): the heads' results, end to end
        std::span<const float> middle;     // (tokens, hidden): residual stream between attention and MLP
        std::span<const float> gate_up;    // (tokens, 2·intermediate): gate, then up
    };
    [[nodiscard]] LayerView layer_view(std::int64_t layer, std::int64_t tokens) const;

    [[nodiscard]] static std::int64_t memory_bytes(const ModelConfig& config, std::int64_t max_tokens,
                                                   const TransformerOptions& options);

  private:
    struct LayerActivations {
        tensor::Buffer<float> attention_rstd;  // (T)
        tensor::Buffer<float> qkv;             // (T, Q + 2·KV) after norm and RoPE
        tensor::Buffer<float> qk_before_norm;  // (T, Q + KV), only with qk_norm
        tensor::Buffer<float> qk_rstd;         // (heads + kv_heads, T), only with qk_norm
        tensor::Buffer<float> attention;       // (T, Q)
        tensor::Buffer<float> log_sum_exp;     // (T, heads)
        tensor::Buffer<float> middle;          // (T, C) residual stream between attention and MLP
        tensor::Buffer<float> mlp_rstd;        // (T)
        tensor::Buffer<float> gate_up;         // (T, 2·I)
        // Where activations are kept in bf16, the wide ones are those of the layer in work alone, and these
        // stay.
        tensor::Buffer<std::uint16_t> kept_qkv;
        tensor::Buffer<std::uint16_t> kept_attention;
        tensor::Buffer<std::uint16_t> kept_gate_up;
    };
    enum class Keeping : std::uint8_t {
        wide,
        narrow
    };  // as f32 in the layer, or as bf16 beside a shared f32
    static LayerActivations make_activations(const ModelConfig& config, std::int64_t tokens, Keeping keeping);
    static void make_wide(const ModelConfig& config, std::int64_t tokens, LayerActivations& layer);
    [[nodiscard]] bool keeps_narrow() const { return options_.bf16; }
    // Whether all that passes between products is bf16, and none is kept in f32 but the residual stream.
    [[nodiscard]] static bool fits_narrow(const ModelConfig& config, const TransformerOptions& options);
    [[nodiscard]] bool stays_narrow(const ParameterView& parameters) const {
        return parameters.bf16 != nullptr && parameters.adapters == nullptr &&
               fits_narrow(layout_.config, options_);
    }
    void exchange_wide(LayerActivations& layer);
    void round_and_keep(tensor::Buffer<float>& x, tensor::Buffer<std::uint16_t>& kept, std::int64_t count);
    [[nodiscard]] bool attends_in_bf16(const ParameterView& parameters) const;
    void restore(const ParameterView& parameters, LayerActivations& layer, std::int64_t tokens);

    // A layer whose activations stay narrow; forward stops before the last product without an output.
    void forward_narrow(const ParameterView& parameters, const LayerOffsets& at, const TokenBatch& batch,
                        const float* input, LayerActivations& layer, float* output);
    void backward_narrow(const ParameterView& parameters, const LayerOffsets& at, const TokenBatch& batch,
                         const float* input, LayerActivations& layer, float* gradients);
    void finish_query_key(const ParameterView& parameters, const LayerOffsets& at, const TokenBatch& batch,
                          LayerActivations& layer);
    void finish_query_key_backward(const ParameterView& parameters, const LayerOffsets& at,
                                   const TokenBatch& batch, LayerActivations& layer, float* gradients);
    void layer_attention(const ParameterView& parameters, const LayerOffsets& at, const TokenBatch& batch,
                         const float* input, LayerActivations& layer);
    void layer_mlp(const ParameterView& parameters, const LayerOffsets& at, std::int64_t tokens,
                   LayerActivations& layer);
    void layer_backward(const ParameterView& parameters, const LayerOffsets& at, const TokenBatch& batch,
                        const float* input, LayerActivations& layer, float* gradients);
    void backward_query_key(const ParameterView& parameters, const LayerOffsets& at, const TokenBatch& batch,
                            LayerActivations& layer, float* gradients);

    // y (T, rows) = x (T, cols)·Wᵀ + beta·y
    void linear(const ParameterView& parameters, std::int64_t weight, const float* x, std::int64_t tokens,
                std::int64_t rows, std::int64_t cols, float beta, float* y);
    // dx (T, cols) = dy·W
    void linear_input_gradient(const ParameterView& parameters, std::int64_t weight, const float* dy,
                               std::int64_t tokens, std::int64_t rows, std::int64_t cols, float* dx);
    // dW (rows, cols) += dyᵀ·x, after linear_input_gradient() of the same dy
    void linear_weight_gradient(const ParameterView& parameters, std::int64_t weight, const float* x,
                                const float* dy, std::int64_t tokens, std::int64_t rows, std::int64_t cols,
                                float* gradients);
    // The adapters' shares of these three. x and dy as the product beside them took them.
    void adapters_forward(const AdapterView& view, std::int64_t weight, const float* x, std::int64_t tokens,
                          std::int64_t rows, float* y);
    void adapters_input_gradient(const AdapterView& view, std::int64_t weight, const float* dy,
                                 std::int64_t tokens, std::int64_t rows, float* dx);
    void adapters_weight_gradient(const AdapterView& view, std::int64_t weight, const float* x,
                                  const float* dy, std::int64_t tokens, std::int64_t rows, float* gradients);
    void adapter_inputs(const AdapterView& view, const Adapter& adapter, const float* x, std::int64_t tokens);

    [[nodiscard]] LayerActivations& activations(std::size_t layer) {
        return layers_[layers_.size() == 1 ? 0 : layer];
    }
    [[nodiscard]] float* input(std::size_t layer);

    const ParameterLayout& layout_;
    std::int64_t max_tokens_;
    TransformerOptions options_;
    RopeFrequencies frequencies_;
    tensor::RopeTable rope_;
    std::vector<LayerActivations> layers_;  // one a layer, or one for all
    LayerActivations shared_;               // wide activations of the layer in work, where they are shared
    tensor::Buffer<float> inputs_;      // (layers + 1, T, C) residual stream, or two slots without training
    tensor::Buffer<float> final_rstd_;  // (T)
    tensor::Buffer<float> hidden_;      // (T, C)
    tensor::Buffer<float> normed_;      // (T, C) scratch
    tensor::Buffer<float> wide_;        // (T, I) scratch
    tensor::Buffer<float> d_residual_;  // (T, C)
    tensor::Buffer<float> d_narrow_;    // (T, max(C, Q))
    tensor::Buffer<float> d_wide_;      // (T, I)
    tensor::Buffer<float> d_gate_up_;   // (T, 2·I)
    tensor::Buffer<float> d_qkv_;       // (T, Q + 2·KV)
    tensor::Buffer<std::uint16_t> x_bf16_;         // (T, widest) inputs of a product, rounded
    tensor::Buffer<std::uint16_t> dy_bf16_;        // (T, widest)
    tensor::Buffer<std::uint16_t> d_narrow_bf16_;  // (T, C + max(I, Q))
    tensor::Buffer<float> thin_;                   // (T, rank) alpha/rank · A·x of one adapter
    tensor::Buffer<float> d_thin_;                 // (3, T, rank) its gradient, of one product's adapters
    tensor::Buffer<std::uint16_t> thin_bf16_;      // (T, rank)
    tensor::Buffer<std::uint16_t> d_thin_bf16_;    // (3, T, rank)
};

}  // namespace retort::model
