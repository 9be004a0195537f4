// A trained model as a folder that others load: config.json, model.safetensors, and the tokenizer's files,
// which come from the model it was trained from.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "model/parameters.h"
#include "tensor/dtype.h"
#include "text/text_model.h"

namespace retort::train {

// A Hugging Face folder, each file whole or not at all, model.safetensors last.
Status save_model_folder(const std::filesystem::path& folder, const model::Parameters& parameters,
                         const text::TextModel& text, tensor::DType dtype);

// A GGUF file with the tokenizer and chat template in it.
Status save_model_gguf(const std::filesystem::path& path, const model::Parameters& parameters,
                       const text::TextModel& text, tensor::DType dtype, const std::string& name,
                       const std::string& licence);

}  // namespace retort::train
