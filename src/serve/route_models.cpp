// GET /health, /metrics, /v1/models and /v1/models/{id}
#include "api/chat_response.h"
#include "serve/routes.h"

namespace retort::serve {

namespace {

api::ModelCard card(const Service& service, const ServedModel& model) {
    return {service.options.model_id, service.created, "retort", model.engine->context_length()};
}

}  // namespace

void answer_health(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model) {
    if (service.options.forwarder) {
        if (service.options.forwarder->is_ready()) return call.send(200, R"({"status":"ok"})");
        return call.send(api::unavailable("No upstream server answers."));
    }
    if (model) return call.send(200, R"({"status":"ok"})");
    call.send(api::unavailable("The model is still being loaded."));
}

void answer_metrics(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model) {
    generate::EngineStatistics statistics;
    if (model) statistics = model->engine->statistics();
    call.headers.set("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
    std::string text = service.metrics.text(model ? &statistics : nullptr);
    if (service.options.admission) text += service.options.admission->metrics();
    if (service.options.forwarder) text += service.options.forwarder->metrics();
    call.send(200, std::move(text));
}

void answer_models(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model) {
    call.send(200, api::write_models({card(service, *model)}));
}

void answer_model(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model) {
    constexpr std::string_view prefix = "/v1/models/";
    const std::string id = percent_decoded(std::string_view(call.request.path).substr(prefix.size()));
    if (id != service.options.model_id) return call.send(api::model_not_found(id));
    call.send(200, api::write_model(card(service, *model)));
}

}  // namespace retort::serve
