#include "serve/routes.h"

#include <array>

#include "serve/pages.h"

namespace retort::serve {

const Route* find_route(std::string_view path) {
    static constexpr std::string_view reads = "GET, HEAD, OPTIONS";
    static constexpr std::string_view posts = "POST, OPTIONS";
    static constexpr auto routes = std::to_array<Route>({
        {"/health", reads, answer_health, false, false},
        {"/metrics", reads, answer_metrics, true, false},
        {"/v1/models", reads, answer_models},
        {"/v1/models/", reads, answer_model},
        {"/v1/chat/completions", posts, answer_chat},
        {"/v1/completions", posts, answer_completion},
        {"/v1/embeddings", posts, answer_embeddings},
        {"/tokenize", posts, answer_tokenize},
        {"/detokenize", posts, answer_detokenize},
        {"/audit/commitment.json", reads, answer_published, false, false},
        {"/audit/roots.jsonl", reads, answer_published, false, false},
        {"/config.json", reads, answer_page, false, false},
    });
    for (const Route& route : routes) {
        const bool found = route.path.ends_with('/')
                               ? path.starts_with(route.path) && path.size() > route.path.size()
                               : path == route.path;
        if (found) return &route;
    }
    static constexpr Route page{"", reads, answer_page, false, false};
    for (const Page& one : pages()) {
        if (one.path == path) return &page;
    }
    return nullptr;
}

}  // namespace retort::serve
