#include "serve/upstream_answer.h"

#include <simdjson.h>

#include <nlohmann/json.hpp>

#include "serve/request_facts.h"

namespace retort::serve {

namespace {

using Json = nlohmann::ordered_json;  // as UpstreamAnswer::Json

std::int64_t number(const simdjson::dom::element& object, std::string_view name) {
    std::int64_t value = 0;
    if (object[name].get(value) != simdjson::SUCCESS) return 0;
    return std::max<std::int64_t>(value, 0);
}

std::string dump(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool may_have_reasoning(std::string_view text) {
    return text.find("\"reasoning") != std::string_view::npos;
}

// Whether a member that holds generated text is there and not empty.
bool says_something(std::string_view data) {
    for (const std::string_view name :
         {"\"content\"", "\"text\"", "\"reasoning\"", "\"reasoning_content\"", "\"arguments\""}) {
        for (std::size_t at = data.find(name); at != std::string_view::npos; at = data.find(name, at)) {
            at = data.find_first_not_of(" \t\r\n:", at + name.size());
            if (at == std::string_view::npos || data[at] != '"') continue;
            if (at + 1 < data.size() && data[at + 1] != '"') return true;
        }
    }
    return false;
}

bool has_choices(const Json& json) {
    return json.is_object() && json.contains("choices") && json["choices"].is_array();
}

void append_text(std::string& out, const Json& holder) {
    for (const char* name : {"content", "text", reasoning_names[0], reasoning_names[1]}) {
        if (const auto found = holder.find(name); found != holder.end() && found->is_string())
            out += found->get_ref<const std::string&>();
    }
    const auto calls = holder.find("tool_calls");
    if (calls == holder.end() || !calls->is_array()) return;
    for (const Json& call : *calls) {
        if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) continue;
        for (const char* name : {"name", "arguments"}) {
            const auto found = call["function"].find(name);
            if (found != call["function"].end() && found->is_string())
                out += found->get_ref<const std::string&>();
        }
    }
}

}  // namespace

bool UpstreamAnswer::read_usage(std::string_view json, bool& only_usage) {
    only_usage = false;
    if (json.find("\"usage\"") == std::string_view::npos &&
        json.find("\"timings\"") == std::string_view::npos) {
        return false;
    }
    thread_local simdjson::dom::parser parser;
    simdjson::dom::element root;
    simdjson::dom::object usage;
    if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) return false;
    simdjson::dom::element fields;
    if (root["usage"].get(usage) != simdjson::SUCCESS) {
        // llama-server's use so far.
        std::int64_t count = 0;
        if (root["timings"].get(fields) != simdjson::SUCCESS ||
            fields["predicted_n"].get(count) != simdjson::SUCCESS) {
            return false;
        }
        use_.completion_tokens = std::max<std::int64_t>(count, 0);
        if (fields["cache_n"].get(count) == simdjson::SUCCESS) {
            use_.cached_tokens = std::max<std::int64_t>(count, 0);
            use_.prompt_tokens = number(fields, "prompt_n") + use_.cached_tokens;
        }
        frames_since_ = 0;
        return told_ = true;
    }
    fields = root["usage"].value_unsafe();
    use_ = {number(fields, "prompt_tokens"), 0, number(fields, "completion_tokens"), 0};
    simdjson::dom::element details;
    if (fields["prompt_tokens_details"].get(details) == simdjson::SUCCESS && details.is_object()) {
        use_.cached_tokens = number(details, "cached_tokens");
    }
    if (fields["completion_tokens_details"].get(details) == simdjson::SUCCESS && details.is_object()) {
        use_.reasoning_tokens = number(details, "reasoning_tokens");
    }
    told_ = true;
    frames_since_ = 0;
    spoken_.clear();
    simdjson::dom::array choices;
    only_usage = root["choices"].get(choices) == simdjson::SUCCESS && choices.size() == 0;
    return true;
}

