#include "text/chat_template.h"

#include <utility>

namespace retort::text {
namespace {

using Json = nlohmann::ordered_json;

// The names under which clients send a message's reasoning; templates read the first.
Json with_reasoning_names(const Json& message) {
    for (const char* key : {"reasoning_content", "thinking", "reasoning"}) {
        const auto found = message.find(key);
        if (found == message.end() || found->is_null()) continue;
        Json result = Json::object();
        if (!message.contains("thinking")) result["thinking"] = *found;
        for (const auto& [name, value] : message.items()) result[name] = value;
        result["reasoning_content"] = *found;
        return result;
    }
    return message;
}

}  // namespace

Json to_json(const std::vector<Message>& messages) {
    Json result = Json::array();
    for (const Message& message : messages) {
        Json& json = result.emplace_back(Json::object());
        json["role"] = message.role;
        json["content"] = message.content;
        if (!message.reasoning_content.empty()) json["reasoning_content"] = message.reasoning_content;
        if (!message.tool_calls.is_null()) json["tool_calls"] = message.tool_calls;
        if (!message.name.empty()) json["name"] = message.name;
        if (!message.tool_call_id.empty()) json["tool_call_id"] = message.tool_call_id;
    }
    return result;
}

Result<ChatTemplate> ChatTemplate::parse(std::string source, const SpecialTokenText& special_tokens) {
    ChatTemplate result;
    auto parsed = jinja::Template::parse(source);
    if (!parsed) return fail_from(std::move(parsed.error()), "chat template");
    result.template_ = std::move(*parsed);
    result.source_ = std::move(source);
    result.special_tokens_ = special_tokens;
    return result;
}

Result<std::string> ChatTemplate::render(const Json& messages, const ChatTemplateOptions& options) const {
    if (empty()) return fail(ErrorCode::unsupported, "the model has no chat template");
    if (!messages.is_array()) return fail(ErrorCode::invalid_argument, "messages must be an array");
    Json prepared = Json::array();
    for (const Json& message : messages) {
        if (!message.is_object())
            return fail(ErrorCode::invalid_argument, "a message must be an object, not {}",
                        message.type_name());
        prepared.push_back(with_reasoning_names(message));
    }
    // Later names win: what the caller gives goes before what the tokenizer has.
    Json variables = Json::object();
    const auto put = [&](const char* name, const std::string& text) {
        if (!text.empty()) variables[name] = text;
    };
    put("bos_token", special_tokens_.bos);
    put("eos_token", special_tokens_.eos);
    put("unk_token", special_tokens_.unknown);
    put("pad_token", special_tokens_.padding);
    if (options.variables.is_object()) variables.update(options.variables);
    variables["messages"] = std::move(prepared);
    variables["tools"] = options.tools;
    variables["documents"] = options.documents;
    variables["add_generation_prompt"] = options.add_generation_prompt;
    jinja::Variables list;
    for (auto& [name, value] : variables.items()) list.emplace_back(name, std::move(value));
    auto text = template_.render(list);
    if (!text) return fail_from(std::move(text.error()), "chat template");
    return text;
}

Result<std::string> ChatTemplate::render(const std::vector<Message>& messages,
                                         const ChatTemplateOptions& options) const {
    return render(to_json(messages), options);
}

}  // namespace retort::text
