#include "serve/request_sketch.h"

#include <array>

namespace retort::serve {

namespace {

namespace dom = simdjson::dom;

// A text, or the text parts of a list, which are joined in `room` when there are several.
std::string_view text_of(const dom::element& content, std::string& room) {
    std::string_view text;
    if (content.get(text) == simdjson::SUCCESS) return text;
    dom::array parts;
    if (content.get(parts) != simdjson::SUCCESS) return {};
    room.clear();
    std::size_t found = 0;
    for (const dom::element part : parts) {
        if (part["text"].get(text) != simdjson::SUCCESS && part.get(text) != simdjson::SUCCESS) continue;
        if (++found > 1) room += '\n';
        room += text;
    }
    return room;
}

bool read_messages(const dom::array& messages, guard::PromptView& view, std::array<std::string, 3>& rooms) {
    bool first = true;
    for (const dom::element message : messages) {
        std::string_view role;
        dom::element content;
        if (message["role"].get(role) != simdjson::SUCCESS) return false;
        if (message["content"].get(content) != simdjson::SUCCESS) continue;  // of a tool's call
        const bool system = role == "system" || role == "developer";
        std::string& room = first && system ? rooms[0] : role == "user" ? rooms[1] : rooms[2];
        const std::string_view text = text_of(content, room);
        guard::add_message(view, role, text);
        if (first && system) view.system = text;
        if (role == "user") view.user = text;
        if (role == "assistant") view.follow_up = true;
        first = false;
    }
    return !first;
}

}  // namespace

std::string sketch_request(const guard::SketchKey& key, const dom::object& body) {
    thread_local std::array<std::string, 3> rooms;
    guard::PromptView view;
    dom::array messages;
    dom::element prompt;
    if (body["messages"].get(messages) == simdjson::SUCCESS) {
        if (!read_messages(messages, view, rooms)) return {};
    } else if (body["prompt"].get(prompt) == simdjson::SUCCESS) {
        view.user = text_of(prompt, rooms[0]);
        if (view.user.empty()) return {};
        guard::add_message(view, "user", view.user);
    } else {
        return {};
    }
    dom::element bias;
    std::string bias_text;
    if (body["logit_bias"].get(bias) == simdjson::SUCCESS && !bias.is_null()) {
        bias_text = simdjson::minify(bias);
        if (bias_text != "{}") view.logit_bias = bias_text;
    }
    return guard::write_sketch(guard::sketch_prompt(key, view));
}

}  // namespace retort::serve
