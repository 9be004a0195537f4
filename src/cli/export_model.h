// One model written in another form: shared by `export` and `run`.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace retort::cli {

// format: gguf (output is a file) or folder (Hugging Face). type: f32, f16, bf16, and for gguf q8_0, q4_0,
// q4_1.
Status export_model(const std::filesystem::path& model, const std::string& format, const std::string& type,
                    const std::filesystem::path& output, const std::string& name, const std::string& licence);

}  // namespace retort::cli
