// POST /v1/chat/completions
#include "serve/requests.h"
#include "serve/routes.h"

namespace retort::serve {

void answer_chat(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model) {
    auto request = api::parse_chat_request(call.request.body);
    if (!request) return call.send(request.error());
    if (refuses(service, call, *model, request->model)) return;
    if (!model->render) {
        return call.send(
            api::invalid_value("messages", "This model has no chat template; use /v1/completions instead."));
    }
    auto job = prepare_chat(*model, *request, service.grammars);
    if (!job) return call.send(job.error());
    PlantedRequest planted;
    for (const api::ChatMessage& message : request->messages) {
        planted.messages.push_back({{"role", message.role}, {"content", message.content}});
    }
    planted.last_question = request->messages.back().content;
    if (refuses_to_plant(service, call, *model, std::move(planted), *job)) return;
    start_job(service, call, model, std::move(*job),
              chat_format(new_identity(service, "chatcmpl-"), request->include_usage));
}

}  // namespace retort::serve
