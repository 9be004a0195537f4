// retort collect: asks a teacher, keeps every answer with its provenance.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdlib>

#include "base/clock.h"
#include "cli/commands.h"
#include "collect/collect.h"
#include "collect/hedging.h"
#include "data/prompts.h"
#include "formats/json.h"

namespace retort::cli {

namespace {

struct CollectOptions {
    collect::CollectOptions collect;
    std::vector<std::string> prompt_files;
    std::vector<std::string> endpoints;
    std::string system_prompt;
    std::string key_variable = "RETORT_API_KEY";
    std::vector<std::string> parameters;
    std::optional<double> temperature;
    std::optional<double> top_p;
    std::optional<std::int64_t> seed;
    std::optional<std::int64_t> logprobs;
    std::size_t limit = 0;
};

Result<std::vector<data::Prompt>> read_all_prompts(const CollectOptions& options) {
    std::vector<data::Prompt> prompts;
    for (const std::string& file : options.prompt_files) {
        RETORT_TRY(auto some, data::read_prompts(file, options.system_prompt));
        prompts.insert(prompts.end(), std::make_move_iterator(some.begin()),
                       std::make_move_iterator(some.end()));
    }
    if (options.limit > 0 && prompts.size() > options.limit) prompts.resize(options.limit);
    if (prompts.empty())
        return fail(ErrorCode::invalid_argument, "no prompts in the files given with --prompts");
    return prompts;
}

// "name=value", the value JSON if it parses and a string otherwise.
Status add_parameter(formats::Json& parameters, const std::string& text) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
        return fail(ErrorCode::invalid_argument, "--parameter {}: write NAME=VALUE", text);
    }
    const std::string value = text.substr(equals + 1);
    auto json = formats::parse_json(value, "--parameter");
    parameters[text.substr(0, equals)] = json ? *json : formats::Json(value);
    return {};
}

Result<formats::Json> request_parameters(const CollectOptions& options) {
    formats::Json parameters = formats::Json::object();
    if (options.temperature) parameters["temperature"] = *options.temperature;
    if (options.top_p) parameters["top_p"] = *options.top_p;
    if (options.seed) parameters["seed"] = *options.seed;
    if (options.logprobs) {
        parameters["logprobs"] = true;
        parameters["top_logprobs"] = *options.logprobs;
    }
    for (const std::string& parameter : options.parameters)
        RETORT_CHECK(add_parameter(parameters, parameter));
    return parameters;
}

void print_report(const collect::CollectReport& report, const std::string& output) {
    fmt::print("{}: {} of {} answers ({} there before, {} asked now in {})\n", output,
               report.wanted - report.missing, report.wanted, report.there_before, report.asked,
               base::duration_text(report.seconds));
    fmt::print(
        "  tokens: {} of prompts, {} of answers; cost {:.4f}; {} retries, {} overloads, at most {} in "
        "flight\n",
        report.spent.prompt_tokens, report.spent.completion_tokens, report.spent.cost, report.retries,
        report.overloads, report.peak_in_flight);
    if (report.hedges > 0) {
        fmt::print("  {} slow answers were asked for twice, {} came by the second request\n", report.hedges,
                   report.hedges_first);
    }
    if (report.truncated > 0) {
        fmt::print("  {} answers were cut by --max-tokens; a higher one asks again only for them\n",
                   report.truncated);
    }
    if (report.rejected + report.too_long + report.gave_up > 0) {
        fmt::print(
            "  without an answer: {} rejected, {} too long for the teacher, {} given up (failed.jsonl)\n",
            report.rejected, report.too_long, report.gave_up);
    }
    if (!report.stopped.empty()) {
        fmt::print("  stopped: {}; {} still missing, the same command with more budget goes on\n",
                   report.stopped, report.missing);
    }
    fmt::print("  records: {}/records.jsonl, merkle root {}\n", output, report.manifest.merkle_root);
}

Status run_collect(const CollectOptions& given, const CommonOptions& common) {
    CollectOptions options = given;
    collect::CollectOptions& collect_options = options.collect;
    collect_options.quiet = common.quiet;
    RETORT_TRY(collect_options.prompts, read_all_prompts(options));
    RETORT_TRY(collect_options.parameters, request_parameters(options));
    const char* key = std::getenv(options.key_variable.c_str());
    for (const std::string& url : options.endpoints) {
        collect_options.endpoints.push_back({url, key == nullptr ? "" : key});
    }
    RETORT_TRY(const collect::CollectReport report, collect::collect(collect_options));
    if (common.json) {
        fmt::print("{}\n", collect::report_json(report));
    } else {
        print_report(report, collect_options.output.string());
    }
    return {};
}

