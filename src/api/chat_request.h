// Requests of /v1/chat/completions and /v1/completions as native structs: parsed by the server (types and
// ranges checked, an error names the field), written by the client. Knows no tokenizer and no engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/error.h"

namespace retort::api {

struct ChatMessage {
    std::string role;  // system, developer, user, assistant, tool
    std::string content;
    std::string reasoning_content;  // of an assistant's earlier turn
    std::string name;
    std::string tool_call_id;
    std::string tool_calls_json;  // the array as given, empty: none
};

// What shapes the sampling, in both kinds of request. Absent means the server's own default.
struct SamplingFields {
    std::optional<std::int64_t> max_tokens;  // max_completion_tokens, or the deprecated max_tokens
    std::optional<double> temperature;       // 0–2
    std::optional<double> top_p;             // 0–1
    std::optional<std::int64_t> top_k;  // with the next two: an extension that vLLM and llama-server share
    std::optional<double> min_p;
    std::optional<double> repetition_penalty;
    std::optional<double> frequency_penalty;  // −2–2
    std::optional<double> presence_penalty;   // −2–2
    std::vector<std::pair<std::int32_t, double>> logit_bias;
    std::vector<std::string> stop;  // up to 4
    std::optional<std::int64_t> seed;
    std::int64_t n = 1;
};

// What the answer must be.
struct ResponseFormat {
    enum class Kind { text, json_object, json_schema };
    Kind kind = Kind::text;
    std::string schema_json;  // of json_schema, its members in the order given
};

struct ToolChoice {
    enum class Kind { automatic, none, required, function };
    Kind kind = Kind::automatic;
    std::string function;  // its name, for Kind::function
};

struct ChatRequest {
    std::string model;
    std::vector<ChatMessage> messages;
    SamplingFields sampling;
    bool logprobs = false;
    std::int64_t top_logprobs = 0;  // 0–20
    bool stream = false;
    bool include_usage = false;
    std::string tools_json;  // the array as given, empty: none
    ToolChoice tool_choice;
    bool parallel_tool_calls = true;
    ResponseFormat response_format;
    std::string reasoning_effort;
    std::optional<bool> enable_thinking;  // chat_template_kwargs.enable_thinking, as vLLM and SGLang take it
    std::string user;
};

struct CompletionRequest {
    std::string model;
    // One entry for each prompt: a text, or token ids.
    struct Prompt {
        std::string text;
        std::vector<std::int32_t> tokens;
        bool is_tokens = false;
    };
    std::vector<Prompt> prompts;
    SamplingFields sampling;               // max_tokens defaults to 16 here
    std::optional<std::int64_t> logprobs;  // 0–5
    bool echo = false;
    bool stream = false;
    bool include_usage = false;
};

// Unknown fields are ignored; null stands for absent.
ApiResult<ChatRequest> parse_chat_request(std::string_view body);
ApiResult<CompletionRequest> parse_completion_request(std::string_view body);

// The field that carries the limit: the old name is understood by every server but OpenAI's reasoning models.
enum class MaxTokensField { max_tokens, max_completion_tokens };
std::string write_chat_request(const ChatRequest& request, MaxTokensField field = MaxTokensField::max_tokens);

}  // namespace retort::api
