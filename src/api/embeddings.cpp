#include "api/embeddings.h"

#include <array>
#include <bit>
#include <cstring>

#include "api/fields.h"

namespace retort::api {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

static_assert(std::endian::native == std::endian::little, "embeddings travel as little-endian float32");

}  // namespace

ApiResult<EmbeddingRequest> parse_embedding_request(std::string_view body) {
    constexpr std::size_t max_inputs = 2048;
    RETORT_TRY(const json object, read_body(body));
    EmbeddingRequest request;
    RETORT_TRY(request.model, read_model(object));
    RETORT_CHECK(read_prompts(object, "input", max_inputs, request.inputs));
    std::string format = "float";
    RETORT_CHECK(read_string(object, "encoding_format", "encoding_format", format));
    if (format != "float" && format != "base64")
        return bad_value("encoding_format", "it is neither float nor base64");
    request.base64 = format == "base64";
    RETORT_CHECK(read_integer(object, "dimensions", 1, INT32_MAX, request.dimensions));
    return request;
}

ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body) {
    RETORT_TRY(const json object, read_body(body));
    TokenizeRequest request;
    RETORT_CHECK(read_boolean(object, "add_special_tokens", request.add_special_tokens));
    RETORT_CHECK(read_boolean(object, "add_special", request.add_special_tokens));
    RETORT_CHECK(read_boolean(object, "return_token_strs", request.with_pieces));
    RETORT_CHECK(read_boolean(object, "with_pieces", request.with_pieces));
    if (member(object, "messages") != nullptr) {
        json chat = object;
        if (member(chat, "model") == nullptr) chat["model"] = "";
        RETORT_TRY(request.chat, parse_chat_request(dump_json(chat)));
        return request;
    }
    const char* name = member(object, "prompt") != nullptr ? "prompt" : "content";
    if (member(object, name) == nullptr) return bad_value("prompt", "it is missing, and so is 'messages'");
    RETORT_CHECK(read_string(object, name, name, request.text));
    return request;
}

ApiResult<std::vector<std::int32_t>> parse_detokenize_request(std::string_view body) {
    RETORT_TRY(const json object, read_body(body));
    const json* tokens = member(object, "tokens");
    if (tokens == nullptr) return bad_value("tokens", "it is missing");
    if (!tokens->is_array()) return wrong_type("tokens", "an array of token ids", *tokens);
    return read_tokens(*tokens, "tokens");
}

std::string write_embedding_response(const EmbeddingResponse& response) {
    ordered_json out;
    out["object"] = "list";
    out["data"] = ordered_json::array();
    for (const std::vector<float>& embedding : response.embeddings) {
        ordered_json entry;
        entry["object"] = "embedding";
        entry["index"] = out["data"].size();
        if (response.base64) {
            std::string bytes(embedding.size() * sizeof(float), '\0');
            std::memcpy(bytes.data(), embedding.data(), bytes.size());
            entry["embedding"] = base64(bytes);
        } else {
            entry["embedding"] = embedding;
        }
        out["data"].push_back(std::move(entry));
    }
    out["model"] = response.model;
    out["usage"]["prompt_tokens"] = response.prompt_tokens;
    out["usage"]["total_tokens"] = response.prompt_tokens;
    return dump_json(out);
}

std::string write_tokenize_response(const std::vector<std::int32_t>& tokens,
                                    const std::vector<std::string>& pieces, std::int64_t max_model_len) {
    ordered_json out;
    out["count"] = tokens.size();
    out["max_model_len"] = max_model_len;
    out["tokens"] = tokens;
    if (!pieces.empty()) out["token_strs"] = pieces;
    return dump_json(out);
}

std::string write_detokenize_response(const std::string& text) {
    ordered_json out;
    out["prompt"] = text;
    out["content"] = text;
    return dump_json(out);
}

// RFC 4648, with padding.
std::string base64(std::string_view bytes) {
    constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k) {
            group = group << 8U | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0U);
        }
        for (std::size_t k = 0; k < 4; ++k) {
            out += k <= count ? alphabet[group >> (18 - 6 * k) & 0x3fU] : '=';
        }
    }
    return out;
}

}  // namespace retort::api
