// What admission must know of a request's body before any route reads it. Private to this part.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "api/error.h"
#include "guard/sketch.h"

namespace retort::serve {

struct RequestFacts {
    std::string model;
    std::int64_t max_tokens = -1;  // for one choice; -1: not said
    std::int64_t choices = 1;
    std::int64_t messages = 0;
    bool stream = false;
    bool include_usage = false;
    bool running_usage = false;  // asked for use so far in each chunk, in vLLM's words or llama-server's
    bool logprobs = false;
    bool echo = false;
    bool logit_bias = false;
    std::uint64_t parameters = 0;  // XXH3 over the sampling fields as written
    std::string sketch;            // of the prompt; empty: not asked for, or there is none
};

// Refuses what two readers could understand differently: no JSON object, or a field named twice. A field of a
// wrong type is left to the route to refuse.
// `key` null: no sketch.
api::ApiResult<RequestFacts> read_facts(std::string_view body, const guard::SketchKey* key = nullptr);
// A guess of the prompt's tokens from above: a token of English has four bytes and more, of Chinese two to
// three.
std::int64_t guess_prompt_tokens(std::string_view body);

}  // namespace retort::serve
