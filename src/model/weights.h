// A model's weights for running: views of a mapped GGUF or safetensors file in whatever format they are
// stored, or of memory that this object owns. Training copies them into model/parameters.h.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "tensor/matrix.h"

namespace retort::formats {
class GgufFile;
}

namespace retort::model {

struct LayerWeights {
    std::vector<float> attention_norm;                    // (hidden)
    tensor::MatrixView query;                             // (query_size, hidden)
    tensor::MatrixView key;                               // (kv_size, hidden)
    tensor::MatrixView value;                             // (kv_size, hidden)
    tensor::MatrixView output;                            // (hidden, query_size)
    std::vector<float> query_bias, key_bias, value_bias;  // empty without qkv_bias
    std::vector<float> query_norm, key_norm;              // (head_dim), empty without qk_norm
    std::vector<float> mlp_norm;                          // (hidden)
    tensor::MatrixView gate;                              // (intermediate, hidden)
    tensor::MatrixView up;                                // (intermediate, hidden)
    tensor::MatrixView down;                              // (hidden, intermediate)
};

// Rotary layout is Hugging Face's (a head's two halves are a pair) for every source: GGUF files of
// architecture "llama" store query and key rows interleaved, and loading undoes that by permuting whole rows.
struct Weights {
    ModelConfig config;
    tensor::MatrixView embedding;  // (vocab, hidden)
    std::vector<LayerWeights> layers;
    std::vector<float> final_norm;                    // (hidden)
    tensor::MatrixView head;                          // (vocab, hidden); the embedding's view when tied
    std::vector<std::shared_ptr<const void>> owners;  // keeps mapped files and permuted copies alive
    std::vector<std::span<const std::byte>> mapped;   // what is read from a file, not from memory of its own
    std::int64_t bytes = 0;                           // of all matrices
};

// A GGUF file, a safetensors file with config.json beside it, or a Hugging Face folder (sharded or not).
Result<Weights> load_weights(const std::filesystem::path& path);
// The same from a GGUF file that is open already.
Result<Weights> load_weights(const formats::GgufFile& file);

// Gives back the memory of a matrix that was copied elsewhere, if a file holds it (base::forget_pages).
void forget_matrix(const Weights& weights, const tensor::MatrixView& matrix);

// The same weights, every matrix as f32 in memory: the reference that direct use of quantised blocks is held
// to.
Weights dequantised(const Weights& weights);

}  // namespace retort::model
