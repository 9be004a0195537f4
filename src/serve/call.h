// One request on its way through the router, and what every route shares. Private to this part.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "api/error.h"
#include "base/clock.h"
#include "http/server.h"
#include "serve/constraint.h"
#include "serve/generation_job.h"
#include "serve/metrics.h"
#include "serve/planting.h"
#include "serve/processing_time.h"
#include "serve/requests.h"
#include "serve/server.h"

namespace retort::serve {

// What the routes share; lives as long as the server.
struct Service {
    const ServerOptions& options;
    std::int64_t created;  // Unix seconds
    Metrics& metrics;
    ActiveJobs& active;
    GrammarCache& grammars;
};

struct Call {
    http::ServerRequest request;
    std::shared_ptr<http::ResponseWriter> writer;
    http::Headers headers;           // of the answer, whatever it is
    std::shared_ptr<Ticket> ticket;  // set when the server has an admission
    double start = base::monotonic_seconds();

    void send(int status, std::string body) {
        if (ticket) ticket->end(status < 400 ? RequestEnd::finished : RequestEnd::failed, status);
        tell_processing_time(headers, start);
        writer->send(status, headers, std::move(body));
    }
    void send(const api::ApiError& error) { send(error.status, api::write_error(error)); }
};

// prefix and 24 random hexadecimal digits.
std::string random_id(std::string_view prefix);
// Bytes for %XX; a '%' that begins none stays.
std::string percent_decoded(std::string_view text);

AnswerIdentity new_identity(const Service& service, std::string_view prefix);
// Answers 404 for another model's name, or 503 when too many wait; whether it has answered.
bool refuses(const Service& service, Call& call, const ServedModel& model, std::string_view model_id);
// What is planted in the answer, where the server plants; whether it has answered with an error instead.
// `request`: messages or prompt, and the last question.
bool refuses_to_plant(const Service& service, Call& call, const ServedModel& model, PlantedRequest request,
                      JobRequest& job);
// Hands the request over to the engine, which answers it.
void start_job(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model,
               JobRequest job, std::unique_ptr<AnswerFormat> format);

}  // namespace retort::serve
