// A chat as the text that a model was trained on, by the model's own template. docs/formats/chat_template.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/jinja.h"
#include "text/tokenizer.h"

namespace retort::text {

struct Message {
    std::string role;
    std::string content;
    std::string reasoning_content = {};           // left out when empty
    nlohmann::ordered_json tool_calls = nullptr;  // left out when null
    std::string name = {};                        // left out when empty
    std::string tool_call_id = {};                // left out when empty
};

nlohmann::ordered_json to_json(const std::vector<Message>& messages);

struct ChatTemplateOptions {
    bool add_generation_prompt = true;
    nlohmann::ordered_json tools = nullptr;  // an array of tools as the OpenAI API has them
    nlohmann::ordered_json documents = nullptr;
    // Further variables, such as {"enable_thinking": false}.
    nlohmann::ordered_json variables = nlohmann::ordered_json::object();
};

class ChatTemplate {
  public:
    ChatTemplate() = default;
    // The special tokens that are there become bos_token, eos_token, unk_token and pad_token.
    static Result<ChatTemplate> parse(std::string source, const SpecialTokenText& special_tokens);

    [[nodiscard]] bool empty() const { return source_.empty(); }
    [[nodiscard]] const std::string& source() const { return source_; }

    // `messages` is an array of objects. Conversations that the template itself refuses (raise_exception) are
    // ErrorCode::invalid_argument with its words.
    [[nodiscard]] Result<std::string> render(const nlohmann::ordered_json& messages,
                                             const ChatTemplateOptions& options = {}) const;
    [[nodiscard]] Result<std::string> render(const std::vector<Message>& messages,
                                             const ChatTemplateOptions& options = {}) const;

  private:
    std::string source_;
    SpecialTokenText special_tokens_;
    jinja::Template template_;
};

}  // namespace retort::text
