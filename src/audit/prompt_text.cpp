#include "audit/prompt_text.h"

namespace retort::audit {

Result<WrittenPrompt> write_prompt(const text::TextModel& model, const Question& question) {
    if (question.messages.empty()) return WrittenPrompt{question.prompt, false};
    std::vector<text::Message> messages;
    std::string plain;
    for (const formats::Json& message : question.messages) {
        RETORT_TRY(const std::string role, formats::json_string(message, "role"));
        RETORT_TRY(const std::string content, formats::json_string(message, "content", ""));
        messages.push_back({role, content});
        plain += content + "\n";
    }
    if (model.chat_template.empty()) return WrittenPrompt{plain, false};
    RETORT_TRY(std::string rendered, model.chat_template.render(messages));
    return WrittenPrompt{std::move(rendered), true};
}

std::vector<std::int32_t> encode_prompt(const text::TextModel& model, const WrittenPrompt& prompt) {
    text::EncodeOptions options;
    options.add_special_tokens = !prompt.is_rendered;
    return model.tokenizer.encode(prompt.text, options);
}

std::vector<std::int32_t> encode_plain(const text::Tokenizer& tokenizer, std::string_view text) {
    text::EncodeOptions options;
    options.add_special_tokens = false;
    options.parse_special = false;
    return tokenizer.encode(text, options);
}

}  // namespace retort::audit
