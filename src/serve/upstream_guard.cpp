// Another server's answer, cut before it repeats a protected work. What of it cannot be understood does not
// leave: logprobs of the old completions, tool calls before they are whole.
#include <algorithm>

#include "serve/upstream_answer.h"

namespace retort::serve {

namespace {

using Json = nlohmann::ordered_json;

std::int64_t index_in(const Json& object) {
    const auto found = object.find("index");
    return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

// The text of a member; of a list of parts, that of all of them.
std::string text_in(const Json& object, const char* name) {
    const auto found = object.find(name);
    if (found == object.end()) return {};
    if (found->is_string()) return found->get<std::string>();
    std::string text;
    if (!found->is_array()) return text;
    for (const Json& part : *found) {
        if (part.is_string()) text += part.get<std::string>();
        if (part.is_object()) text += text_in(part, "text");
    }
    return text;
}

std::string reasoning_of(const Json& object, const char*& named) {
    std::string text;
    for (const char* name : reasoning_names) {
        if (!object.contains(name)) continue;
        named = name;
        text += text_in(object, name);
    }
    return text;
}

void set_text(Json& object, const char* name, std::string text) {
    const auto found = object.find(name);
    if (found != object.end() && found->is_null() && text.empty()) return;
    if (found != object.end() || !text.empty()) object[name] = std::move(text);
}

// Arguments of calls, fragments of one call put together.
std::vector<std::string> call_arguments(const Json& calls) {
    std::map<std::int64_t, std::string> whole;
    std::int64_t next = 0;
    for (const Json& call : calls) {
        if (!call.is_object()) continue;
        const std::int64_t at = call.contains("index") ? index_in(call) : next++;
        if (call.contains("function") && call["function"].is_object())
            whole[at] += text_in(call["function"], "arguments");
    }
    std::vector<std::string> out;
    out.reserve(whole.size());
    for (auto& [at, text] : whole) out.push_back(std::move(text));
    return out;
}

bool may_leave(ChoiceGuard& guard, const Json& calls) {
    const std::vector<std::string> arguments = call_arguments(calls);
    return std::all_of(arguments.begin(), arguments.end(),
                       [&](const std::string& each) { return guard.may_leave(each); });
}

}  // namespace

UpstreamAnswer::GuardedChoice& UpstreamAnswer::guarded(const Json& choice) {
    const auto at = index_in(choice);
    const auto found = guards_.find(at);
    if (found != guards_.end()) return found->second;
    return guards_.emplace(at, GuardedChoice{.guard = ChoiceGuard(*rules_.works)}).first->second;
}

void UpstreamAnswer::guard_delta(Json& choice, GuardedChoice& state) {
    const bool chat = choice.contains("delta") && choice["delta"].is_object();
    Json& holder = chat ? choice["delta"] : choice;
    const char* content_name = chat ? "content" : "text";
    const char* reasoning_name = reasoning_names[0];
    const bool ends = choice.contains("finish_reason") && choice["finish_reason"].is_string();
    auto parts = state.guard.push(reasoning_of(holder, reasoning_name), text_in(holder, content_name));
    if (holder.contains("tool_calls")) {
        if (holder["tool_calls"].is_array()) {
            for (Json& call : holder["tool_calls"]) state.held_calls.push_back(std::move(call));
        }
        holder.erase("tool_calls");
    }
    if (ends) {
        ChoiceGuard::Parts rest = state.guard.finish();
        parts.reasoning += rest.reasoning;
        parts.content += rest.content;
        if (!state.held_calls.empty() && !state.guard.blocked() && may_leave(state.guard, state.held_calls)) {
            holder["tool_calls"] = std::move(state.held_calls);
        }
    }
    for (const char* name : reasoning_names) {
        if (name != reasoning_name) holder.erase(name);
    }
    set_text(holder, reasoning_name, std::move(parts.reasoning));
    set_text(holder, content_name, std::move(parts.content));
    if (choice.contains("logprobs")) {
        Json& logprobs = choice["logprobs"];
        if (logprobs.is_object() && logprobs.contains("content") && logprobs["content"].is_array()) {
            for (Json& entry : logprobs["content"]) state.held_logprobs.push_back(std::move(entry));
        }
        logprobs = nullptr;
    }
    if (state.guard.blocked()) {
        choice["finish_reason"] = "content_filter";
        return;
    }
    if (state.guard.holds_nothing() && !state.held_logprobs.empty()) {
        choice["logprobs"] = {{"content", std::exchange(state.held_logprobs, Json::array())}};
    }
}

bool UpstreamAnswer::guard_frame(Json& json) {
    Json kept = Json::array();
    const bool had_choices = !json["choices"].empty();
    for (Json& choice : json["choices"]) {
        if (!choice.is_object()) continue;
        GuardedChoice& state = guarded(choice);
        if (state.ended) continue;
        guard_delta(choice, state);
        state.ended = choice.contains("finish_reason") && choice["finish_reason"].is_string();
        kept.push_back(std::move(choice));
    }
    const bool says_something = !kept.empty() || !had_choices || json.contains("usage");
    json["choices"] = std::move(kept);
    return says_something;
}

void UpstreamAnswer::guard_whole(Json& json) {
    for (Json& choice : json["choices"]) {
        if (!choice.is_object()) continue;
        ChoiceGuard guard(*rules_.works);
        const bool chat = choice.contains("message") && choice["message"].is_object();
        Json& holder = chat ? choice["message"] : choice;
        const char* content_name = chat ? "content" : "text";
        const char* reasoning_name = reasoning_names[0];
        auto parts = guard.push(reasoning_of(holder, reasoning_name), text_in(holder, content_name));
        ChoiceGuard::Parts rest = guard.finish();
        if (holder.contains("tool_calls") && holder["tool_calls"].is_array() &&
            (guard.blocked() || !may_leave(guard, holder["tool_calls"]))) {
            holder.erase("tool_calls");
        }
        if (!guard.blocked()) continue;
        for (const char* name : reasoning_names) {
            if (name != reasoning_name) holder.erase(name);
        }
        set_text(holder, reasoning_name, parts.reasoning + rest.reasoning);
        set_text(holder, content_name, parts.content + rest.content);
        if (choice.contains("logprobs")) choice["logprobs"] = nullptr;
        choice["finish_reason"] = "content_filter";
    }
}

}  // namespace retort::serve
