// One request to a teacher: the body that is sent, and what an answer, a refusal or a silence means for the
// run. Knows nothing of journals, limits and budgets.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "data/record.h"
#include "http/client.h"

namespace retort::collect {

struct Endpoint {
    std::string url;      // with the version: "https://host/v1"
    std::string api_key;  // empty: none is sent
};

enum class OutcomeKind {
    answered,
    overloaded,  // 429, 503: again later, and fewer at once
    failed,      // another 5xx, 408, 409, a broken connection, an answer that cannot be read: again later
    rejected,    // this request is at fault (400, 413, 422, …): recorded, not asked again in this run
    too_long,    // the prompt does not fit the teacher's context: recorded, not asked again
    fatal,       // every request would end so: bad key, unknown model, exhausted quota
    cancelled,
};

struct Outcome {
    OutcomeKind kind = OutcomeKind::failed;
    data::Record record;      // when answered; ids and hashes set, terms and prompt id not
    std::string reason;       // otherwise
    int status = 0;           // of HTTP, 0 when there was none
    double retry_after = -1;  // seconds the server asked to wait; below 0: it did not say
};

struct AskOptions {
    std::string max_tokens_field = "max_tokens";  // OpenAI's reasoning models want max_completion_tokens
    double connect_seconds = 10;
    double request_seconds = 600;  // for the whole answer
};

// Sends a request and gives the response: the client's send(), or a test's.
using Transport = std::function<Result<http::ClientResponse>(const http::ClientRequest&)>;

std::string request_body(const data::RequestShape& request, const AskOptions& options);
// retry-after-ms, then Retry-After in seconds or as an HTTP date; below 0 when neither is there.
double retry_after_seconds(const http::Headers& headers);
Outcome read_response(const http::ClientResponse& response, const data::RequestShape& request);
Outcome ask(const Transport& transport, const Endpoint& endpoint, const data::RequestShape& request,
            const AskOptions& options, const std::function<bool()>& cancelled);

}  // namespace retort::collect
