// From a checked API request to what the engine is asked, with the errors that only the model can tell.
// Private to this part.
#pragma once

#include <memory>
#include <string>

#include "api/chat_request.h"
#include "api/error.h"
#include "serve/constraint.h"
#include "serve/generation_job.h"
#include "serve/server.h"

namespace retort::serve {

// Names an answer carries in each of its parts.
struct AnswerIdentity {
    std::string id;
    std::int64_t created = 0;
    std::string model;
    std::string system_fingerprint;
};

api::ApiResult<JobRequest> prepare_chat(const ServedModel& model, const api::ChatRequest& request,
                                        GrammarCache& grammars);
// `hides_reasoning`: who asks may not see all of a model's reasoning, and a plain text has no place for a
// summary.
api::ApiResult<JobRequest> prepare_completion(const ServedModel& model, const api::CompletionRequest& request,
                                              bool hides_reasoning);

std::unique_ptr<AnswerFormat> chat_format(AnswerIdentity identity, bool include_usage);
std::unique_ptr<AnswerFormat> completion_format(AnswerIdentity identity, bool include_usage);

}  // namespace retort::serve
