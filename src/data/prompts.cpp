#include "data/prompts.h"

#include <unordered_set>
#include <utility>

#include "base/file.h"
#include "base/hash.h"
#include "base/strings.h"

namespace retort::data {

using formats::Json;

namespace {

Result<Prompt> prompt_from_json(std::string_view line) {
    RETORT_TRY(const Json json, formats::parse_json(line, "prompt"));
    if (!json.is_object()) return fail(ErrorCode::format, "a line is a JSON object; for plain text use .txt");
    Prompt prompt;
    RETORT_TRY(prompt.id, formats::json_string(json, "id", std::string()));
    const Json* messages = formats::json_find(json, "messages");
    const Json* text = formats::json_find(json, "prompt");
    if ((messages != nullptr) == (text != nullptr)) {
        return fail(ErrorCode::format, "needs either \"prompt\" (a text) or \"messages\" (an array)");
    }
    if (messages != nullptr) {
        RETORT_TRY(prompt.messages, messages_from_json(*messages));
        if (prompt.messages.back().role == "assistant") {
            return fail(ErrorCode::format,
                        "the last message is the assistant's; a prompt ends before the answer");
        }
    } else {
        RETORT_TRY(std::string content, formats::json_string(json, "prompt"));
        if (base::trimmed(content).empty()) return fail(ErrorCode::format, "prompt is empty");
        prompt.messages.push_back({.role = "user", .content = std::move(content)});
    }
    if (const Json* metadata = formats::json_find(json, "metadata"); metadata != nullptr) {
        if (!metadata->is_object()) return fail(ErrorCode::format, "metadata is not an object");
        prompt.metadata = *metadata;
    }
    return prompt;
}

}  // namespace

Result<std::vector<Prompt>> parse_prompts(std::string_view text, PromptFormat format, std::string_view name,
                                          std::string_view system_prompt) {
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    std::vector<Prompt> prompts;
    std::unordered_set<std::string> ids;
    for (std::int64_t number = 1; !text.empty(); ++number) {
        const std::size_t end = text.find('\n');
        const std::string_view line = base::trimmed(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.empty()) continue;
        Prompt prompt;
        if (format == PromptFormat::json_lines) {
            auto parsed = prompt_from_json(line);
            if (!parsed) return fail_from(parsed.error(), fmt::format("{}:{}", name, number));
            prompt = std::move(*parsed);
        } else {
            prompt.messages.push_back({.role = "user", .content = std::string(line)});
        }
        if (!system_prompt.empty() && prompt.messages.front().role != "system") {
            prompt.messages.insert(prompt.messages.begin(),
                                   {.role = "system", .content = std::string(system_prompt)});
        }
        const bool own_id = !prompt.id.empty();
        if (!own_id) {
            prompt.id =
                base::sha256_hex(formats::write_json(messages_to_json(prompt.messages))).substr(0, 16);
        }
        if (!ids.insert(prompt.id).second) {
            if (own_id)
                return fail(ErrorCode::format, "{}:{}: id \"{}\" is there twice", name, number, prompt.id);
            continue;  // the same prompt again, without a name of its own
        }
        prompts.push_back(std::move(prompt));
    }
    if (prompts.empty()) return fail(ErrorCode::format, "{}: holds no prompt", name);
    return prompts;
}

Result<std::vector<Prompt>> read_prompts(const std::filesystem::path& path, std::string_view system_prompt) {
    RETORT_TRY(const std::string text, base::read_file(path));
    const std::string extension = path.extension().string();
    PromptFormat format =
        base::trimmed(text).starts_with('{') ? PromptFormat::json_lines : PromptFormat::plain_text;
    if (extension == ".jsonl" || extension == ".ndjson") format = PromptFormat::json_lines;
    if (extension == ".txt") format = PromptFormat::plain_text;
    return parse_prompts(text, format, path.string(), system_prompt);
}

std::string normalised_text(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c >= 'A' && c <= 'Z') {
            out.push_back(static_cast<char>(c - 'A' + 'a'));
        } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || byte >= 0x80) {
            out.push_back(c);
        } else if (!out.empty() && out.back() != ' ') {
            out.push_back(' ');
        }
    }
    if (!out.empty() && out.back() == ' ') out.pop_back();
    return out;
}

std::string normalised_prompt(std::span<const Message> messages) {
    std::string out;
    for (const Message& message : messages) {
        if (message.role == "system") continue;
        out += message.role;
        out.push_back(':');
        // A prompt of nothing but signs would fold to nothing, and all such prompts into one.
        const std::string folded = normalised_text(message.content);
        out += folded.empty() ? message.content : folded;
        out.push_back('\n');
    }
    return out;
}

}  // namespace retort::data
