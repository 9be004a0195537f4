#include "cli/conversation.h"

namespace retort::cli {

Result<generate::TextRequest> conversation_request(const LoadedModel& model,
                                                   std::span<const data::Message> messages) {
    api::ChatRequest chat;
    for (const data::Message& message : messages) {
        api::ChatMessage one;
        one.role = message.role;
        one.content = message.content;
        chat.messages.push_back(std::move(one));
    }
    RETORT_TRY(const std::string prompt, render_conversation(model.text, chat));
    generate::TextRequest request;
    // The template writes the special tokens itself, BOS included.
    request.tokens.prompt =
        model.text.tokenizer.encode(prompt, {.add_special_tokens = false, .parse_special = true});
    request.tokens.stop_tokens = model.text.end_of_turn_tokens;
    return request;
}

}  // namespace retort::cli
