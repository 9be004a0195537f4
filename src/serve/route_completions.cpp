// POST /v1/completions
#include "serve/requests.h"
#include "serve/routes.h"

namespace retort::serve {

void answer_completion(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model) {
    auto request = api::parse_completion_request(call.request.body);
    if (!request) return call.send(request.error());
    if (refuses(service, call, *model, request->model)) return;
    const bool hides_reasoning = call.ticket && call.ticket->reasoning() != ReasoningAccess::full;
    auto job = prepare_completion(*model, *request, hides_reasoning);
    if (!job) return call.send(job.error());
    PlantedRequest planted;
    const api::CompletionRequest::Prompt& prompt = request->prompts.front();
    planted.prompt = prompt.is_tokens ? model->tokenizer.decode(prompt.tokens) : prompt.text;
    if (refuses_to_plant(service, call, *model, std::move(planted), *job)) return;
    start_job(service, call, model, std::move(*job),
              completion_format(new_identity(service, "cmpl-"), request->include_usage));
}

}  // namespace retort::serve
