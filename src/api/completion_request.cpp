#include "api/fields.h"

namespace retort::api {

using nlohmann::json;

ApiResult<std::vector<std::int32_t>> read_tokens(const json& array, const char* name) {
    std::vector<std::int32_t> tokens;
    for (const json& entry : array) {
        if (!entry.is_number_unsigned() || entry.get<std::uint64_t>() > std::uint64_t{INT32_MAX}) {
            return wrong_type(name, "token ids", entry);
        }
        tokens.push_back(entry.get<std::int32_t>());
    }
    return tokens;
}

ApiResult<void> read_prompts(const json& object, const char* name, std::size_t max_prompts,
                             std::vector<CompletionRequest::Prompt>& out) {
    const json* value = member(object, name);
    if (value == nullptr) return bad_value(name, "it is missing");
    if (value->is_string()) {
        out.push_back({value->get<std::string>(), {}, false});
        return {};
    }
    if (!value->is_array() || value->empty()) {
        return wrong_type(name, "a string, an array of strings or token ids", *value);
    }
    if (value->front().is_number()) {
        RETORT_TRY(auto tokens, read_tokens(*value, name));
        out.push_back({{}, std::move(tokens), true});
        return {};
    }
    if (value->size() > max_prompts)
        return bad_value(name, fmt::format("more than {} in one request", max_prompts));
    for (const json& entry : *value) {
        if (entry.is_string()) {
            out.push_back({entry.get<std::string>(), {}, false});
        } else if (entry.is_array()) {
            RETORT_TRY(auto tokens, read_tokens(entry, name));
            out.push_back({{}, std::move(tokens), true});
        } else {
            return wrong_type(name, "a string, an array of strings or token ids", entry);
        }
    }
    return {};
}

ApiResult<CompletionRequest> parse_completion_request(std::string_view body) {
    RETORT_TRY(const json object, read_body(body));
    constexpr std::size_t max_prompts = 256;
    CompletionRequest request;
    RETORT_TRY(request.model, read_model(object));
    RETORT_CHECK(read_prompts(object, "prompt", max_prompts, request.prompts));
    RETORT_CHECK(read_boolean(object, "echo", request.echo));
    RETORT_CHECK(read_sampling(object, request.sampling, request.echo ? 0 : 1));
    constexpr std::int64_t default_max_tokens = 16;
    if (!request.sampling.max_tokens) request.sampling.max_tokens = default_max_tokens;
    RETORT_CHECK(read_integer(object, "logprobs", 0, 20, request.logprobs));
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

}  // namespace retort::api