TokenUse UpstreamAnswer::use() const {
    TokenUse out = use_;
    if (told_ || !rules_.tokens) {
        out.completion_tokens += frames_since_;
        return out;
    }
    for (const auto& [index, text] : spoken_) out.completion_tokens += rules_.tokens->count(text);
    return out;
}

// Use so far goes on as the client would have had it without our asking.
bool UpstreamAnswer::hide_stats(Json& json) const {
    if (!rules_.hide_running || json["choices"].empty()) return false;
    bool changed = false;
    if (const auto usage = json.find("usage"); usage != json.end() && !usage->is_null()) {
        if (rules_.hide_usage) {
            json.erase(usage);
        } else {
            *usage = nullptr;
        }
        changed = true;
    }
    const Json& choice = json["choices"].front();
    const bool ends =
        choice.is_object() && choice.contains("finish_reason") && choice["finish_reason"].is_string();
    return (!ends && json.erase("timings") > 0) || changed;
}

void UpstreamAnswer::collect(const Json& json) {
    for (const Json& choice : json["choices"]) {
        if (!choice.is_object()) continue;
        const auto index = choice.find("index");
        std::string& text =
            spoken_[index != choice.end() && index->is_number_integer() ? index->get<std::int64_t>() : 0];
        append_text(text, choice);
        for (const char* name : {"delta", "message"}) {
            if (const auto holder = choice.find(name); holder != choice.end() && holder->is_object())
                append_text(text, *holder);
        }
    }
}

std::optional<std::string> UpstreamAnswer::frame(std::string_view text) {
    constexpr std::string_view field = "data:";
    const std::size_t at = text.starts_with(field) ? 0 : text.find("\ndata:");
    if (at == std::string_view::npos) return std::string(text);
    std::string_view data = text.substr(at + (at == 0 ? field.size() : field.size() + 1));
    data.remove_prefix(std::min(data.find_first_not_of(' '), data.size()));
    while (!data.empty() && (data.back() == '\n' || data.back() == '\r')) data.remove_suffix(1);
    if (data == "[DONE]") {
        done_ = true;
        return think_rest() + std::string(text);
    }
    bool only_usage = false;
    const bool told = read_usage(data, only_usage);
    if (told && only_usage && rules_.hide_usage) return std::nullopt;
    if (!told && says_something(data)) ++frames_since_;
    const bool collects = rules_.tokens && !told_;
    if (rules_.reasoning == ReasoningAccess::full && !rules_.works && !think_.wants_frames() &&
        !(told && rules_.hide_running) && !collects) {
        return std::string(text);
    }
    // Where reasoning may begin or end, that is in every frame of content.
    auto json = Json::parse(data, nullptr, false);
    if (!has_choices(json)) {
        // An error is passed on; what cannot be read could hold anything.
        if (rules_.works && !json.is_object()) return std::nullopt;
        return std::string(text);
    }
    if (collects) collect(json);
    bool changed = hide_stats(json);
    if (think_.wants_frames()) changed = think_.split_frame(json) || changed;
    return pass(json, changed, text);
}

std::optional<std::string> UpstreamAnswer::pass(Json& json, bool changed, std::string_view text) {
    changed = filter_frame(json) || changed;
    if (rules_.works) {
        if (!guard_frame(json)) return std::nullopt;
        changed = true;
    }
    return changed ? "data: " + dump(json) + "\n\n" : std::string(text);
}

bool UpstreamAnswer::filter_frame(Json& json) {
    if (rules_.reasoning == ReasoningAccess::full) return false;
    bool changed = false;
    for (auto& choice : json["choices"]) {
        if (!choice.is_object() || !choice.contains("delta") || !choice["delta"].is_object()) continue;
        auto& delta = choice["delta"];
        const std::int64_t index = choice.contains("index") && choice["index"].is_number_integer()
                                       ? choice["index"].get<std::int64_t>()
                                       : 0;
        ReasoningFilter& filter = filters_.try_emplace(index, rules_.reasoning).first->second;
        const bool content = delta.contains("content") && delta["content"].is_string() &&
                             !delta["content"].get_ref<const std::string&>().empty();
        const bool ended =
            content || (choice.contains("finish_reason") && choice["finish_reason"].is_string());
        std::string piece;
        const char* named = reasoning_names[0];
        for (const char* name : reasoning_names) {
            if (!delta.contains(name)) continue;
            if (delta[name].is_string()) piece += delta[name].get<std::string>();
            named = name;
            delta.erase(name);
            changed = true;
            // The tokens of hidden reasoning would tell it.
            if ((!piece.empty() || !content) && choice.contains("logprobs")) choice["logprobs"] = nullptr;
        }
        if (std::string shown = filter.pass(piece, ended); !shown.empty()) {
            delta[named] = std::move(shown);
            changed = true;
        }
    }
    return changed;
}

