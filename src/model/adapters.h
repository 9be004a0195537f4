// Low-rank adapters (LoRA, Hu et al. 2021): beside a frozen matrix W (out, in) a product of two thin ones, so
// that y = W·x + alpha/rank · B·(A·x), A (rank, in), B (out, rank). All of them in one flat f32 buffer, so
// that gradients, optimiser state and checkpoints are buffers of the same layout. Knows no training loop.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/parameters.h"
#include "tensor/buffer.h"

namespace retort::model {

struct LoraOptions {
    std::int64_t rank = 0;             // 0: none; all weights are trained
    double alpha = 16;                 // the product is multiplied by alpha/rank
    std::vector<std::string> targets;  // of adapter_targets(); empty: all of them
};

std::string lora_text(const LoraOptions& options);  // all of them in a line, for fingerprints

// The linear layers of a model, as Hugging Face calls them: q_proj … down_proj. Not embedding and head.
std::span<const std::string_view> adapter_targets();

struct Adapter {
    std::string module;        // "model.layers.0.self_attn.q_proj"
    std::int64_t product = 0;  // offset in the model's layout of the matrix that its product multiplies by
    std::int64_t row = 0;      // its rows of that matrix: [row, row + rows)
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    std::int64_t a = 0;  // (rank, cols), into the adapters' buffer
    std::int64_t b = 0;  // (rows, rank)
};

struct AdapterLayout {
    std::int64_t rank = 0;
    float scale = 1;                // alpha/rank
    std::vector<Adapter> adapters;  // sorted by product, then row
    std::int64_t total = 0;         // elements, padding included

    // Those of one product; three at most.
    [[nodiscard]] std::span<const Adapter> of(std::int64_t product) const;
};
constexpr std::int64_t most_adapters_of_a_product = 3;

Result<AdapterLayout> make_adapter_layout(const ParameterLayout& model, const LoraOptions& options);

// As peft begins: A uniform in ±1/sqrt(in), B zero.
tensor::Buffer<float> random_adapters(const AdapterLayout& layout, std::uint64_t seed);

// What forward and backward read of them: f32 values, and the same rounded where products run in bf16.
struct AdapterView {
    const AdapterLayout* layout = nullptr;
    const float* values = nullptr;
    const std::uint16_t* bf16 = nullptr;
};

// matrix (rows, cols) += scale · B·A
void add_adapter(const AdapterLayout& layout, const Adapter& adapter, const float* values, float* matrix);
// Every adapter into its matrix.
void merge_adapters(const AdapterLayout& layout, const float* values, Parameters& parameters);

// adapter_config.json and adapter_model.safetensors, as peft reads them. `base` names the model they belong
// to.
Status save_adapters(const std::filesystem::path& folder, const AdapterLayout& layout, const float* values,
                     const std::string& base);

}  // namespace retort::model
