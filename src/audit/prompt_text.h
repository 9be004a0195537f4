// A question as a model's own template writes it, ready for the answer. Private to this part.
#pragma once

#include "audit/suspect.h"
#include "text/text_model.h"

namespace retort::audit {

struct WrittenPrompt {
    std::string text;
    bool is_rendered = false;  // by the template, which writes its own BOS
};
Result<WrittenPrompt> write_prompt(const text::TextModel& model, const Question& question);
std::vector<std::int32_t> encode_prompt(const text::TextModel& model, const WrittenPrompt& prompt);
// Plain text in the middle of a conversation: no BOS, and marks of turns are characters.
std::vector<std::int32_t> encode_plain(const text::Tokenizer& tokenizer, std::string_view text);

}  // namespace retort::audit