std::string UpstreamAnswer::think_rest() {
    Json json = think_.rest();
    if (json.is_null()) return {};
    return pass(json, true, {}).value_or("");
}

std::string UpstreamAnswer::rest() {
    std::string held = done_ ? "" : think_rest();
    if (!rules_.works) held += buffer_;
    buffer_.clear();
    return held;
}

std::string UpstreamAnswer::frames(std::string_view bytes) {
    buffer_ += bytes;
    std::string out;
    std::size_t begin = 0;
    for (;;) {
        std::size_t end = buffer_.find("\n\n", begin);
        std::size_t width = 2;
        if (const std::size_t other = buffer_.find("\r\n\r\n", begin); other < end) {
            end = other;
            width = 4;
        }
        if (end == std::string::npos) break;
        end += width;
        if (auto passed = frame(std::string_view(buffer_).substr(begin, end - begin))) out += *passed;
        begin = end;
    }
    buffer_.erase(0, begin);
    return out;
}

std::string UpstreamAnswer::whole(std::string body) {
    bool only_usage = false;
    const bool guesses = !read_usage(body, only_usage) && rules_.generates;
    const bool filter = rules_.reasoning != ReasoningAccess::full && may_have_reasoning(body);
    // Some servers write < as \u003c.
    const bool split = rules_.think != ThinkTags::as_is && body.find("think") != std::string::npos;
    if (!filter && !split && !guesses && !rules_.works) return body;
    auto json = Json::parse(body, nullptr, false);
    if (!has_choices(json)) return body;
    if (guesses) {
        collect(json);
        if (!rules_.tokens) {
            for (const auto& [index, text] : spoken_) frames_since_ += guess_prompt_tokens(text);
        }
    }
    bool changed = split && think_.split_whole(json);
    for (auto& choice : json["choices"]) {
        if (rules_.reasoning == ReasoningAccess::full) break;
        if (!choice.is_object() || !choice.contains("message") || !choice["message"].is_object()) continue;
        auto& message = choice["message"];
        for (const char* name : reasoning_names) {
            if (!message.contains(name)) continue;
            changed = true;
            const std::string text = message[name].is_string() ? message[name].get<std::string>() : "";
            const std::string shown = ReasoningFilter(rules_.reasoning).pass(text, true);
            if (!text.empty() && choice.contains("logprobs")) choice["logprobs"] = nullptr;
            if (shown.empty()) {
                message.erase(name);
            } else {
                message[name] = shown;
            }
        }
    }
    if (rules_.works) {
        guard_whole(json);
        changed = true;
    }
    return changed ? dump(json) : body;
}

bool is_error_answer(std::string_view body) {
    thread_local simdjson::dom::parser parser;
    simdjson::dom::element error;
    if (parser.parse(body.data(), body.size())["error"].get(error) != simdjson::SUCCESS) return false;
    return error.is_object() || error.is_string();
}

std::string ask_for_usage(const std::string& body, bool running) {
    auto json = Json::parse(body, nullptr, false);
    if (!json.is_object()) return body;
    if (!json.contains("stream_options") || !json["stream_options"].is_object()) {
        json["stream_options"] = Json::object();
    }
    json["stream_options"]["include_usage"] = true;
    if (running) {
        json["stream_options"]["continuous_usage_stats"] = true;
        json["timings_per_token"] = true;
    }
    return dump(json);
}

}  // namespace retort::serve
