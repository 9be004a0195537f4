#include "data/examples.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/strings.h"

namespace retort::data {

namespace {

constexpr text::EncodeOptions as_rendered{.add_special_tokens = false, .parse_special = true};
constexpr std::string_view blank = " \t\r\n";
std::size_t common_prefix(std::string_view a, std::string_view b) {
    const auto [end, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
    (void)other;
    return static_cast<std::size_t>(end - a.begin());
}

// The length of "<think>\n\n</think>\n\n" at the beginning, where a template writes it for an answer without
// reasoning; 0 when it is not there.
std::size_t empty_thinking(std::string_view text) {
    constexpr std::string_view open = "<think>";
    constexpr std::string_view close = "</think>";
    if (!text.starts_with(open)) return 0;
    std::size_t at = std::min(text.find_first_not_of(blank, open.size()), text.size());
    if (!text.substr(at).starts_with(close)) return 0;
    at += close.size();
    return std::min(text.find_first_not_of(blank, at), text.size());
}

struct Rendered {
    std::string text;
    std::size_t trained_from = 0;  // byte
};

// Templates that do not know reasoning_content, or strip it from every turn (DeepSeek-R1's), leave a reasoned
// answer without its reasoning: it is put after the generation prompt as the model would have written it, and
// closed as the template closes a plain answer.
Result<Rendered> render_reasoning(const Record& record, const std::string& asked, const std::string& full) {
    const std::string_view content = base::trimmed(record.content);
    const std::size_t at = full.rfind(content);
    if (content.empty() || at == std::string::npos) {
        return fail(ErrorCode::unsupported, "record {}: the chat template leaves its answer out", record.id);
    }
    Rendered out{asked, asked.size()};
    const bool opened = base::trimmed(asked).ends_with("<think>");
    if (!opened) out.text += "<think>\n";
    out.text += std::string(base::trimmed(record.reasoning)) + "\n</think>\n\n" + full.substr(at);
    return out;
}

Result<Rendered> render_record(const Record& record, const Renderer& render) {
    std::vector<Message> messages = record.request.messages;
    RETORT_TRY(const std::string asked, render(messages, true));
    RETORT_TRY(const std::string before, render(messages, false));
    messages.push_back({.role = "assistant", .content = record.content, .reasoning = record.reasoning});
    RETORT_TRY(std::string full, render(messages, false));
    if (!record.reasoning.empty() && full.find(base::trimmed(record.reasoning)) == std::string::npos) {
        return render_reasoning(record, asked, full);
    }
    if (!std::string_view(full).starts_with(before)) {
        return fail(ErrorCode::unsupported,
                    "record {}: the chat template writes the conversation differently once it is answered, "
                    "so what is "
                    "to be trained cannot be told",
                    record.id);
    }
    std::size_t from = common_prefix(full, asked);
    if (from < before.size()) {
        return fail(ErrorCode::internal, "record {}: the generation prompt changes the conversation",
                    record.id);
    }
    if (record.reasoning.empty()) from += empty_thinking(std::string_view(full).substr(from));
    return Rendered{std::move(full), from};
}

// The text of a special token inside a message would be read as the token itself.
std::optional<std::string> special_text(const Record& record, const text::Tokenizer& tokenizer) {
    const auto holds = [&](std::string_view text) -> std::optional<std::string> {
        for (const text::AddedToken& token : tokenizer.added_tokens()) {
            if (token.special && !token.content.empty() &&
                text.find(token.content) != std::string_view::npos) {
                return std::string(token.content);
            }
        }
        return std::nullopt;
    };
    if (auto found = holds(record.content)) return found;
    if (auto found = holds(record.reasoning)) return found;
    for (const Message& message : record.request.messages) {
        if (auto found = holds(message.content)) return found;
    }
    return std::nullopt;
}

// Ends the example at the end of the answer's turn: behind its end-of-turn token, or before it for an answer
// that was cut.
Status end_turn(Example& example, std::size_t trained_from, const Record& record,
                const ExampleOptions& options) {
    const auto is_end = [&](std::int32_t id) {
        return std::find(options.end_of_turn_tokens.begin(), options.end_of_turn_tokens.end(), id) !=
               options.end_of_turn_tokens.end();
    };
    const auto begin = example.tokens.begin() + static_cast<std::ptrdiff_t>(trained_from);
    const auto end = std::find_if(begin, example.tokens.end(), is_end);
    if (end == example.tokens.end()) {
        return fail(ErrorCode::unsupported,
                    "record {}: the chat template does not close the assistant's turn with an end-of-turn "
                    "token, so the "
                    "student would not learn to stop",
                    record.id);
    }
    const std::ptrdiff_t length = end - example.tokens.begin() + (record.finish_reason == "length" ? 0 : 1);
    example.tokens.resize(static_cast<std::size_t>(length));
    return {};
}

}  // namespace

Result<Example> make_example(const Record& record, const Renderer& render, const text::Tokenizer& tokenizer,
                             const ExampleOptions& options) {
    RETORT_TRY(const Rendered rendered, render_record(record, render));
    Example example;
    example.record_id = record.id;
    example.tokens = tokenizer.encode(rendered.text, as_rendered);
    const std::vector<std::int32_t> before =
        tokenizer.encode(std::string_view(rendered.text).substr(0, rendered.trained_from), as_rendered);
    // A token that straddles the border holds some of the answer: it is trained.
    const auto [at, other] =
        std::mismatch(example.tokens.begin(), example.tokens.end(), before.begin(), before.end());
    (void)other;
    const auto from = static_cast<std::size_t>(at - example.tokens.begin());
    const std::int32_t bos = tokenizer.bos_id();
    if (bos >= 0 && bos != tokenizer.eos_id() && example.tokens.size() >= 2 && example.tokens[0] == bos &&
        example.tokens[1] == bos) {
        return fail(ErrorCode::unsupported, "record {}: the chat template writes the BOS token twice",
                    record.id);
    }
    RETORT_CHECK(end_turn(example, from, record, options));
    example.trained.assign(example.tokens.size(), 0);
    std::fill(example.trained.begin() + static_cast<std::ptrdiff_t>(std::min(from, example.trained.size())),
              example.trained.end(), std::uint8_t{1});
    if (from >= example.tokens.size()) {
        return fail(ErrorCode::unsupported, "record {}: its loss mask is all zero: nothing would be trained",
                    record.id);
    }
    if (from == 0) {
        return fail(ErrorCode::unsupported,
                    "record {}: its loss mask is all one: the prompt would be trained too", record.id);
    }
    return example;
}

Result<ExampleSet> make_examples(std::span<const Record> records, const Renderer& render,
                                 const text::Tokenizer& tokenizer, const ExampleOptions& options) {
    ExampleSet set;
    for (const Record& record : records) {
        if (const auto special = special_text(record, tokenizer)) {
            set.skipped.push_back(
                {record.id, 0, fmt::format("holds the text of the special token {}", *special)});
            continue;
        }
        RETORT_TRY(Example example, make_example(record, render, tokenizer, options));
        const auto length = static_cast<std::int64_t>(example.tokens.size());
        if (length > options.max_tokens) {
            set.skipped.push_back(
                {record.id, length, fmt::format("{} tokens, more than {}", length, options.max_tokens)});
            continue;
        }
        set.tokens += length;
        set.trained_tokens += std::count(example.trained.begin(), example.trained.end(), std::uint8_t{1});
        set.examples.push_back(std::move(example));
    }
    return set;
}

}  // namespace retort::data
