#include "api/chat_request.h"

#include <charconv>
#include <cmath>

#include "api/json.h"

namespace retort::api {

namespace {

using nlohmann::json;

tl::unexpected<ApiError> wrong_type(const std::string& param, std::string_view expected, const json& got) {
    return tl::make_unexpected(
        invalid_value(param, fmt::format("Invalid type for '{}': expected {}, but got {} instead.", param,
                                         expected, kind_of(got))));
}

tl::unexpected<ApiError> bad_value(const std::string& param, std::string_view message) {
    return tl::make_unexpected(
        invalid_value(param, fmt::format("Invalid value for '{}': {}.", param, message)));
}

ApiResult<void> read_number(const json& object, const char* name, double low, double high,
                            std::optional<double>& out) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_number()) return wrong_type(name, "a number", *value);
    const double number = value->get<double>();
    if (!(number >= low && number <= high)) {
        return bad_value(name, fmt::format("{} is not in {}–{}", number, low, high));
    }
    out = number;
    return {};
}

ApiResult<void> read_integer(const json& object, const char* name, std::int64_t low, std::int64_t high,
                             std::optional<std::int64_t>& out) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_number_integer()) return wrong_type(name, "an integer", *value);
    const bool above = value->is_number_unsigned() && value->get<std::uint64_t>() > std::uint64_t{INT64_MAX};
    const std::int64_t number = above ? INT64_MAX : value->get<std::int64_t>();
    if (number < low || number > high) {
        const std::string shown = dump_json(*value);
        return high == INT64_MAX ? bad_value(name, fmt::format("{} is less than {}", shown, low))
                                 : bad_value(name, fmt::format("{} is not in {}–{}", shown, low, high));
    }
    out = number;
    return {};
}

ApiResult<void> read_boolean(const json& object, const char* name, bool& out) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_boolean()) return wrong_type(name, "a boolean", *value);
    out = value->get<bool>();
    return {};
}

ApiResult<void> read_string(const json& object, const char* name, const std::string& param,
                            std::string& out) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_string()) return wrong_type(param, "a string", *value);
    out = value->get_ref<const std::string&>();
    return {};
}

ApiResult<void> read_stop(const json& object, std::vector<std::string>& out) {
    const json* value = member(object, "stop");
    if (value == nullptr) return {};
    constexpr std::size_t max_stops = 4;
    constexpr std::size_t max_stop_length = 1024;
    if (value->is_string()) {
        out.push_back(value->get<std::string>());
    } else if (value->is_array()) {
        if (value->size() > max_stops) return bad_value("stop", "more than 4 stop strings");
        for (const json& entry : *value) {
            if (!entry.is_string()) return wrong_type("stop", "a string or an array of strings", entry);
            out.push_back(entry.get<std::string>());
        }
    } else {
        return wrong_type("stop", "a string or an array of strings", *value);
    }
    for (const std::string& entry : out) {
        if (entry.empty()) return bad_value("stop", "a stop string is empty");
        if (entry.size() > max_stop_length)
            return bad_value("stop", "a stop string is longer than 1024 bytes");
    }
    return {};
}

ApiResult<void> read_logit_bias(const json& object, std::vector<std::pair<std::int32_t, double>>& out) {
    const json* value = member(object, "logit_bias");
    if (value == nullptr) return {};
    if (!value->is_object()) return wrong_type("logit_bias", "an object of biases by token id", *value);
    constexpr std::size_t max_biases = 4096;
    if (value->size() > max_biases) return bad_value("logit_bias", "more than 4096 entries");
    for (const auto& [key, bias] : value->items()) {
        std::int32_t token = 0;
        const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
        if (error != std::errc{} || end != key.data() + key.size() || token < 0) {
            return bad_value("logit_bias", "a key is not a token id");
        }
        if (!bias.is_number()) return wrong_type("logit_bias", "a number for each token id", bias);
        const double number = bias.get<double>();
        if (!(number >= -100 && number <= 100)) {
            return bad_value("logit_bias", fmt::format("{} is not in -100–100", number));
        }
        out.emplace_back(token, number);
    }
    return {};
}

ApiResult<void> read_sampling(const json& object, SamplingFields& out) {
    constexpr std::int64_t max_choices = 128;
    RETORT_CHECK(read_integer(object, "max_tokens", 1, INT64_MAX, out.max_tokens));
    RETORT_CHECK(read_integer(object, "max_completion_tokens", 1, INT64_MAX, out.max_tokens));
    RETORT_CHECK(read_number(object, "temperature", 0, 2, out.temperature));
    RETORT_CHECK(read_number(object, "top_p", 0, 1, out.top_p));
    RETORT_CHECK(read_integer(object, "top_k", -1, INT32_MAX, out.top_k));
    RETORT_CHECK(read_number(object, "min_p", 0, 1, out.min_p));
    RETORT_CHECK(read_number(object, "repetition_penalty", 0.01, 10, out.repetition_penalty));
    RETORT_CHECK(read_number(object, "frequency_penalty", -2, 2, out.frequency_penalty));
    RETORT_CHECK(read_number(object, "presence_penalty", -2, 2, out.presence_penalty));
    RETORT_CHECK(read_logit_bias(object, out.logit_bias));
    RETORT_CHECK(read_stop(object, out.stop));
    RETORT_CHECK(read_integer(object, "seed", INT64_MIN, INT64_MAX, out.seed));
    std::optional<std::int64_t> n;
    RETORT_CHECK(read_integer(object, "n", 1, max_choices, n));
    out.n = n.value_or(1);
    return {};
}

