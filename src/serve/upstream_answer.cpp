#include "serve/upstream_answer.h"

#include <simdjson.h>

#include <nlohmann/json.hpp>

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

}  // namespace

bool UpstreamAnswer::read_usage(std::string_view json, bool& only_usage) {
    only_usage = false;
    if (json.find("\"usage\"") == std::string_view::npos) return false;
    thread_local simdjson::dom::parser parser;
    simdjson::dom::element root;
    simdjson::dom::object usage;
    if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) return false;
    if (root["usage"].get(usage) != simdjson::SUCCESS) return false;
    const simdjson::dom::element fields = root["usage"].value_unsafe();
    use_ = {number(fields, "prompt_tokens"), 0, number(fields, "completion_tokens"), 0};
    simdjson::dom::element details;
    if (fields["prompt_tokens_details"].get(details) == simdjson::SUCCESS && details.is_object()) {
        use_.cached_tokens = number(details, "cached_tokens");
    }
    if (fields["completion_tokens_details"].get(details) == simdjson::SUCCESS && details.is_object()) {
        use_.reasoning_tokens = number(details, "reasoning_tokens");
    }
    told_ = true;
    simdjson::dom::array choices;
    only_usage = root["choices"].get(choices) == simdjson::SUCCESS && choices.size() == 0;
    return true;
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
        return std::string(text);
    }
    bool only_usage = false;
    const bool usage = read_usage(data, only_usage);
    if (usage && only_usage && hide_usage_) return std::nullopt;
    if (!told_ && (data.find("\"content\"") != std::string_view::npos || may_have_reasoning(data) ||
                   data.find("\"text\"") != std::string_view::npos)) {
        ++use_.completion_tokens;
    }
    if (reasoning_ == ReasoningAccess::full && !works_) return std::string(text);
    // Where reasoning may begin or end, that is in every frame of content.
    auto json = Json::parse(data, nullptr, false);
    if (!json.is_object() || !json.contains("choices") || !json["choices"].is_array()) {
        // An error is passed on; what cannot be read could hold anything.
        if (works_ && !json.is_object()) return std::nullopt;
        return std::string(text);
    }
    bool changed = false;
    for (auto& choice : json["choices"]) {
        if (reasoning_ == ReasoningAccess::full) break;
        if (!choice.is_object() || !choice.contains("delta") || !choice["delta"].is_object()) continue;
        auto& delta = choice["delta"];
        const std::int64_t index = choice.contains("index") && choice["index"].is_number_integer()
                                       ? choice["index"].get<std::int64_t>()
                                       : 0;
        ReasoningFilter& filter = filters_.try_emplace(index, reasoning_).first->second;
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
            if (!content && choice.contains("logprobs")) choice["logprobs"] = nullptr;
        }
        if (std::string shown = filter.pass(piece, ended); !shown.empty()) {
            delta[named] = std::move(shown);
            changed = true;
        }
    }
    if (works_) {
        if (!guard_frame(json)) return std::nullopt;
        changed = true;
    }
    return changed ? "data: " + dump(json) + "\n\n" : std::string(text);
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
    read_usage(body, only_usage);
    const bool filter = reasoning_ != ReasoningAccess::full && may_have_reasoning(body);
    if (!filter && !works_) return body;
    auto json = Json::parse(body, nullptr, false);
    if (!json.is_object() || !json.contains("choices") || !json["choices"].is_array()) return body;
    for (auto& choice : json["choices"]) {
        if (!filter) break;
        if (!choice.is_object() || !choice.contains("message") || !choice["message"].is_object()) continue;
        auto& message = choice["message"];
        for (const char* name : reasoning_names) {
            if (!message.contains(name)) continue;
            const std::string text = message[name].is_string() ? message[name].get<std::string>() : "";
            const std::string shown = ReasoningFilter(reasoning_).pass(text, true);
            if (shown.empty()) {
                message.erase(name);
            } else {
                message[name] = shown;
            }
        }
    }
    if (works_) guard_whole(json);
    return dump(json);
}

bool is_error_answer(std::string_view body) {
    thread_local simdjson::dom::parser parser;
    simdjson::dom::element error;
    if (parser.parse(body.data(), body.size())["error"].get(error) != simdjson::SUCCESS) return false;
    return error.is_object() || error.is_string();
}

std::string ask_for_usage(const std::string& body) {
    auto json = Json::parse(body, nullptr, false);
    if (!json.is_object()) return body;
    if (!json.contains("stream_options") || !json["stream_options"].is_object()) {
        json["stream_options"] = Json::object();
    }
    json["stream_options"]["include_usage"] = true;
    return dump(json);
}

}  // namespace retort::serve
