// POST /tokenize and /detokenize
#include "api/embeddings.h"
#include "serve/routes.h"

namespace retort::serve {

void answer_tokenize(const Service& /*service*/, Call& call,
                     const std::shared_ptr<const ServedModel>& model) {
    auto request = api::parse_tokenize_request(call.request.body);
    if (!request) return call.send(request.error());
    text::EncodeOptions options;
    options.add_special_tokens = request->add_special_tokens;
    if (request->chat) {
        if (!model->render)
            return call.send(api::invalid_value("messages", "This model has no chat template."));
        auto prompt = model->render(*request->chat);
        if (!prompt) {
            return call.send(api::invalid_value(
                "messages",
                fmt::format("The model's chat template refuses these messages: {}", prompt.error().message)));
        }
        request->text = std::move(*prompt);
        options.add_special_tokens = false;  // the template writes its own
    }
    const std::vector<std::int32_t> tokens = model->tokenizer.encode(request->text, options);
    std::vector<std::string> pieces;
    if (request->with_pieces) {
        for (const std::int32_t token : tokens) pieces.emplace_back(model->tokenizer.token_text(token));
    }
    call.send(200, api::write_tokenize_response(tokens, pieces, model->engine->context_length()));
}

void answer_detokenize(const Service& /*service*/, Call& call,
                       const std::shared_ptr<const ServedModel>& model) {
    const auto tokens = api::parse_detokenize_request(call.request.body);
    if (!tokens) return call.send(tokens.error());
    call.send(200, api::write_detokenize_response(model->tokenizer.decode(*tokens)));
}

}  // namespace retort::serve
