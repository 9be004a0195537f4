// Everything about a model that is text: its tokenizer and its chat template, from a GGUF file or a Hugging
// Face folder. Knows nothing of weights.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace retort::text {

struct TextModel {
    Tokenizer tokenizer;
    ChatTemplate chat_template;                    // empty() when the model has none
    std::vector<std::int32_t> end_of_turn_tokens;  // eos, and the template's own turn end where it differs
};

Result<TextModel> load_text_model(const std::filesystem::path& path);

}  // namespace retort::text
