// OpenAI's error envelope {"error":{message,type,param,code}}, both directions. Knows no route and no cause.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace retort::api {

struct ApiError {
    int status = 400;  // the HTTP status it travels with
    std::string message;
    std::string type = "invalid_request_error";
    std::optional<std::string> param;
    std::optional<std::string> code;
};

template <typename T>
using ApiResult = tl::expected<T, ApiError>;

// The cases of the contract.
ApiError invalid_value(std::string param, std::string message);
ApiError unsupported_parameter(std::string param, std::string message);
ApiError context_length_exceeded(std::string message);
ApiError invalid_api_key(std::string message);
ApiError model_not_found(std::string_view model);
ApiError route_not_found(std::string_view method, std::string_view target);
ApiError method_not_allowed(std::string_view method, std::string_view target);
ApiError body_too_large(std::size_t limit);
ApiError rate_limited(std::string message);
ApiError unavailable(std::string message);
ApiError server_error(std::string message);

std::string write_error(const ApiError& error);
// What a server meant by a body that came with an error status: the envelope, the flat forms that vLLM and
// FastAPI use, or else the start of the text itself. Never fails.
ApiError parse_error(int status, std::string_view body);

}  // namespace retort::api
