// The client's half of chat_response.h. Servers differ in what they leave out, so what is absent or null is
// taken as empty; what is there with the wrong type is an error that names it.
#include <algorithm>
#include <cmath>

#include "api/chat_response.h"
#include "api/json.h"

namespace retort::api {

namespace {

using nlohmann::json;

tl::unexpected<base::Error> wrong(const char* name, const json& got) {
    return fail(ErrorCode::format, "the answer's {} is {}", name, kind_of(got));
}

Status read_text(const json& object, const char* name, std::string& out) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_string()) return wrong(name, *value);
    out = value->get_ref<const std::string&>();
    return {};
}

Status read_text(const json& object, const char* name, std::optional<std::string>& out) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_string()) return wrong(name, *value);
    out = value->get<std::string>();
    return {};
}

// Some servers write counts and times as 1.0.
Status read_count(const json& object, const char* name, std::int64_t& out) {
    const json* value = member(object, name);
    if (value == nullptr) return {};
    if (!value->is_number()) return wrong(name, *value);
    constexpr double limit = 9e15;
    const double number = value->get<double>();
    if (!(std::abs(number) < limit)) return fail(ErrorCode::format, "the answer's {} is out of range", name);
    out = value->is_number_float() ? static_cast<std::int64_t>(number) : value->get<std::int64_t>();
    return {};
}

Result<std::optional<Usage>> read_usage(const json& object) {
    const json* value = member(object, "usage");
    if (value == nullptr) return std::optional<Usage>{};
    if (!value->is_object()) return wrong("usage", *value);
    Usage usage;
    RETORT_CHECK(read_count(*value, "prompt_tokens", usage.prompt_tokens));
    RETORT_CHECK(read_count(*value, "completion_tokens", usage.completion_tokens));
    if (const json* details = member(*value, "prompt_tokens_details")) {
        RETORT_CHECK(read_count(*details, "cached_tokens", usage.cached_tokens));
    }
    if (const json* details = member(*value, "completion_tokens_details")) {
        RETORT_CHECK(read_count(*details, "reasoning_tokens", usage.reasoning_tokens));
    }
    return usage;
}

Status read_entry(const json& value, LogprobEntry& out) {
    if (!value.is_object()) return wrong("logprobs entry", value);
    RETORT_CHECK(read_text(value, "token", out.token));
    const json* logprob = member(value, "logprob");
    if (logprob == nullptr || !logprob->is_number()) {
        return fail(ErrorCode::format, "an entry of the answer's logprobs has no logprob");
    }
    out.logprob = logprob->get<double>();
    const json* bytes = member(value, "bytes");
    if (bytes == nullptr) return {};
    if (!bytes->is_array()) return wrong("logprobs bytes", *bytes);
    out.bytes.emplace();
    for (const json& byte : *bytes) {
        if (!byte.is_number_unsigned() || byte.get<std::uint64_t>() > 255)
            return wrong("logprobs byte", byte);
        out.bytes->push_back(static_cast<std::uint8_t>(byte.get<unsigned>()));
    }
    return {};
}

Result<std::optional<std::vector<TokenLogprobs>>> read_logprobs(const json& choice) {
    std::optional<std::vector<TokenLogprobs>> out;
    const json* value = member(choice, "logprobs");
    if (value == nullptr) return out;
    if (!value->is_object()) return wrong("logprobs", *value);
    const json* content = member(*value, "content");
    if (content == nullptr) return out;
    if (!content->is_array()) return wrong("logprobs.content", *content);
    out.emplace();
    for (const json& entry : *content) {
        TokenLogprobs token;
        RETORT_CHECK(read_entry(entry, token));
        if (const json* top = member(entry, "top_logprobs")) {
            if (!top->is_array()) return wrong("top_logprobs", *top);
            for (const json& alternative : *top)
                RETORT_CHECK(read_entry(alternative, token.top.emplace_back()));
        }
        out->push_back(std::move(token));
    }
    return out;
}

// What vLLM, SGLang and DeepSeek call reasoning_content, OpenRouter and newer vLLM call reasoning.
Status read_reasoning(const json& message, std::optional<std::string>& out) {
    RETORT_CHECK(read_text(message, "reasoning_content", out));
    const json* reasoning = member(message, "reasoning");
    if (!out && reasoning != nullptr && reasoning->is_string()) out = reasoning->get<std::string>();
    return {};
}

