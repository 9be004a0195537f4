#include "cli/chat_session.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>

#include "base/clock.h"
#include "base/interrupt.h"

namespace retort::cli {

namespace {

struct Setting {
    std::string_view name;
    double least;
    double most;
    bool whole;
    void (*set)(ChatSettings&, double);
    double (*get)(const ChatSettings&);
};

constexpr Setting known_settings[] = {
    {"temperature", 0, 2, false,
     [](ChatSettings& s, double v) { s.sampling.temperature = static_cast<float>(v); },
     [](const ChatSettings& s) -> double { return s.sampling.temperature; }},
    {"top_k", 0, 1e9, true,
     [](ChatSettings& s, double v) { s.sampling.top_k = static_cast<std::int32_t>(v); },
     [](const ChatSettings& s) -> double { return s.sampling.top_k; }},
    {"top_p", 0, 1, false, [](ChatSettings& s, double v) { s.sampling.top_p = static_cast<float>(v); },
     [](const ChatSettings& s) -> double { return s.sampling.top_p; }},
    {"min_p", 0, 1, false, [](ChatSettings& s, double v) { s.sampling.min_p = static_cast<float>(v); },
     [](const ChatSettings& s) -> double { return s.sampling.min_p; }},
    {"repetition_penalty", 0.1, 10, false,
     [](ChatSettings& s, double v) { s.sampling.repetition_penalty = static_cast<float>(v); },
     [](const ChatSettings& s) -> double { return s.sampling.repetition_penalty; }},
    {"frequency_penalty", -2, 2, false,
     [](ChatSettings& s, double v) { s.sampling.frequency_penalty = static_cast<float>(v); },
     [](const ChatSettings& s) -> double { return s.sampling.frequency_penalty; }},
    {"presence_penalty", -2, 2, false,
     [](ChatSettings& s, double v) { s.sampling.presence_penalty = static_cast<float>(v); },
     [](const ChatSettings& s) -> double { return s.sampling.presence_penalty; }},
    {"seed", -1, 9e15, true,
     [](ChatSettings& s, double v) {
         s.sampling.seed.reset();
         if (v >= 0) s.sampling.seed = static_cast<std::uint64_t>(v);
     },
     [](const ChatSettings& s) -> double {
         return s.sampling.seed ? static_cast<double>(*s.sampling.seed) : -1.0;
     }},
    {"max_tokens", 1, 1e9, true,
     [](ChatSettings& s, double v) { s.max_tokens = static_cast<std::int64_t>(v); },
     [](const ChatSettings& s) -> double { return static_cast<double>(s.max_tokens); }},
};

bool ends_with(std::string_view text, std::string_view end) {
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// The template may have opened the reasoning in the prompt already, with or without a line end after it.
bool opens_reasoning(std::string_view prompt) {
    while (!prompt.empty() && (prompt.back() == '\n' || prompt.back() == ' ')) prompt.remove_suffix(1);
    return ends_with(prompt, "<think>");
}

}  // namespace

Status apply_setting(ChatSettings& settings, std::string_view name, std::string_view value) {
    for (const Setting& setting : known_settings) {
        if (setting.name != name) continue;
        double number = 0;
        const auto parsed = std::from_chars(value.data(), value.data() + value.size(), number);
        const bool sound = !value.empty() && parsed.ec == std::errc() &&
                           parsed.ptr == value.data() + value.size() && number >= setting.least &&
                           number <= setting.most && (!setting.whole || number == std::floor(number));
        if (!sound) {
            return fail(ErrorCode::invalid_argument, "{} '{}': {} from {:g} to {:g} is what it can be", name,
                        value, setting.whole ? "a whole number" : "a number", setting.least, setting.most);
        }
        setting.set(settings, number);
        return {};
    }
    std::string names;
    for (const Setting& setting : known_settings)
        names += fmt::format("{}{}", names.empty() ? "" : ", ", setting.name);
    return fail(ErrorCode::invalid_argument, "there is no setting '{}'; there are {}", name, names);
}

std::string settings_text(const ChatSettings& settings) {
    std::string text;
    for (const Setting& setting : known_settings) {
        text += fmt::format("{} {:g}\n", setting.name, setting.get(settings));
    }
    text += settings.system.empty() ? "system (the template's own)\n"
                                    : fmt::format("system {}\n", settings.system);
    return text;
}

Result<ChatAnswer> ChatSession::ask(std::string_view text, const generate::OnDelta& on_delta) {
    api::ChatRequest conversation;
    if (!settings_.system.empty()) {
        api::ChatMessage system;
        system.role = "system";
        system.content = settings_.system;
        conversation.messages.push_back(std::move(system));
    }
    conversation.messages.insert(conversation.messages.end(), turns_.begin(), turns_.end());
    api::ChatMessage user;
    user.role = "user";
    user.content = text;
    conversation.messages.push_back(user);
    RETORT_TRY(const std::string prompt, render_conversation(model_.text, conversation));

    generate::TextRequest request;
    text::EncodeOptions encode;
    encode.add_special_tokens = false;  // the template writes its own
    request.tokens.prompt = model_.text.tokenizer.encode(prompt, encode);
    const auto prompt_tokens = static_cast<std::int64_t>(request.tokens.prompt.size());
    const std::int64_t room = context_length() - prompt_tokens;
    if (room < 1) {
        return fail(
            ErrorCode::refused,
            "the conversation is {} tokens long, the context holds {}: start anew (/reset), ask something "
            "shorter, or start with a larger --context",
            prompt_tokens, context_length());
    }
    request.tokens.sampling = settings_.sampling;
    request.tokens.max_tokens = std::min(settings_.max_tokens, room);
    request.tokens.stop_tokens = model_.text.end_of_turn_tokens;
    request.stops = settings_.stops;
    request.split_reasoning = uses_think_tags(model_.text);
    request.starts_in_reasoning = request.split_reasoning && opens_reasoning(prompt);

    ChatAnswer answer;
    const double start = base::monotonic_seconds();
    auto completion = generate::generate_text(
        *model_.engine, model_.text.tokenizer, std::move(request), [&](const generate::TextDelta& delta) {
            if (answer.first_token_seconds == 0)
                answer.first_token_seconds = base::monotonic_seconds() - start;
            answer.content += delta.content;
            answer.reasoning += delta.reasoning;
            return on_delta(delta) && !base::interrupted();
        });
    answer.seconds = base::monotonic_seconds() - start;
    if (!completion && completion.error().code != ErrorCode::cancelled) {
        return tl::make_unexpected(std::move(completion.error()));
    }
    if (completion) {
        answer.completion = completion->completion;
    } else {
        answer.completion.finish_reason = generate::FinishReason::cancelled;
        answer.completion.prompt_tokens = prompt_tokens;
    }
    used_tokens_ = prompt_tokens + answer.completion.completion_tokens;
    api::ChatMessage assistant;
    assistant.role = "assistant";
    assistant.content = answer.content;
    assistant.reasoning_content = answer.reasoning;
    turns_.push_back(std::move(user));
    turns_.push_back(std::move(assistant));
    return answer;
}

}  // namespace retort::cli
