#include "serve/upstream_think.h"

#include "serve/upstream_answer.h"

namespace retort::serve {

namespace {

using Json = nlohmann::ordered_json;
using Parts = generate::ReasoningSplitter::Parts;

bool has_text(const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() && !found->get_ref<const std::string&>().empty();
}

// The server tells reasoning apart by itself.
bool has_reasoning(const Json& object) {
    return has_text(object, reasoning_names[0]) || has_text(object, reasoning_names[1]);
}

void set_parts(Json& holder, Parts parts) {
    holder["content"] = std::move(parts.content);
    if (!parts.reasoning.empty()) holder[reasoning_names[0]] = std::move(parts.reasoning);
}

std::int64_t index_of(const Json& choice) {
    const auto found = choice.find("index");
    return found != choice.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

}  // namespace

void ThinkSplit::decide(Choice& state) {
    if (state.decided) return;
    state.decided = true;
    --undecided_;
}

bool ThinkSplit::split_delta(Choice& state, Json& choice) {
    Json& delta = choice["delta"];
    const bool ends = choice.contains("finish_reason") && choice["finish_reason"].is_string();
    if (has_reasoning(delta)) {
        decide(state);
        return false;
    }
    const std::string before = has_text(delta, "content") ? delta["content"].get<std::string>() : "";
    if (before.empty() && !ends) return false;
    Parts parts = state.splitter.push(before);
    if (ends) {
        Parts last = state.splitter.finish();
        parts.reasoning += last.reasoning;
        parts.content += last.content;
    }
    // Content once begun is content to the end, and nothing is held back any more.
    if (ends || !parts.content.empty()) decide(state);
    if (parts.content == before && parts.reasoning.empty()) return false;
    set_parts(delta, std::move(parts));
    return true;
}

bool ThinkSplit::split_frame(Json& json) {
    bool changed = false;
    for (Json& choice : json["choices"]) {
        if (!choice.is_object() || !choice.contains("delta") || !choice["delta"].is_object()) continue;
        const std::int64_t index = index_of(choice);
        auto found = choices_.find(index);
        if (found == choices_.end()) {
            if (static_cast<std::int64_t>(choices_.size()) >= limit_) continue;
            Choice fresh{generate::ReasoningSplitter(tags_ == ThinkTags::opened)};
            found = choices_.emplace(index, std::move(fresh)).first;
        }
        if (!found->second.decided) changed = split_delta(found->second, choice) || changed;
    }
    if (undecided_ > 0) {
        head_ = Json::object();
        for (const auto& [name, value] : json.items()) {
            if (name != "choices" && name != "usage" && name != "timings") head_[name] = value;
        }
    }
    return changed;
}

Json ThinkSplit::rest() {
    Json out;
    for (auto& [index, state] : choices_) {
        if (state.decided) continue;
        Parts parts = state.splitter.finish();
        decide(state);
        if (parts.content.empty() && parts.reasoning.empty()) continue;
        if (out.is_null()) {
            out = head_;
            out["choices"] = Json::array();
        }
        Json choice = {{"index", index}, {"delta", Json::object()}, {"finish_reason", nullptr}};
        set_parts(choice["delta"], std::move(parts));
        out["choices"].push_back(std::move(choice));
    }
    return out;
}

bool ThinkSplit::split_whole(Json& json) const {
    bool changed = false;
    for (Json& choice : json["choices"]) {
        if (!choice.is_object() || !choice.contains("message") || !choice["message"].is_object()) continue;
        Json& message = choice["message"];
        if (has_reasoning(message) || !has_text(message, "content")) continue;
        const std::string before = message["content"].get<std::string>();
        generate::ReasoningSplitter splitter(tags_ == ThinkTags::opened);
        Parts parts = splitter.push(before);
        Parts last = splitter.finish();
        parts.reasoning += last.reasoning;
        parts.content += last.content;
        if (parts.content == before && parts.reasoning.empty()) continue;
        set_parts(message, std::move(parts));
        changed = true;
    }
    return changed;
}

}  // namespace retort::serve