Result<const json*> read_choices(const json& object) {
    const json* choices = member(object, "choices");
    if (choices == nullptr) return fail(ErrorCode::format, "the answer has no choices");
    if (!choices->is_array()) return wrong("choices", *choices);
    return choices;
}

Result<json> read_object(std::string_view text) {
    RETORT_TRY(json object, parse_json(text));
    if (!object.is_object()) return wrong("body", object);
    return object;
}

template <typename Answer>
Status read_head(const json& object, Answer& out) {
    RETORT_CHECK(read_text(object, "id", out.id));
    RETORT_CHECK(read_count(object, "created", out.created));
    RETORT_CHECK(read_text(object, "model", out.model));
    RETORT_CHECK(read_text(object, "system_fingerprint", out.system_fingerprint));
    RETORT_TRY(out.usage, read_usage(object));
    return {};
}

}  // namespace

Result<ChatResponse> parse_chat_response(std::string_view body) {
    RETORT_TRY(const json object, read_object(body));
    ChatResponse response;
    RETORT_CHECK(read_head(object, response));
    RETORT_TRY(const json* choices, read_choices(object));
    for (const json& entry : *choices) {
        ChatChoice choice;
        RETORT_CHECK(read_count(entry, "index", choice.index));
        RETORT_CHECK(read_text(entry, "finish_reason", choice.finish_reason));
        RETORT_TRY(choice.logprobs, read_logprobs(entry));
        const json* message = member(entry, "message");
        if (message == nullptr || !message->is_object()) {
            return fail(ErrorCode::format, "a choice of the answer has no message");
        }
        RETORT_CHECK(read_text(*message, "role", choice.role));
        RETORT_CHECK(read_text(*message, "content", choice.content));
        RETORT_CHECK(read_text(*message, "refusal", choice.refusal));
        RETORT_CHECK(read_reasoning(*message, choice.reasoning_content));
        const json* calls = member(*message, "tool_calls");
        if (calls != nullptr && !calls->empty()) choice.tool_calls_json = dump_json(*calls);
        response.choices.push_back(std::move(choice));
    }
    return response;
}

Result<ChatChunk> parse_chat_chunk(std::string_view data) {
    RETORT_TRY(const json object, read_object(data));
    ChatChunk chunk;
    if (member(object, "error") != nullptr) {
        chunk.error = parse_error(0, data);
        return chunk;
    }
    RETORT_CHECK(read_head(object, chunk));
    RETORT_TRY(const json* choices, read_choices(object));
    for (const json& entry : *choices) {
        ChunkChoice choice;
        RETORT_CHECK(read_count(entry, "index", choice.index));
        RETORT_CHECK(read_text(entry, "finish_reason", choice.finish_reason));
        RETORT_TRY(choice.logprobs, read_logprobs(entry));
        if (const json* delta = member(entry, "delta")) {
            RETORT_CHECK(read_text(*delta, "role", choice.role));
            RETORT_CHECK(read_text(*delta, "content", choice.content));
            RETORT_CHECK(read_text(*delta, "refusal", choice.refusal));
            RETORT_CHECK(read_reasoning(*delta, choice.reasoning_content));
        }
        chunk.choices.push_back(std::move(choice));
    }
    return chunk;
}

Result<std::vector<ModelCard>> parse_models(std::string_view body) {
    RETORT_TRY(const json object, read_object(body));
    const json* data = member(object, "data");
    if (data == nullptr || !data->is_array())
        return fail(ErrorCode::format, "the list of models has no data");
    std::vector<ModelCard> models;
    for (const json& entry : *data) {
        ModelCard model;
        RETORT_CHECK(read_text(entry, "id", model.id));
        RETORT_CHECK(read_count(entry, "created", model.created));
        RETORT_CHECK(read_text(entry, "owned_by", model.owned_by));
        RETORT_CHECK(read_count(entry, "max_model_len", model.max_model_len));
        models.push_back(std::move(model));
    }
    return models;
}

}  // namespace retort::api
