// Asks a teacher for every prompt's answers and keeps each with its provenance. Interrupted at any instant,
// the same call goes on with what is missing. Knows nothing of students.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "collect/ask.h"
#include "collect/budget.h"
#include "collect/endpoint.h"
#include "data/manifest.h"
#include "data/prompts.h"

namespace retort::collect {

struct CollectOptions {
    std::filesystem::path output;  // a folder: answers.journal, records.jsonl, failed.jsonl, terms.*, …
    std::vector<data::Prompt> prompts;
    std::vector<Endpoint> endpoints;  // servers of the same model; work goes to whichever is free
    std::string model;
    formats::Json parameters =
        formats::Json::object();  // temperature, top_p, seed, logprobs, …: sent as they are
    std::int64_t max_tokens = 512;
    std::int64_t samples = 1;              // answers a prompt
    std::filesystem::path terms;           // empty: refused
    std::filesystem::path prompt_licence;  // kept beside the data when given
    Budget budget;
    EndpointOptions pressure;
    AskOptions ask;
    // Answers that take longer than all but this share of those before are asked for a second time, for at
    // most that share of the requests; the first answer is kept, both are paid. 0: none.
    double hedge_share = 0;
    int max_attempts = 6;           // of one request, overload not counted
    int dead_after = 6;             // rounds of failures of every endpoint in a row, without an answer
    double stall_seconds = 900;     // without an answer, overload included
    double max_retry_after = 600;   // a server that asks for a longer wait ends the run
    double interrupt_grace = 5;     // after Ctrl-C, for requests in flight
    std::uint64_t jitter_seed = 0;  // 0: from the clock; of waiting times only
    bool quiet = false;
    Transport transport;  // empty: http::Client
};

struct CollectReport {
    std::int64_t wanted = 0;
    std::int64_t there_before = 0;
    std::int64_t asked = 0;  // answered in this run
    std::int64_t rejected = 0;
    std::int64_t too_long = 0;
    std::int64_t gave_up = 0;
    std::int64_t truncated = 0;  // answers that max_tokens cut
    std::int64_t missing = 0;    // still to be asked
    std::int64_t retries = 0;
    std::int64_t overloads = 0;
    std::int64_t hedges = 0;        // second requests for slow answers
    std::int64_t hedges_first = 0;  // of them, those that were answered before the first
    Spent spent;                    // in this folder, all runs
    double seconds = 0;
    int peak_in_flight = 0;
    std::uint64_t torn_bytes = 0;
    std::string stopped;                           // why before the end; empty: it is complete
    std::map<std::string, std::int64_t> failures;  // of this run, for good: reason → requests
    data::Manifest manifest;
};

// Before the first call: how many requests, tokens and how much money it takes, expected and at most.
struct Forecast {
    std::int64_t requests = 0;
    std::int64_t hedges = 0;  // second requests, at most; of `expected` and `most` too
    Estimate expected;
    Estimate most;
    double expected_cost = 0;
    double most_cost = 0;
};
std::string forecast_text(const Forecast& forecast, const Budget& budget);

// An error (dead teacher, bad key, full disk, Ctrl-C, refused terms) leaves all that was answered in the
// journal; a budget that ends the run is no error but `stopped`, with records.jsonl of what there is.
// An error, with all that came kept, when a run ends without one answer and requests were given up.
Result<CollectReport> collect(const CollectOptions& options);

std::string report_json(const CollectReport& report);

// At most the tokens of a prompt whose tokenizer is not known here: a token holds at least one byte, and a
// template adds some to each message.
std::int64_t most_prompt_tokens(const std::vector<data::Message>& messages);

}  // namespace retort::collect
