#include "collect/ask.h"

#include <charconv>
#include <cmath>
#include <ctime>
#include <optional>
#include <utility>

#include "api/chat_response.h"
#include "api/error.h"
#include "base/clock.h"
#include "http/url.h"

namespace retort::collect {

using formats::Json;

namespace {

std::optional<double> number(std::string_view text) {
    double value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || !std::isfinite(value) ||
        value < 0) {
        return std::nullopt;
    }
    return value;
}

// "Sun, 06 Nov 1994 08:49:37 GMT"
std::optional<double> seconds_until_http_date(std::string_view text) {
    std::tm when{};
    const std::string copy(text);
    const char* end = strptime(copy.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &when);
    if (end == nullptr || *end != '\0') return std::nullopt;
    const auto wait =
        static_cast<double>(timegm(&when)) - static_cast<double>(base::unix_milliseconds()) / 1000.0;
    return std::max(0.0, wait);
}

Json logprob_to_json(const api::LogprobEntry& entry) {
    Json json = {{"token", entry.token}, {"logprob", entry.logprob}};
    if (entry.bytes) json["bytes"] = *entry.bytes;
    return json;
}

Json logprobs_to_json(const std::vector<api::TokenLogprobs>& logprobs) {
    Json array = Json::array();
    for (const api::TokenLogprobs& token : logprobs) {
        Json entry = logprob_to_json(token);
        Json top = Json::array();
        for (const api::LogprobEntry& other : token.top) top.push_back(logprob_to_json(other));
        if (!top.empty()) entry["top_logprobs"] = std::move(top);
        array.push_back(std::move(entry));
    }
    return array;
}

Outcome from_answer(const http::ClientResponse& response, const data::RequestShape& request) {
    Outcome outcome;
    outcome.status = response.status;
    auto parsed = api::parse_chat_response(response.body);
    if (!parsed) {
        outcome.reason = parsed.error().message;
        return outcome;
    }
    if (parsed->choices.empty()) {
        outcome.reason = "the answer has no choices";
        return outcome;
    }
    api::ChatChoice& choice = parsed->choices.front();
    data::Record& record = outcome.record;
    record.request = request;
    record.content = std::move(choice.content);
    if (record.content.empty() && choice.refusal) record.content = *choice.refusal;
    record.reasoning = choice.reasoning_content.value_or("");
    record.finish_reason = std::move(choice.finish_reason);
    record.system_fingerprint = std::move(parsed->system_fingerprint);
    record.request_id = std::string(response.headers.get("x-request-id"));
    if (record.request_id.empty()) record.request_id = std::move(parsed->id);
    if (parsed->usage) {
        record.usage = {.prompt_tokens = parsed->usage->prompt_tokens,
                        .completion_tokens = parsed->usage->completion_tokens,
                        .reasoning_tokens = parsed->usage->reasoning_tokens};
    }
    if (choice.logprobs) record.logprobs = logprobs_to_json(*choice.logprobs);
    record.seconds = response.seconds;
    data::seal(record);
    outcome.kind = OutcomeKind::answered;
    return outcome;
}

OutcomeKind kind_of_error(int status, const api::ApiError& error, bool may_retry) {
    const std::string code = error.code.value_or("");
    if (code == "context_length_exceeded") return OutcomeKind::too_long;
    if (status == 401 || status == 403 || status == 404 || code == "insufficient_quota" ||
        code == "invalid_api_key" || code == "model_not_found") {
        return OutcomeKind::fatal;
    }
    // x-should-retry: false stands for a ban or an exhausted budget.
    if (status == 429 || status == 503) return may_retry ? OutcomeKind::overloaded : OutcomeKind::fatal;
    if (status == 408 || status == 409 || status >= 500) {
        return may_retry ? OutcomeKind::failed : OutcomeKind::fatal;
    }
    // Servers that have no code for it say it in words.
    if (status == 400 || status == 413 || status == 422) {
        for (const std::string_view words : {"context length", "context size", "context window", "too long",
                                             "maximum context", "exceeds the available context"}) {
            if (error.message.find(words) != std::string::npos) return OutcomeKind::too_long;
        }
    }
    return OutcomeKind::rejected;
}

}  // namespace

std::string request_body(const data::RequestShape& request, const AskOptions& options) {
    Json body = request.parameters;
    body["model"] = request.model;
    body["messages"] = data::messages_to_json(request.messages);
    if (request.max_tokens > 0) body[options.max_tokens_field] = request.max_tokens;
    // Samples of one prompt differ though their seed is given.
    if (const Json* seed = formats::json_find(body, "seed"); seed != nullptr && seed->is_number_integer()) {
        body["seed"] = static_cast<std::int64_t>(seed->get<std::uint64_t>() +
                                                 static_cast<std::uint64_t>(request.sample));
    }
    return formats::write_json(body);
}

double retry_after_seconds(const http::Headers& headers) {
    if (const auto text = headers.find("retry-after-ms")) {
        if (const auto value = number(*text)) return *value / 1000.0;
    }
    if (const auto text = headers.find("retry-after")) {
        if (const auto value = number(*text)) return *value;
        if (const auto value = seconds_until_http_date(*text)) return *value;
    }
    return -1;
}

Outcome read_response(const http::ClientResponse& response, const data::RequestShape& request) {
    if (response.status >= 200 && response.status < 300) return from_answer(response, request);
    const api::ApiError error = api::parse_error(response.status, response.body);
    const bool may_retry = response.headers.get("x-should-retry") != "false";
    Outcome outcome;
    outcome.status = response.status;
    outcome.kind = kind_of_error(response.status, error, may_retry);
    outcome.reason = fmt::format("HTTP {}: {}", response.status, error.message);
    if (error.code) outcome.reason += fmt::format(" ({})", *error.code);
    outcome.retry_after = retry_after_seconds(response.headers);
    return outcome;
}

Outcome ask(const Transport& transport, const Endpoint& endpoint, const data::RequestShape& request,
            const AskOptions& options, const std::function<bool()>& cancelled) {
    http::ClientRequest http_request;
    http_request.method = "POST";
    http_request.url = http::join_url(endpoint.url, "chat/completions");
    http_request.headers.set("Content-Type", "application/json");
    http_request.headers.set("Accept", "application/json");
    if (!endpoint.api_key.empty()) http_request.headers.set("Authorization", "Bearer " + endpoint.api_key);
    http_request.body = request_body(request, options);
    http_request.connect_seconds = options.connect_seconds;
    http_request.read_seconds = options.request_seconds;
    http_request.total_seconds = options.request_seconds;
    http_request.cancelled = cancelled;
    const std::string started = base::utc_now();
    const auto response = transport(http_request);
    if (!response) {
        Outcome outcome;
        outcome.kind =
            response.error().code == ErrorCode::cancelled ? OutcomeKind::cancelled : OutcomeKind::failed;
        if (response.error().code == ErrorCode::invalid_argument) outcome.kind = OutcomeKind::fatal;
        outcome.reason = response.error().message;
        return outcome;
    }
    Outcome outcome = read_response(*response, request);
    outcome.record.started = started;
    outcome.record.endpoint = endpoint.url;
    return outcome;
}

}  // namespace retort::collect
