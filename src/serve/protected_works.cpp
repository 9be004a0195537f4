#include "serve/protected_works.h"

#include <nlohmann/json.hpp>
#include <vector>

namespace retort::serve {

std::string ChoiceGuard::pass(std::string_view text) {
    held_ += text.size();
    std::string out = guard_.push(text);
    held_ -= out.size();
    return out;
}

std::string ChoiceGuard::flush() {
    std::string out = guard_.finish();
    held_ = 0;
    return out;
}

ChoiceGuard::Parts ChoiceGuard::push(std::string_view reasoning, std::string_view content) {
    Parts parts;
    if (!reasoning.empty() && !in_content_) parts.reasoning = pass(reasoning);
    if (content.empty()) return parts;
    if (!in_content_) {
        parts.reasoning += flush();
        in_content_ = true;
    }
    parts.content = pass(content);
    return parts;
}

ChoiceGuard::Parts ChoiceGuard::finish() {
    Parts parts;
    (in_content_ ? parts.content : parts.reasoning) = flush();
    return parts;
}

bool ChoiceGuard::may_leave(std::string_view json) {
    using Json = nlohmann::json;
    const Json parsed = Json::parse(json, nullptr, false);
    std::vector<const Json*> open = {&parsed};
    std::string text = parsed.is_discarded() ? std::string(json) : std::string();
    while (!open.empty()) {
        const Json* value = open.back();
        open.pop_back();
        if (value->is_string()) text += value->get_ref<const std::string&>() + "\n";
        if (!value->is_structured()) continue;
        // The last one first: they come off the back in order.
        std::vector<const Json*> inside;
        for (const Json& each : *value) inside.push_back(&each);
        open.insert(open.end(), inside.rbegin(), inside.rend());
    }
    (void)pass(text);
    (void)flush();
    return !blocked();
}

}  // namespace retort::serve
