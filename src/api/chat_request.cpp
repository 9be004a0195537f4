#include "api/chat_request.h"

#include "api/fields.h"

namespace retort::api {

namespace {

using nlohmann::json;

// A string, or a list of text parts.
ApiResult<void> read_content(const json& value, const std::string& param, std::string& out) {
    if (value.is_string()) {
        out = value.get<std::string>();
        return {};
    }
    if (!value.is_array()) return wrong_type(param, "a string or an array of text parts", value);
    for (std::size_t i = 0; i < value.size(); ++i) {
        const json& part = value[i];
        const std::string at = fmt::format("{}[{}]", param, i);
        if (part.is_string()) {
            out += part.get_ref<const std::string&>();
            continue;
        }
        if (!part.is_object()) return wrong_type(at, "an object", part);
        std::string type;
        RETORT_CHECK(read_string(part, "type", at + ".type", type));
        if (type != "text") {
            return tl::make_unexpected(unsupported_parameter(
                at + ".type", fmt::format("Parts of type '{}' are not supported; only 'text' is.", type)));
        }
        const json* text = member(part, "text");
        if (text == nullptr) return bad_value(at + ".text", "it is missing");
        if (!text->is_string()) return wrong_type(at + ".text", "a string", *text);
        out += text->get_ref<const std::string&>();
    }
    return {};
}

ApiResult<ChatMessage> read_message(const json& value, std::size_t index) {
    const std::string at = fmt::format("messages[{}]", index);
    if (!value.is_object()) return wrong_type(at, "an object", value);
    ChatMessage message;
    RETORT_CHECK(read_string(value, "role", at + ".role", message.role));
    if (message.role != "system" && message.role != "developer" && message.role != "user" &&
        message.role != "assistant" && message.role != "tool") {
        return bad_value(at + ".role", message.role.empty()
                                           ? "it is missing"
                                           : "it is none of system, developer, user, assistant, tool");
    }
    if (const json* calls = member(value, "tool_calls")) {
        if (!calls->is_array()) return wrong_type(at + ".tool_calls", "an array", *calls);
        if (!calls->empty()) message.tool_calls_json = dump_json(*calls);
    }
    if (const json* content = member(value, "content")) {
        RETORT_CHECK(read_content(*content, at + ".content", message.content));
    } else if (message.role != "assistant") {  // an assistant's turn may be tool calls alone
        return bad_value(at + ".content", "it is missing");
    }
    RETORT_CHECK(
        read_string(value, "reasoning_content", at + ".reasoning_content", message.reasoning_content));
    RETORT_CHECK(read_string(value, "name", at + ".name", message.name));
    RETORT_CHECK(read_string(value, "tool_call_id", at + ".tool_call_id", message.tool_call_id));
    return message;
}

}  // namespace

ApiResult<ChatRequest> parse_chat_request(std::string_view body) {
    RETORT_TRY(const json object, read_body(body));
    ChatRequest request;
    RETORT_TRY(request.model, read_model(object));
    const json* messages = member(object, "messages");
    if (messages == nullptr) return bad_value("messages", "it is missing");
    if (!messages->is_array()) return wrong_type("messages", "an array of objects", *messages);
    if (messages->empty()) return bad_value("messages", "the list is empty");
    for (std::size_t i = 0; i < messages->size(); ++i) {
        RETORT_TRY(auto message, read_message((*messages)[i], i));
        request.messages.push_back(std::move(message));
    }
    RETORT_CHECK(read_sampling(object, request.sampling));
    RETORT_CHECK(read_boolean(object, "logprobs", request.logprobs));
    std::optional<std::int64_t> top_logprobs;
    RETORT_CHECK(read_integer(object, "top_logprobs", 0, 20, top_logprobs));
    if (top_logprobs && !request.logprobs) {
        return bad_value("top_logprobs", "it is only allowed when 'logprobs' is true");
    }
    request.top_logprobs = top_logprobs.value_or(0);
    RETORT_CHECK(read_stream(object, request.stream, request.include_usage));
    RETORT_CHECK(read_shape(object, body, request));
    RETORT_CHECK(refuse(object, {"functions", "function_call", "audio", "web_search_options"}));
    RETORT_CHECK(read_string(object, "reasoning_effort", "reasoning_effort", request.reasoning_effort));
    RETORT_CHECK(read_string(object, "user", "user", request.user));
    if (const json* options = member(object, "chat_template_kwargs")) {
        if (!options->is_object()) return wrong_type("chat_template_kwargs", "an object", *options);
        if (const json* thinking = member(*options, "enable_thinking")) {
            if (!thinking->is_boolean()) {
                return wrong_type("chat_template_kwargs.enable_thinking", "a boolean", *thinking);
            }
            request.enable_thinking = thinking->get<bool>();
        }
    }
    return request;
}

std::string write_chat_request(const ChatRequest& request, MaxTokensField field) {
    using nlohmann::ordered_json;
    ordered_json out;
    out["model"] = request.model;
    out["messages"] = ordered_json::array();
    for (const ChatMessage& message : request.messages) {
        ordered_json entry;
        entry["role"] = message.role;
        entry["content"] = message.content;
        if (!message.reasoning_content.empty()) entry["reasoning_content"] = message.reasoning_content;
        if (!message.name.empty()) entry["name"] = message.name;
        if (!message.tool_call_id.empty()) entry["tool_call_id"] = message.tool_call_id;
        if (!message.tool_calls_json.empty()) {
            entry["tool_calls"] = ordered_json::parse(message.tool_calls_json, nullptr, false);
        }
        out["messages"].push_back(std::move(entry));
    }
    const SamplingFields& sampling = request.sampling;
    const auto put = [&](const char* name, const auto& value) {
        if (value) out[name] = *value;
    };
    put(field == MaxTokensField::max_tokens ? "max_tokens" : "max_completion_tokens", sampling.max_tokens);
    put("temperature", sampling.temperature);
    put("top_p", sampling.top_p);
    put("top_k", sampling.top_k);
    put("min_p", sampling.min_p);
    put("repetition_penalty", sampling.repetition_penalty);
    put("frequency_penalty", sampling.frequency_penalty);
    put("presence_penalty", sampling.presence_penalty);
    if (!sampling.logit_bias.empty()) {
        for (const auto& [token, bias] : sampling.logit_bias) out["logit_bias"][std::to_string(token)] = bias;
    }
    if (!sampling.stop.empty()) out["stop"] = sampling.stop;
    put("seed", sampling.seed);
    if (sampling.n != 1) out["n"] = sampling.n;
    if (request.logprobs) {
        out["logprobs"] = true;
        if (request.top_logprobs > 0) out["top_logprobs"] = request.top_logprobs;
    }
    if (request.stream) {
        out["stream"] = true;
        if (request.include_usage) out["stream_options"]["include_usage"] = true;
    }
    if (!request.tools_json.empty()) out["tools"] = ordered_json::parse(request.tools_json, nullptr, false);
    using Choice = ToolChoice::Kind;
    if (request.tool_choice.kind == Choice::none) out["tool_choice"] = "none";
    if (request.tool_choice.kind == Choice::required) out["tool_choice"] = "required";
    if (request.tool_choice.kind == Choice::function) {
        out["tool_choice"] = {{"type", "function"}, {"function", {{"name", request.tool_choice.function}}}};
    }
    if (!request.parallel_tool_calls) out["parallel_tool_calls"] = false;
    if (request.response_format.kind == ResponseFormat::Kind::json_object) {
        out["response_format"]["type"] = "json_object";
    } else if (request.response_format.kind == ResponseFormat::Kind::json_schema) {
        out["response_format"]["type"] = "json_schema";
        out["response_format"]["json_schema"] = {
            {"name", "answer"},
            {"schema", ordered_json::parse(request.response_format.schema_json, nullptr, false)}};
    }
    if (!request.reasoning_effort.empty()) out["reasoning_effort"] = request.reasoning_effort;
    if (request.enable_thinking) {
        out["chat_template_kwargs"]["enable_thinking"] = *request.enable_thinking;
    }
    if (!request.user.empty()) out["user"] = request.user;
    return dump_json(out);
}

}  // namespace retort::api