ApiResult<void> read_stream(const json& object, bool& stream, bool& include_usage) {
    RETORT_CHECK(read_boolean(object, "stream", stream));
    const json* options = member(object, "stream_options");
    if (options == nullptr) return {};
    if (!options->is_object()) return wrong_type("stream_options", "an object", *options);
    if (!stream) return bad_value("stream_options", "it is only allowed when 'stream' is true");
    return read_boolean(*options, "include_usage", include_usage);
}

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

ApiResult<json> read_body(std::string_view body) {
    Result<json> parsed = parse_json(body);
    if (!parsed) {
        ApiError error = invalid_value("", fmt::format("The request's body is {}.", parsed.error().message));
        error.param.reset();
        return tl::make_unexpected(std::move(error));
    }
    if (!parsed->is_object()) {
        ApiError error =
            invalid_value("", fmt::format("The request's body is {}, not an object.", kind_of(*parsed)));
        error.param.reset();
        return tl::make_unexpected(std::move(error));
    }
    return std::move(*parsed);
}

ApiResult<std::string> read_model(const json& object) {
    const json* model = member(object, "model");
    if (model == nullptr) {
        return tl::make_unexpected(invalid_value("model", "You must provide a 'model' parameter."));
    }
    if (!model->is_string()) return wrong_type("model", "a string", *model);
    return model->get<std::string>();
}

ApiResult<void> refuse_response_format(const json& object) {
    const json* format = member(object, "response_format");
    if (format == nullptr) return {};
    if (!format->is_object()) return wrong_type("response_format", "an object", *format);
    std::string type;
    RETORT_CHECK(read_string(*format, "type", "response_format.type", type));
    if (type == "text") return {};
    return tl::make_unexpected(
        unsupported_parameter("response_format", fmt::format("response_format '{}' is not supported by this "
                                                             "server; only 'text' is.",
                                                             type)));
}

ApiResult<std::vector<std::int32_t>> read_tokens(const json& array) {
    std::vector<std::int32_t> tokens;
    for (const json& entry : array) {
        if (!entry.is_number_unsigned() || entry.get<std::uint64_t>() > std::uint64_t{INT32_MAX}) {
            return wrong_type("prompt", "token ids", entry);
        }
        tokens.push_back(entry.get<std::int32_t>());
    }
    return tokens;
}

ApiResult<void> read_prompts(const json& object, std::vector<CompletionRequest::Prompt>& out) {
    constexpr std::size_t max_prompts = 256;
    const json* value = member(object, "prompt");
    if (value == nullptr) return bad_value("prompt", "it is missing");
    if (value->is_string()) {
        out.push_back({value->get<std::string>(), {}, false});
        return {};
    }
    if (!value->is_array() || value->empty()) {
        return wrong_type("prompt", "a string, an array of strings or token ids", *value);
    }
    if (value->front().is_number()) {
        RETORT_TRY(auto tokens, read_tokens(*value));
        out.push_back({{}, std::move(tokens), true});
        return {};
    }
    if (value->size() > max_prompts) return bad_value("prompt", "more than 256 prompts");
    for (const json& entry : *value) {
        if (entry.is_string()) {
            out.push_back({entry.get<std::string>(), {}, false});
        } else if (entry.is_array()) {
            RETORT_TRY(auto tokens, read_tokens(entry));
            out.push_back({{}, std::move(tokens), true});
        } else {
            return wrong_type("prompt", "a string, an array of strings or token ids", entry);
        }
    }
    return {};
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
    RETORT_CHECK(refuse_response_format(object));
    if (const json* tools = member(object, "tools")) {
        if (!tools->is_array()) return wrong_type("tools", "an array", *tools);
        if (!tools->empty()) request.tools_json = dump_json(*tools);
    }
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

ApiResult<CompletionRequest> parse_completion_request(std::string_view body) {
    RETORT_TRY(const json object, read_body(body));
    CompletionRequest request;
    RETORT_TRY(request.model, read_model(object));
    RETORT_CHECK(read_prompts(object, request.prompts));
    RETORT_CHECK(read_sampling(object, request.sampling));
    constexpr std::int64_t default_max_tokens = 16;
    if (!request.sampling.max_tokens) request.sampling.max_tokens = default_max_tokens;
    RETORT_CHECK(read_integer(object, "logprobs", 0, 20, request.logprobs));
    RETORT_CHECK(read_boolean(object, "echo", request.echo));
    RETORT_CHECK(read_stream(object, request.stream, request.include_usage));
    for (const char* name : {"suffix", "best_of"}) {
        const json* value = member(object, name);
        if (value != nullptr && *value != json(1) && *value != json("")) {
            return tl::make_unexpected(
                unsupported_parameter(name, fmt::format("'{}' is not supported by this server.", name)));
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
    if (!request.reasoning_effort.empty()) out["reasoning_effort"] = request.reasoning_effort;
    if (request.enable_thinking) {
        out["chat_template_kwargs"]["enable_thinking"] = *request.enable_thinking;
    }
    if (!request.user.empty()) out["user"] = request.user;
    return dump_json(out);
}

}  // namespace retort::api
