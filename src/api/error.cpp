#include "api/error.h"

#include <fmt/format.h>

#include "api/json.h"

namespace retort::api {

ApiError invalid_value(std::string param, std::string message) {
    return {400, std::move(message), "invalid_request_error", std::move(param), "invalid_value"};
}

ApiError unsupported_parameter(std::string param, std::string message) {
    return {400, std::move(message), "invalid_request_error", std::move(param), "unsupported_parameter"};
}

ApiError context_length_exceeded(std::string message) {
    return {400, std::move(message), "invalid_request_error", "messages", "context_length_exceeded"};
}

ApiError invalid_api_key(std::string message) {
    return {401, std::move(message), "invalid_request_error", std::nullopt, "invalid_api_key"};
}

ApiError model_not_found(std::string_view model) {
    return {404, fmt::format("The model '{}' does not exist; GET /v1/models lists those that do.", model),
            "invalid_request_error", "model", "model_not_found"};
}

ApiError route_not_found(std::string_view method, std::string_view target) {
    return {404, fmt::format("Unknown request URL: {} {}.", method, target), "invalid_request_error",
            std::nullopt, std::nullopt};
}

ApiError method_not_allowed(std::string_view method, std::string_view target) {
    return {405, fmt::format("Method {} is not allowed for {}.", method, target), "invalid_request_error",
            std::nullopt, std::nullopt};
}

ApiError body_too_large(std::size_t limit) {
    return {413, fmt::format("The request's body is longer than {} bytes.", limit), "invalid_request_error",
            std::nullopt, std::nullopt};
}

ApiError rate_limited(std::string message) {
    return {429, std::move(message), "rate_limit_error", std::nullopt, "rate_limit_exceeded"};
}

ApiError unavailable(std::string message) {
    return {503, std::move(message), "server_error", std::nullopt, "unavailable"};
}

ApiError server_error(std::string message) {
    return {500, std::move(message), "server_error", std::nullopt, std::nullopt};
}

std::string write_error(const ApiError& error) {
    nlohmann::ordered_json inner;
    inner["message"] = error.message;
    inner["type"] = error.type;
    inner["param"] = error.param ? nlohmann::ordered_json(*error.param) : nlohmann::ordered_json();
    inner["code"] = error.code ? nlohmann::ordered_json(*error.code) : nlohmann::ordered_json();
    nlohmann::ordered_json outer;
    outer["error"] = std::move(inner);
    return dump_json(outer);
}

ApiError parse_error(int status, std::string_view body) {
    ApiError error;
    error.status = status;
    error.type.clear();
    const auto plain = [&] {
        constexpr std::size_t shown = 500;
        error.message =
            body.empty() ? fmt::format("status {} without a body", status) : body.substr(0, shown);
        return error;
    };
    const Result<nlohmann::json> parsed = parse_json(body);
    if (!parsed || !parsed->is_object()) return plain();
    const nlohmann::json* inner = member(*parsed, "error");
    if (inner == nullptr) inner = member(*parsed, "detail");
    if (inner == nullptr) inner = &*parsed;
    if (inner->is_string()) {
        error.message = inner->get<std::string>();
        return error;
    }
    if (!inner->is_object()) return plain();
    const auto text = [&](const char* name) -> std::optional<std::string> {
        const nlohmann::json* value = member(*inner, name);
        if (value == nullptr) return std::nullopt;
        if (value->is_string()) return value->get<std::string>();
        return dump_json(*value);
    };
    const auto message = text("message");
    if (!message) return plain();
    error.message = *message;
    error.type = text("type").value_or("");
    error.param = text("param");
    error.code = text("code");
    return error;
}

}  // namespace retort::api
