#include "api/chat_response.h"

#include <algorithm>
#include <cmath>

#include "api/json.h"

namespace retort::api {

namespace {

using nlohmann::ordered_json;

constexpr double very_unlikely = -9999.0;

ordered_json string_or_null(const std::string& text) {
    return text.empty() ? ordered_json() : ordered_json(text);
}

ordered_json write_entry(const LogprobEntry& entry) {
    ordered_json out;
    out["token"] = entry.token;
    out["logprob"] = std::isfinite(entry.logprob) ? entry.logprob : very_unlikely;
    out["bytes"] = entry.bytes ? ordered_json(*entry.bytes) : ordered_json();
    return out;
}

ordered_json write_logprobs(const std::optional<std::vector<TokenLogprobs>>& logprobs) {
    if (!logprobs) return {};
    ordered_json content = ordered_json::array();
    for (const TokenLogprobs& token : *logprobs) {
        ordered_json entry = write_entry(token);
        entry["top_logprobs"] = ordered_json::array();
        for (const LogprobEntry& alternative : token.top) {
            entry["top_logprobs"].push_back(write_entry(alternative));
        }
        content.push_back(std::move(entry));
    }
    ordered_json out;
    out["content"] = std::move(content);
    out["refusal"] = nullptr;
    return out;
}

std::int64_t count_characters(std::string_view utf8) {
    return std::count_if(utf8.begin(), utf8.end(),
                         [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; });
}

// The older shape, of parallel lists.
ordered_json write_completion_logprobs(const CompletionChoice& choice) {
    if (!choice.logprobs) return {};
    ordered_json out;
    for (const char* name : {"tokens", "token_logprobs", "top_logprobs", "text_offset"}) {
        out[name] = ordered_json::array();
    }
    const auto number = [](double logprob) { return std::isfinite(logprob) ? logprob : very_unlikely; };
    std::int64_t offset = choice.text_offset;
    for (const TokenLogprobs& token : *choice.logprobs) {
        out["tokens"].push_back(token.token);
        out["text_offset"].push_back(offset);
        offset += count_characters(token.token);
        if (token.is_unknown) {
            out["token_logprobs"].push_back(nullptr);
            out["top_logprobs"].push_back(nullptr);
            continue;
        }
        out["token_logprobs"].push_back(number(token.logprob));
        ordered_json top = ordered_json::object();
        // Parts of characters may look alike: the likeliest, which comes first, has the place.
        for (const LogprobEntry& entry : token.top) {
            if (!top.contains(entry.token)) top[entry.token] = number(entry.logprob);
        }
        // The token itself is always among them, as in OpenAI's answers.
        if (!top.contains(token.token)) top[token.token] = number(token.logprob);
        out["top_logprobs"].push_back(std::move(top));
    }
    return out;
}

ordered_json write_usage(const Usage& usage) {
    ordered_json out;
    out["prompt_tokens"] = usage.prompt_tokens;
    out["completion_tokens"] = usage.completion_tokens;
    out["total_tokens"] = usage.total_tokens();
    out["prompt_tokens_details"]["cached_tokens"] = usage.cached_tokens;
    out["completion_tokens_details"]["reasoning_tokens"] = usage.reasoning_tokens;
    return out;
}

ordered_json write_model_json(const ModelCard& model) {
    ordered_json out;
    out["id"] = model.id;
    out["object"] = "model";
    out["created"] = model.created;
    out["owned_by"] = model.owned_by;
    if (model.max_model_len > 0) out["max_model_len"] = model.max_model_len;
    return out;
}

// Id, object, created and model, which every answer begins with.
ordered_json write_head(const std::string& id, const char* object, std::int64_t created,
                        const std::string& model) {
    ordered_json out;
    out["id"] = id;
    out["object"] = object;
    out["created"] = created;
    out["model"] = model;
    return out;
}

}  // namespace

std::string write_tool_calls(const std::vector<FunctionCall>& calls, std::optional<std::int64_t> first) {
    ordered_json out = ordered_json::array();
    for (const FunctionCall& call : calls) {
        ordered_json entry;
        if (first) entry["index"] = *first + static_cast<std::int64_t>(out.size());
        entry["id"] = call.id;
        entry["type"] = "function";
        entry["function"]["name"] = call.name;
        entry["function"]["arguments"] = call.arguments;
        out.push_back(std::move(entry));
    }
    return dump_json(out);
}

std::string write_chat_response(const ChatResponse& response) {
    ordered_json out = write_head(response.id, "chat.completion", response.created, response.model);
    out["choices"] = ordered_json::array();
    for (const ChatChoice& choice : response.choices) {
        ordered_json message;
        message["role"] = choice.role;
        const bool calls_alone = choice.content.empty() && !choice.tool_calls_json.empty();
        message["content"] = calls_alone ? ordered_json() : ordered_json(choice.content);
        if (choice.reasoning_content) message["reasoning_content"] = *choice.reasoning_content;
        if (!choice.tool_calls_json.empty()) {
            message["tool_calls"] = ordered_json::parse(choice.tool_calls_json, nullptr, false);
        }
        message["refusal"] = choice.refusal ? ordered_json(*choice.refusal) : ordered_json();
        ordered_json entry;
        entry["index"] = choice.index;
        entry["message"] = std::move(message);
        entry["logprobs"] = write_logprobs(choice.logprobs);
        entry["finish_reason"] = string_or_null(choice.finish_reason);
        out["choices"].push_back(std::move(entry));
    }
    if (response.usage) out["usage"] = write_usage(*response.usage);
    out["system_fingerprint"] = string_or_null(response.system_fingerprint);
    return dump_json(out);
}

std::string write_chat_chunk(const ChatChunk& chunk, bool usage_field) {
    ordered_json out = write_head(chunk.id, "chat.completion.chunk", chunk.created, chunk.model);
    out["choices"] = ordered_json::array();
    for (const ChunkChoice& choice : chunk.choices) {
        ordered_json delta = ordered_json::object();
        if (choice.role) delta["role"] = *choice.role;
        if (choice.content) delta["content"] = *choice.content;
        if (choice.reasoning_content) delta["reasoning_content"] = *choice.reasoning_content;
        if (!choice.tool_calls_json.empty()) {
            delta["tool_calls"] = ordered_json::parse(choice.tool_calls_json, nullptr, false);
        }
        if (choice.refusal) delta["refusal"] = *choice.refusal;
        ordered_json entry;
        entry["index"] = choice.index;
        entry["delta"] = std::move(delta);
        entry["logprobs"] = write_logprobs(choice.logprobs);
        entry["finish_reason"] = string_or_null(choice.finish_reason);
        out["choices"].push_back(std::move(entry));
    }
    if (usage_field) out["usage"] = chunk.usage ? write_usage(*chunk.usage) : ordered_json();
    out["system_fingerprint"] = string_or_null(chunk.system_fingerprint);
    return dump_json(out);
}

std::string write_completion_response(const CompletionResponse& response, bool usage_field) {
    ordered_json out = write_head(response.id, "text_completion", response.created, response.model);
    out["choices"] = ordered_json::array();
    for (const CompletionChoice& choice : response.choices) {
        ordered_json entry;
        entry["index"] = choice.index;
        entry["text"] = choice.text;
        entry["logprobs"] = write_completion_logprobs(choice);
        entry["finish_reason"] = string_or_null(choice.finish_reason);
        out["choices"].push_back(std::move(entry));
    }
    if (usage_field) out["usage"] = response.usage ? write_usage(*response.usage) : ordered_json();
    out["system_fingerprint"] = string_or_null(response.system_fingerprint);
    return dump_json(out);
}

std::string write_model(const ModelCard& model) {
    return dump_json(write_model_json(model));
}

std::string write_models(const std::vector<ModelCard>& models) {
    ordered_json out;
    out["object"] = "list";
    out["data"] = ordered_json::array();
    for (const ModelCard& model : models) out["data"].push_back(write_model_json(model));
    return dump_json(out);
}

void append_chunk(ChatResponse& response, const ChatChunk& chunk) {
    if (!chunk.id.empty()) response.id = chunk.id;
    if (chunk.created != 0) response.created = chunk.created;
    if (!chunk.model.empty()) response.model = chunk.model;
    if (!chunk.system_fingerprint.empty()) response.system_fingerprint = chunk.system_fingerprint;
    if (chunk.usage) response.usage = chunk.usage;
    for (const ChunkChoice& delta : chunk.choices) {
        ChatChoice* choice = nullptr;
        for (ChatChoice& known : response.choices) {
            if (known.index == delta.index) choice = &known;
        }
        if (choice == nullptr) {
            choice = &response.choices.emplace_back();
            choice->index = delta.index;
        }
        const auto append = [](std::optional<std::string>& to, const std::optional<std::string>& more) {
            if (more) to = to.value_or("") + *more;
        };
        if (delta.role && !delta.role->empty()) choice->role = *delta.role;
        if (delta.content) choice->content += *delta.content;
        append(choice->reasoning_content, delta.reasoning_content);
        append(choice->refusal, delta.refusal);
        if (!delta.finish_reason.empty()) choice->finish_reason = delta.finish_reason;
        if (delta.logprobs) {
            if (!choice->logprobs) choice->logprobs.emplace();
            choice->logprobs->insert(choice->logprobs->end(), delta.logprobs->begin(), delta.logprobs->end());
        }
    }
}

}  // namespace retort::api
