// Writing a model for others to run: a Hugging Face folder, or a GGUF file. Takes the weights as f32 by their
// Hugging Face names; what a tokenizer's metadata mean is the text part's to know.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"
#include "model/config.h"
#include "model/parameters.h"
#include "tensor/dtype.h"

namespace retort::model {

struct NamedTensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::span<const float> values;
};

struct FolderOptions {
    tensor::DType dtype = tensor::DType::bf16;  // f32, f16 or bf16
    std::uint64_t shard_bytes = 5'000'000'000;  // a larger model is written in several files with an index
};

// config.json and model.safetensors. `tensors` are exactly those of the config; a tied head may be among them
// and is left out.
Status save_safetensors_folder(const std::filesystem::path& folder, const ModelConfig& config,
                               std::span<const NamedTensor> tensors, const FolderOptions& options = {});

struct GgufOptions {
    tensor::DType dtype = tensor::DType::f16;  // f32, f16, bf16, q8_0, q4_0 or q4_1
    std::string name;                          // general.name
    std::string licence;                       // general.license, an SPDX identifier
    formats::GgufMetadata tokenizer;           // "tokenizer.…" keys, written as they are
};

// Matrices in options.dtype: rows that do not fill its blocks in f16, embedding and head in q8_0 where it is
// q4_0 or q4_1; norms and biases in f32. A vocabulary longer than the tokenizer's is filled up with unused
// tokens.
Status save_gguf(const std::filesystem::path& path, const ModelConfig& config,
                 std::span<const NamedTensor> tensors, const GgufOptions& options);

// Every tensor of trained parameters, as views that live as long as they do.
std::vector<NamedTensor> named_tensors(const Parameters& parameters);

}  // namespace retort::model
