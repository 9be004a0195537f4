// Answers of /v1/chat/completions, whole and in chunks, and of /v1/completions and /v1/models: written by the
// server, read by the client (leniently, as servers differ). Knows no tokenizer and no engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/error.h"
#include "base/result.h"

namespace retort::api {

struct LogprobEntry {
    std::string token;
    double logprob = 0;                              // −9999.0: very unlikely
    std::optional<std::vector<std::uint8_t>> bytes;  // exact, where `token` had to be made valid UTF-8
};

struct TokenLogprobs : LogprobEntry {
    std::vector<LogprobEntry> top;
    bool is_unknown = false;  // the first token of a prompt: nothing comes before it
};

struct Usage {
    std::int64_t prompt_tokens = 0;
    std::int64_t completion_tokens = 0;
    std::int64_t cached_tokens = 0;     // of the prompt
    std::int64_t reasoning_tokens = 0;  // of the completion
    [[nodiscard]] std::int64_t total_tokens() const { return prompt_tokens + completion_tokens; }
};

struct ChatChoice {
    std::int64_t index = 0;
    std::string role = "assistant";
    std::string content;
    std::optional<std::string> reasoning_content;  // read from `reasoning_content` or `reasoning`
    std::optional<std::string> refusal;
    std::string tool_calls_json;  // empty: none
    std::string finish_reason;    // empty: null
    std::optional<std::vector<TokenLogprobs>> logprobs;
};

struct ChatResponse {
    std::string id;
    std::int64_t created = 0;
    std::string model;
    std::vector<ChatChoice> choices;
    std::optional<Usage> usage;
    std::string system_fingerprint;  // empty: null
};

// A delta for one choice; all absent is a legal delta.
struct ChunkChoice {
    std::int64_t index = 0;
    std::optional<std::string> role;
    std::optional<std::string> content;
    std::optional<std::string> reasoning_content;
    std::optional<std::string> refusal;
    std::string tool_calls_json;  // an array, each entry with its index; empty: none
    std::string finish_reason;
    std::optional<std::vector<TokenLogprobs>> logprobs;
};

struct ChatChunk {
    std::string id;
    std::int64_t created = 0;
    std::string model;
    std::vector<ChunkChoice> choices;
    std::optional<Usage> usage;
    std::string system_fingerprint;
    std::optional<ApiError> error;  // only when read: the stream broke off with {"error":…}
};

struct CompletionChoice {
    std::int64_t index = 0;
    std::string text;
    std::string finish_reason;
    std::optional<std::vector<TokenLogprobs>> logprobs;
    std::int64_t text_offset = 0;  // of the first of them, in characters
};

struct CompletionResponse {
    std::string id;
    std::int64_t created = 0;
    std::string model;
    std::vector<CompletionChoice> choices;
    std::optional<Usage> usage;
    std::string system_fingerprint;
};

struct ModelCard {
    std::string id;
    std::int64_t created = 0;
    std::string owned_by = "retort";
    std::int64_t max_model_len = 0;  // as vLLM names the context length; 0: not said
};

struct FunctionCall {
    std::string id;
    std::string name;
    std::string arguments;  // JSON
};
// The array tool_calls; `first`: in a stream each entry carries its index, from there on.
std::string write_tool_calls(const std::vector<FunctionCall>& calls, std::optional<std::int64_t> first);

std::string write_chat_response(const ChatResponse& response);
// usage_field: whether the chunk carries "usage" at all (null when it has none), as include_usage asks.
std::string write_chat_chunk(const ChatChunk& chunk, bool usage_field);
// Whole and streamed answers of /v1/completions have the same shape.
std::string write_completion_response(const CompletionResponse& response, bool usage_field);
std::string write_model(const ModelCard& model);
std::string write_models(const std::vector<ModelCard>& models);

Result<ChatResponse> parse_chat_response(std::string_view body);
// The data of one event, which must not be "[DONE]".
Result<ChatChunk> parse_chat_chunk(std::string_view data);
Result<std::vector<ModelCard>> parse_models(std::string_view body);
// Adds a chunk to the answer that the chunks before it have made.
void append_chunk(ChatResponse& response, const ChatChunk& chunk);

}  // namespace retort::api