void add_options(CLI::App& app, CollectOptions& options) {
    collect::CollectOptions& collect_options = options.collect;
    app.add_option(
           "--prompts", options.prompt_files,
           "prompts: JSON lines ({\"prompt\":…} or {\"messages\":[…]}) or plain text, one a line; may be "
           "given more than once")
        ->required()
        ->type_name("FILE")
        ->allow_extra_args(false);
    app.add_option(
           "--endpoint", options.endpoints,
           "root of an OpenAI-compatible API, as http://127.0.0.1:8080/v1; several servers of the same "
           "model share the work")
        ->required()
        ->type_name("URL")
        ->allow_extra_args(false);
    app.add_option("--model", collect_options.model, "the teacher's name there")
        ->required()
        ->type_name("NAME");
    app.add_option(
           "--terms", collect_options.terms,
           "file that says who permits training on the answers (docs/formats/terms.md); without it nothing "
           "is asked")
        ->type_name("FILE");
    app.add_option("-o,--output", collect_options.output, "folder for the answers; one that has some goes on")
        ->required()
        ->type_name("FOLDER");
    app.add_option("--prompt-licence", collect_options.prompt_licence,
                   "licence of the prompts, kept with the data")
        ->type_name("FILE");
    app.add_option("--api-key-env", options.key_variable, "environment variable that holds the API key")
        ->type_name("NAME");
    app.add_option("--limit", options.limit, "only the first N prompts; 0: all")->type_name("N");

    constexpr auto group = "What is asked";
    app.add_option("--system", options.system_prompt, "system message for prompts that have none")
        ->type_name("TEXT")
        ->group(group);
    app.add_option("--samples", collect_options.samples, "answers a prompt")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{100'000}))
        ->group(group);
    app.add_option("--max-tokens", collect_options.max_tokens, "longest answer")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30U))
        ->group(group);
    app.add_option("--temperature", options.temperature, "0 to 2; the server's own if not given")
        ->type_name("T")
        ->check(CLI::Range(0.0, 2.0))
        ->group(group);
    app.add_option("--top-p", options.top_p, "nucleus sampling")
        ->type_name("P")
        ->check(CLI::Range(0.0, 1.0))
        ->group(group);
    app.add_option("--seed", options.seed, "for servers that sample reproducibly")
        ->type_name("N")
        ->group(group);
    app.add_option("--logprobs", options.logprobs, "ask for the N likeliest tokens at each place too")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{20}))
        ->group(group);
    app.add_option("--parameter", options.parameters,
                   "any other field of the request; may be given more than once")
        ->type_name("NAME=JSON")
        ->allow_extra_args(false)
        ->group(group);
    app.add_option("--max-tokens-field", collect_options.ask.max_tokens_field,
                   "what the server calls it; OpenAI's reasoning models want max_completion_tokens")
        ->type_name("NAME")
        ->group(group);
}

void add_limits(CLI::App& app, collect::CollectOptions& options) {
    constexpr auto budget = "Budget (a run that would pass it stops cleanly; 0: no limit)";
    app.add_option("--max-requests", options.budget.max_requests, "requests in this folder")
        ->type_name("N")
        ->group(budget);
    app.add_option("--max-total-tokens", options.budget.max_tokens,
                   "tokens of prompts and answers in this folder")
        ->type_name("N")
        ->group(budget);
    app.add_option("--max-cost", options.budget.max_cost, "money in this folder; needs the prices")
        ->type_name("X")
        ->group(budget);
    app.add_option("--max-seconds", options.budget.max_seconds, "time of this run")
        ->type_name("S")
        ->group(budget);
    app.add_option("--prompt-price", options.budget.prompt_price, "for a million tokens of prompts")
        ->type_name("X")
        ->group(budget);
    app.add_option("--completion-price", options.budget.completion_price, "for a million tokens of answers")
        ->type_name("X")
        ->group(budget);

    constexpr auto pace = "Pace";
    app.add_option("--concurrency", options.pressure.max_concurrency,
                   "most requests in flight at an endpoint")
        ->type_name("N")
        ->check(CLI::Range(1, 10'000))
        ->group(pace);
    app.add_option("--hedge", options.hedge_share,
                   "ask a second time for the slowest SHARE of the answers (0.05: one in twenty); the first "
                   "answer is kept, both are paid; 0: never")
        ->type_name("SHARE")
        ->check(CLI::Range(0.0, collect::most_hedge_share))
        ->group(pace);
    app.add_option("--max-attempts", options.max_attempts, "tries of a request; overload does not count")
        ->type_name("N")
        ->check(CLI::Range(1, 1000))
        ->group(pace);
    app.add_option("--request-timeout", options.ask.request_seconds, "for a whole answer")
        ->type_name("S")
        ->check(CLI::PositiveNumber.description(""))
        ->group(pace);
    app.add_option("--stall-timeout", options.stall_seconds, "give up after so long without any answer")
        ->type_name("S")
        ->check(CLI::PositiveNumber.description(""))
        ->group(pace);
    app.add_option("--max-retry-after", options.max_retry_after,
                   "a server that asks for a longer wait ends the run")
        ->type_name("S")
        ->group(pace);
}

}  // namespace

void add_collect(Commands& commands) {
    auto options = std::make_shared<CollectOptions>();
    CLI::App& app = commands.add(
        Group::data, "collect", "ask a teacher; keep every answer with its provenance; resumable",
        {"retort collect --endpoint http://127.0.0.1:8080/v1 --model smollm2 --prompts prompts.jsonl \\",
         "    --terms terms.toml -o runs/first/answers",
         "retort collect … --samples 4 --temperature 0.8 --max-cost 5 --prompt-price 0.5 --completion-price "
         "1.5"},
        [options](const CommonOptions& common) { return run_collect(*options, common); });
    add_options(app, *options);
    add_limits(app, options->collect);
    commands.add_json_option(app);
}

}  // namespace retort::cli
