// A model's parameters for training: every tensor in one flat f32 buffer, so that gradients, optimiser state
// and checkpoints are buffers of the same layout. What runs a model without training it reads
// model/weights.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/weights.h"
#include "tensor/buffer.h"

namespace retort::model {

struct AdapterView;

struct ParameterTensor {
    std::string name;  // Hugging Face's, as "model.layers.0.self_attn.q_proj.weight"
    std::vector<std::int64_t> shape;
    std::int64_t offset = 0;  // into the flat buffer, in elements
    std::int64_t count = 0;
    bool decays = false;  // matrices decay; norms and biases do not
};

// Offsets of one layer: matrices in [0, matrices) of the flat buffer, vectors after them. Query, key and
// value lie end to end, and so do gate and up: each is one product.
struct LayerOffsets {
    std::int64_t attention_norm = 0;  // (hidden)
    std::int64_t qkv = 0;             // (query_size + 2·kv_size, hidden)
    std::int64_t qkv_bias = -1;       // (query_size + 2·kv_size), −1 without
    std::int64_t query_norm = -1;     // (head_dim), −1 without
    std::int64_t key_norm = -1;
    std::int64_t output = 0;    // (hidden, query_size)
    std::int64_t mlp_norm = 0;  // (hidden)
    std::int64_t gate_up = 0;   // (2·intermediate, hidden)
    std::int64_t down = 0;      // (hidden, intermediate)
};

struct ParameterLayout {
    ModelConfig config;
    std::vector<ParameterTensor> tensors;  // as a model has them, layer by layer
    std::vector<LayerOffsets> layers;
    std::int64_t embedding = 0;   // (vocab, hidden)
    std::int64_t final_norm = 0;  // (hidden)
    std::int64_t head = 0;        // (vocab, hidden); equal to `embedding` when tied
    std::int64_t matrices = 0;    // elements, padding included: vectors lie from here on
    std::int64_t total = 0;       // of both
};

ParameterLayout make_layout(const ModelConfig& config);

struct Parameters {
    ParameterLayout layout;
    tensor::Buffer<float> values;
};

Parameters make_parameters(const ModelConfig& config);

// Dequantises every matrix of `weights`.
Parameters parameters_from(const Weights& weights);

// A fresh model: normal(0, 0.02) matrices, the two that end in the residual stream divided by sqrt(2·layers);
// norms 1.
Parameters random_parameters(const ModelConfig& config, std::uint64_t seed);

// f32 values in a ParameterLayout, and their matrices rounded to bf16 when products are to run in it (else
// null). Where `values` is null there are only the rounded matrices and, apart, the vectors in f32.
struct ParameterView {
    const float* values = nullptr;
    const std::uint16_t* bf16 = nullptr;
    const float* vectors = nullptr;  // those from layout.matrices on
    std::int64_t matrices = 0;
    const AdapterView* adapters = nullptr;  // low-rank additions (model/adapters.h)

    [[nodiscard]] const float* vector(std::int64_t offset) const {
        return values != nullptr ? values + offset : vectors + (offset - matrices);
    }
    void copy_row(std::int64_t offset, std::int64_t count, float* to) const;
};

// Views of the parameters as weights that the generation engine runs. The parameters must outlive them.
Weights weights_view(const Parameters& parameters);
// The same of a view: in bf16 where it has that.
Weights weights_view(const ParameterLayout& layout, const ParameterView& view);

}  // namespace retort::model
