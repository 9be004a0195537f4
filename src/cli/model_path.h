// From what a person types for a model to the path that model::load_weights and text::load_text_model read.
#pragma once

#include <filesystem>
#include <string_view>

#include "base/result.h"

namespace retort::cli {

// A GGUF or safetensors file, a Hugging Face folder, a folder that holds one GGUF file, or the name of a
// folder under models/ (where `pull` puts things).
Result<std::filesystem::path> resolve_model(std::string_view path_or_name);

// The short name for display and for the API: "models/smollm2" and "smollm2.gguf" are both "smollm2".
std::string model_display_name(const std::filesystem::path& path);

}  // namespace retort::cli
