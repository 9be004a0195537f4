// Tool calls in a model's text, by the conventions of chat templates: found as the text comes, and taken out
// of it. Knows no wire format and no engine.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace retort::serve {

enum class ToolStyle {
    none,        // the template renders no tools
    unknown,     // it does, in a way of its own: calls stay text
    hermes,      // <tool_call>{"name": …, "arguments": {…}}</tool_call>: Hermes, Qwen, SmolLM3
    llama3,      // the whole answer is {"name": …, "parameters": {…}}, after <|python_tag|> or not
    mistral,     // [TOOL_CALLS] [{"name": …, "arguments": {…}}, …]
    mistral_v11  // [TOOL_CALLS]name[ARGS]{…}, again and again
};

ToolStyle tool_style_of(std::string_view chat_template);
// Special tokens of the style that must be kept as text.
std::vector<std::string> tool_marks(ToolStyle style);

struct ToolCall {
    std::string id;
    std::string name;
    std::string arguments;  // JSON
};

class ToolCallParser {
  public:
    explicit ToolCallParser(ToolStyle style) : style_(style) {}

    struct Parts {
        std::string content;
        std::vector<ToolCall> calls;
    };
    // What has become certain. What only looked like a call stays content.
    Parts push(std::string_view text);
    Parts finish();

  private:
    void step(Parts& parts, bool last);
    void give_text(Parts& parts, std::size_t end);
    void step_hermes(Parts& parts, bool last);
    void step_llama3(Parts& parts, bool last);
    void step_mistral(Parts& parts, bool last);
    [[nodiscard]] ToolCall call(std::string name, std::string arguments) const;
    bool add_call(Parts& parts, std::string_view json) const;

    ToolStyle style_;
    std::string held_;
    bool after_call_ = false;
    bool decided_ = false;  // llama3: the answer is plain text
};

}  // namespace retort::serve
