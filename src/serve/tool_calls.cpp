#include "serve/tool_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "serve/call.h"

namespace retort::serve {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view open_call = "<tool_call>";
constexpr std::string_view close_call = "</tool_call>";
constexpr std::string_view mistral_mark = "[TOOL_CALLS]";
constexpr std::string_view mistral_arguments = "[ARGS]";
constexpr std::string_view python_tag = "<|python_tag|>";
constexpr std::string_view blanks = " \t\r\n";
constexpr int max_call_depth = 64;

bool is_deep(std::string_view text) {
    int depth = 0;
    int deepest = 0;
    for (const char c : text) {
        if (c == '{' || c == '[') deepest = std::max(deepest, ++depth);
        if (c == '}' || c == ']') --depth;
    }
    return deepest > max_call_depth;
}

Json parsed(std::string_view text) {
    if (is_deep(text)) return Json(Json::value_t::discarded);
    return Json::parse(text, nullptr, false);
}

// The length of the longest end of `text` that may be the beginning of `mark`, white space before it
// included.
std::size_t maybe_mark(std::string_view text, std::string_view mark) {
    std::size_t kept = 0;
    for (std::size_t length = std::min(text.size(), mark.size() - 1); length > 0 && kept == 0; --length) {
        if (text.ends_with(mark.substr(0, length))) kept = length;
    }
    const std::string_view before = text.substr(0, text.size() - kept);
    const std::size_t end = before.find_last_not_of(blanks);
    return text.size() - (end == std::string_view::npos ? 0 : end + 1);
}

// The end of the first JSON object of the text; 0: it has not ended.
std::size_t object_end(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{') {
            ++depth;
        } else if (c == '}' && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

}  // namespace

ToolStyle tool_style_of(std::string_view chat_template) {
    const auto has = [&](std::string_view text) {
        return chat_template.find(text) != std::string_view::npos;
    };
    if (!has("tools")) return ToolStyle::none;
    if (has(open_call)) return ToolStyle::hermes;
    if (has(mistral_mark)) return has(mistral_arguments) ? ToolStyle::mistral_v11 : ToolStyle::mistral;
    if (has(python_tag) || (has("ipython") && has("\"parameters\""))) return ToolStyle::llama3;
    return ToolStyle::unknown;
}

std::vector<std::string> tool_marks(ToolStyle style) {
    switch (style) {
        case ToolStyle::hermes:
            return {std::string(open_call), std::string(close_call)};
        case ToolStyle::llama3:
            return {std::string(python_tag)};
        case ToolStyle::mistral:
        case ToolStyle::mistral_v11:
            return {std::string(mistral_mark), std::string(mistral_arguments)};
        default:
            return {};
    }
}

ToolCallParser::Parts ToolCallParser::push(std::string_view text) {
    held_ += text;
    Parts parts;
    step(parts, false);
    return parts;
}

ToolCallParser::Parts ToolCallParser::finish() {
    Parts parts;
    step(parts, true);
    return parts;
}

void ToolCallParser::step(Parts& parts, bool last) {
    switch (style_) {
        case ToolStyle::hermes:
            return step_hermes(parts, last);
        case ToolStyle::llama3:
            return step_llama3(parts, last);
        case ToolStyle::mistral:
        case ToolStyle::mistral_v11:
            return step_mistral(parts, last);
        default:
            parts.content += std::exchange(held_, {});
    }
}

ToolCall ToolCallParser::call(std::string name, std::string arguments) const {
    // Mistral's templates want ids of nine letters or digits.
    const bool is_mistral = style_ == ToolStyle::mistral || style_ == ToolStyle::mistral_v11;
    constexpr std::size_t mistral_length = 9;
    return {is_mistral ? random_id("").substr(0, mistral_length) : random_id("call_"), std::move(name),
            std::move(arguments)};
}

// {"name": …, "arguments" or "parameters": {…}}; false when it is none.
bool ToolCallParser::add_call(Parts& parts, std::string_view json) const {
    const Json value = parsed(base::trimmed(json));
    if (!value.is_object() || !value.contains("name") || !value["name"].is_string()) return false;
    const char* key = value.contains("arguments") ? "arguments" : "parameters";
    const Json arguments = value.value(key, Json::object());
    if (!arguments.is_object() && !arguments.is_string()) return false;
    parts.calls.push_back(call(value["name"].get<std::string>(),
                               arguments.is_string()
                                   ? arguments.get<std::string>()
                                   : arguments.dump(-1, ' ', false, Json::error_handler_t::replace)));
    return true;
}

// Text before a call, without the white space next to calls; that stays held until the call turns out to be
// one.
void ToolCallParser::give_text(Parts& parts, std::size_t end) {
    std::size_t begin = 0;
    if (after_call_) begin = std::min(held_.find_first_not_of(blanks), end);
    if (begin < end) {
        parts.content += held_.substr(begin, end - begin);
        after_call_ = false;
    }
    held_.erase(0, end);
}

void ToolCallParser::step_hermes(Parts& parts, bool last) {
    for (;;) {
        std::size_t open = held_.find(open_call);
        if (open == std::string::npos) {
            const std::size_t keep = last ? 0 : maybe_mark(held_, open_call);
            return give_text(parts, held_.size() - keep);
        }
        if (open > 0) {
            const std::size_t text_end = held_.find_last_not_of(blanks, open - 1) + 1;
            give_text(parts, text_end);
            open -= text_end;
        }
        const std::size_t close = held_.find(close_call, open);
        if (close == std::string::npos && !last) return;
        const std::size_t begin = open + open_call.size();
        const std::size_t body_end = std::min(close, held_.size());
        const std::size_t end = close == std::string::npos ? held_.size() : close + close_call.size();
        if (add_call(parts, std::string_view(held_).substr(begin, body_end - begin))) {
            after_call_ = true;
        } else {
            parts.content += held_.substr(0, end);
            after_call_ = false;
        }
        held_.erase(0, end);
    }
}

void ToolCallParser::step_llama3(Parts& parts, bool last) {
    if (!decided_) {
        const std::string_view rest = base::trimmed(held_);
        const bool may_be = rest.empty() || rest.front() == '{' || rest.starts_with(python_tag) ||
                            python_tag.starts_with(rest);
        if (may_be && !last) return;
        if (may_be) {
            std::string_view todo = rest;
            if (todo.starts_with(python_tag)) todo.remove_prefix(python_tag.size());
            Parts found;
            while (true) {
                todo.remove_prefix(std::min(todo.find_first_not_of(" \t\r\n;,"), todo.size()));
                const std::size_t end = object_end(todo);
                if (end == 0 || !add_call(found, todo.substr(0, end))) break;
                todo.remove_prefix(end);
            }
            if (todo.empty() && !found.calls.empty()) {
                parts.calls = std::move(found.calls);
                held_.clear();
                return;
            }
        }
        decided_ = true;
    }
    parts.content += std::exchange(held_, {});
}

void ToolCallParser::step_mistral(Parts& parts, bool last) {
    const std::size_t mark = held_.find(mistral_mark);
    if (mark == std::string::npos) {
        const std::size_t keep = last ? 0 : maybe_mark(held_, mistral_mark);
        parts.content += held_.substr(0, held_.size() - keep);
        held_.erase(0, held_.size() - keep);
        return;
    }
    if (!last) {
        // What is before the first mark is content; all after are calls, known at the end.
        give_text(parts, mark == 0 ? 0 : held_.find_last_not_of(blanks, mark - 1) + 1);
        return;
    }
    Parts found;
    std::string_view rest = std::string_view(held_).substr(mark + mistral_mark.size());
    const Json list = parsed(base::trimmed(rest));
    bool good = true;
    if (list.is_array()) {
        for (const Json& entry : list)
            good = good && add_call(found, entry.dump(-1, ' ', false, Json::error_handler_t::replace));
    } else {
        while (good && !base::trimmed(rest).empty()) {
            rest = base::trimmed(rest);
            if (rest.starts_with(mistral_mark)) rest.remove_prefix(mistral_mark.size());
            const std::size_t brace = rest.find('{');
            const std::size_t length = object_end(rest);
            good = brace != std::string_view::npos && length > 0 &&
                   !parsed(rest.substr(brace, length - brace)).is_discarded();
            if (!good) break;
            std::string_view name = rest.substr(0, brace);
            if (const std::size_t end = name.find(mistral_arguments); end != std::string_view::npos)
                name = name.substr(0, end);
            name = base::trimmed(name);
            good = !name.empty();
            found.calls.push_back(call(std::string(name), std::string(rest.substr(brace, length - brace))));
            rest.remove_prefix(length);
        }
    }
    if (good && !found.calls.empty()) {
        parts.content += base::trimmed(std::string_view(held_).substr(0, mark));
        parts.calls = std::move(found.calls);
    } else {
        parts.content += held_;
    }
    held_.clear();
}

}  // namespace retort::serve
