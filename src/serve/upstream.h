// Stands in front of other OpenAI-compatible servers: chooses one by weight and health, tries the next before
// the first byte, passes streams on frame by frame, and counts what they used. Knows no account and no
// engine.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/url.h"
#include "serve/forwarder.h"
#include "serve/protected_works.h"

namespace retort::serve {

struct UpstreamServer {
    http::Url url;  // its base URL, with or without /v1
    std::int64_t weight = 1;
};

// What becomes of <think>…</think> in the content of chat answers.
enum class ThinkTags {
    as_is,   // it stays
    split,   // an opening tag at the very start: reasoning_content
    opened,  // likewise, and answers begin inside: the model's template has opened it
};

// Tokens as an upstream's own tokenizer counts them, where the upstream does not tell.
class TokenCounter {
  public:
    virtual ~TokenCounter() = default;
    [[nodiscard]] virtual std::int64_t count(std::string_view text) const = 0;
    // Of a request's body, the template's own included; less than 0: it cannot say.
    [[nodiscard]] virtual std::int64_t count_prompt(std::string_view body) const = 0;
};

struct UpstreamOptions {
    std::vector<UpstreamServer> servers;
    std::string api_key;         // sent to them; empty: the client's own, unless accounts are kept here
    int retries = 2;             // on another server, before the first byte
    int breaker_failures = 5;    // in a row, after which a server is left alone
    double breaker_seconds = 5;  // and for how long; then one request tries it
    double health_seconds = 2;   // between probes (GET /v1/models) of servers left alone
    double connect_seconds = 5;
    double quiet_seconds = 300;                             // without a byte of an answer
    std::size_t max_body_bytes = std::size_t{64} << 20U;    // of an answer that is no stream
    std::shared_ptr<const ProtectedWorks> protected_works;  // answers are cut before they repeat one
    ThinkTags think = ThinkTags::split;
    std::shared_ptr<const TokenCounter> tokens;  // null: guesses, where nothing is told
    // Ask for use so far with each chunk of a stream, so that one that is broken off is counted exactly.
    bool running_usage = true;
};

// "http://host:port/v1" or "http://host:port/v1,weight=3"
Result<UpstreamServer> parse_upstream(const std::string& text);
std::shared_ptr<Forwarder> make_upstream(UpstreamOptions options);

}  // namespace retort::serve
