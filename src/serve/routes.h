// The table of routes: what a path is called, which methods it takes, who may call it. Private to this part.
#pragma once

#include <memory>
#include <string_view>

#include "serve/call.h"

namespace retort::serve {

using Handler = void (*)(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);

struct Route {
    std::string_view path;     // one that ends in '/' takes whatever follows it, which must not be empty
    std::string_view methods;  // as the header Allow has them
    Handler answer;
    bool needs_key = true;
    bool needs_model = true;  // else `model` may be null
};

// Null: no such route. `path` has no '/' at its end.
const Route* find_route(std::string_view path);

void answer_page(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);
void answer_health(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);
void answer_metrics(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);
void answer_models(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);
void answer_model(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);
void answer_chat(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);
void answer_embeddings(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);
void answer_tokenize(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);
void answer_detokenize(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);
void answer_published(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);
void answer_completion(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model);

}  // namespace retort::serve
