// Everything about a model that is text: its tokenizer and its chat template, from a GGUF file or a Hugging
// Face folder. Knows nothing of weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace retort::text {

struct TextModel {
    Tokenizer tokenizer;
    ChatTemplate chat_template;                    // empty() when the model has none
    std::vector<std::int32_t> end_of_turn_tokens;  // eos, and the template's own turn end where it differs
};

// A GGUF file, a Hugging Face folder, or a file in one (model.safetensors, say).
Result<TextModel> load_text_model(const std::filesystem::path& path);
// The same from a file that is open already.
Result<TextModel> text_model_from_gguf(const formats::GgufFile& file);

// Text files of a Hugging Face folder: tokenizer.json, tokenizer_config.json and chat_template.jinja.
Status write_text_files(const TextModel& model, const std::filesystem::path& folder);

}  // namespace retort::text
