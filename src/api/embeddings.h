// Requests and answers of /v1/embeddings, and those of /tokenize and /detokenize, whose shapes vLLM and
// llama-server share. Knows no tokenizer and no engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/chat_request.h"
#include "api/error.h"

namespace retort::api {

struct EmbeddingRequest {
    std::string model;
    std::vector<CompletionRequest::Prompt> inputs;
    bool base64 = false;                     // little-endian float32; else a list of numbers
    std::optional<std::int64_t> dimensions;  // 1 and above
};

struct EmbeddingResponse {
    std::string model;
    std::vector<std::vector<float>> embeddings;
    bool base64 = false;
    std::int64_t prompt_tokens = 0;
};

struct TokenizeRequest {
    std::string text;                 // `prompt` (vLLM) or `content` (llama-server)
    std::optional<ChatRequest> chat;  // `messages` instead: the text that the chat template makes of them
    bool add_special_tokens = true;
    bool with_pieces = false;
};

ApiResult<EmbeddingRequest> parse_embedding_request(std::string_view body);
ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body);
ApiResult<std::vector<std::int32_t>> parse_detokenize_request(std::string_view body);

std::string write_embedding_response(const EmbeddingResponse& response);
// pieces: empty, or one a token.
std::string write_tokenize_response(const std::vector<std::int32_t>& tokens,
                                    const std::vector<std::string>& pieces, std::int64_t max_model_len);
std::string write_detokenize_response(const std::string& text);

std::string base64(std::string_view bytes);

}  // namespace retort::api
