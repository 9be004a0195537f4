#include "cli/judge_options.h"

#include <cstdlib>
#include <unordered_map>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "collect/collect.h"
#include "data/record.h"

namespace retort::cli {

namespace {

namespace fs = std::filesystem;

Status check_judge(const JudgeSettings& settings) {
    if (settings.endpoint.empty())
        return fail(ErrorCode::invalid_argument, "a judge needs its endpoint: --judge URL");
    if (settings.model.empty())
        return fail(ErrorCode::invalid_argument, "--judge {}: which model? --judge-model names it",
                    settings.endpoint);
    if (settings.least_score < curate::least_judge_score || settings.least_score > curate::most_judge_score) {
        return fail(ErrorCode::invalid_argument, "--judge-score {}: scores are from {} to {}",
                    settings.least_score, curate::least_judge_score, curate::most_judge_score);
    }
    if (settings.terms.empty()) {
        return fail(
            ErrorCode::refused,
            "no terms: the judge {} is not asked before you say who allows its verdicts to choose training "
            "data. Write a file as docs/formats/terms.md has it and name it with --judge-terms",
            settings.model);
    }
    return {};
}

Result<std::string> judge_prompt_of(const JudgeSettings& settings) {
    if (settings.prompt.empty()) return std::string(curate::judge_prompt());
    RETORT_TRY(std::string text, base::read_file(settings.prompt, std::size_t{1} << 20U));
    RETORT_CHECK(curate::check_judge_prompt(text, settings.prompt.string()));
    return text;
}

collect::CollectOptions asking(const JudgeSettings& settings, const fs::path& folder, bool quiet) {
    collect::CollectOptions options;
    options.output = folder;
    const char* key = std::getenv(settings.key_variable.c_str());
    options.endpoints = {{settings.endpoint, key == nullptr ? "" : key}};
    options.model = settings.model;
    options.terms = settings.terms;
    options.max_tokens = settings.max_tokens;
    options.parameters = {{"temperature", 0}};
    if (!settings.plain) options.parameters["response_format"] = curate::judgement_format();
    options.pressure.max_concurrency = static_cast<int>(settings.concurrency);
    options.pressure.initial_concurrency = std::min(4, options.pressure.max_concurrency);
    options.budget.max_requests = settings.max_requests;
    options.quiet = quiet;
    return options;
}

curate::Judgement judgement_of(const data::Record& answer) {
    if (answer.finish_reason == "length")
        return {std::nullopt, "the judge's verdict was cut by its token limit"};
    auto read = curate::parse_judgement(answer.content);
    if (!read) return {std::nullopt, read.error().message};
    return *std::move(read);
}

// Questions that are equal (the same answer twice) are asked once.
Result<std::vector<curate::Judgement>> ask_all(collect::CollectOptions options,
                                               std::span<const curate::JudgeQuestion> questions) {
    for (const curate::JudgeQuestion& question : questions)
        options.prompts.push_back(
            {question.record_id, {{"user", question.text, ""}}, formats::Json::object()});
    const auto asked = collect::collect(options);
    if (!asked) return fail_from(asked.error(), "judge");
    const collect::CollectReport& report = *asked;
    if (!report.stopped.empty() || report.gave_up > 0 || report.missing > 0) {
        return fail(
            ErrorCode::refused,
            "judge: {} of {} answers have no verdict yet ({}); what there is is kept in {}, and the same "
            "command goes on",
            report.missing + report.gave_up, report.wanted,
            report.stopped.empty() ? "the judge failed on them" : report.stopped, options.output.string());
    }
    std::unordered_map<std::string, curate::Judgement> verdicts;
    RETORT_CHECK(data::read_records(options.output / "records.jsonl", [&](data::Record&& answer) -> Status {
        verdicts[answer.request.messages.front().content] = judgement_of(answer);
        return {};
    }));
    std::vector<curate::Judgement> judgements;
    for (const curate::JudgeQuestion& question : questions) {
        const auto found = verdicts.find(question.text);
        judgements.push_back(
            found != verdicts.end()
                ? found->second
                : curate::Judgement{std::nullopt, "the judge would not take it (failed.jsonl)"});
    }
    return judgements;
}

}  // namespace

void add_judge_options(CLI::App& app, JudgeSettings& settings) {
    constexpr auto group = "A judge (asked about what all else leaves)";
    app.add_option("--judge", settings.endpoint,
                   "root of an OpenAI-compatible API whose model scores each answer from 1 to 10")
        ->type_name("URL")
        ->group(group);
    app.add_option("--judge-model", settings.model, "its name there")->type_name("NAME")->group(group);
    app.add_option("--judge-terms", settings.terms,
                   "who permits that its verdicts choose training data (docs/formats/terms.md); without it "
                   "nothing is asked")
        ->type_name("FILE")
        ->group(group);
    app.add_option("--judge-score", settings.least_score, "answers below it are dropped")
        ->type_name("N")
        ->check(CLI::Range(curate::least_judge_score, curate::most_judge_score))
        ->capture_default_str()
        ->group(group);
    app.add_option("--judge-best", settings.best,
                   "of the answers to one prompt keep so many with the highest scores; 0: all")
        ->type_name("N")
        ->check(CLI::Range(0, 10'000))
        ->group(group);
    app.add_option("--judge-prompt", settings.prompt,
                   "what it is asked, with {{question}}, {{answer}} and {{mark}} to be filled in")
        ->type_name("FILE")
        ->group(group);
    app.add_option("--judge-api-key-env", settings.key_variable,
                   "environment variable that holds its API key")
        ->type_name("NAME")
        ->capture_default_str()
        ->group(group);
    app.add_option("--judge-max-tokens", settings.max_tokens, "of a verdict, reasoning included")
        ->type_name("N")
        ->check(CLI::Range(16, 1'000'000))
        ->capture_default_str()
        ->group(group);
    app.add_option("--judge-concurrency", settings.concurrency, "most requests in flight")
        ->type_name("N")
        ->check(CLI::Range(1, 10'000))
        ->capture_default_str()
        ->group(group);
    app.add_option("--judge-max-requests", settings.max_requests, "in this output folder; 0: no limit")
        ->type_name("N")
        ->group(group);
    app.add_flag("--judge-plain", settings.plain, "send no schema, for servers that know no response_format")
        ->group(group);
}

Status read_judge_table(const formats::TomlTable& table, JudgeSettings& settings) {
    RETORT_TRY(settings.endpoint, table.string("endpoint"));
    RETORT_TRY(settings.model, table.string("model"));
    RETORT_TRY(const std::string terms, table.string_or("terms", ""));
    settings.terms = terms;
    RETORT_TRY(const std::string prompt, table.string_or("prompt", ""));
    settings.prompt = prompt;
    RETORT_TRY(settings.key_variable, table.string_or("api_key_env", settings.key_variable));
    RETORT_TRY(settings.least_score, table.integer_or("score", settings.least_score,
                                                      curate::least_judge_score, curate::most_judge_score));
    RETORT_TRY(settings.best, table.integer_or("best", settings.best, 0, 10'000));
    RETORT_TRY(settings.max_tokens, table.integer_or("max_tokens", settings.max_tokens, 16, 1'000'000));
    RETORT_TRY(settings.concurrency, table.integer_or("concurrency", settings.concurrency, 1, 10'000));
    RETORT_TRY(settings.max_requests, table.integer_or("max_requests", settings.max_requests, 0));
    RETORT_TRY(settings.plain, table.boolean_or("plain", settings.plain));
    return {};
}

Result<formats::Json> judge_inputs(const JudgeSettings& settings) {
    RETORT_TRY(const std::string prompt, judge_prompt_of(settings));
    formats::Json inputs = {{"model", settings.model},           {"prompt", base::sha256_hex(prompt)},
                            {"score", settings.least_score},     {"best", settings.best},
                            {"max_tokens", settings.max_tokens}, {"plain", settings.plain}};
    if (!settings.terms.empty()) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(settings.terms));
        inputs["terms"] = base::to_hex(hash);
    }
    return inputs;
}

Result<curate::Judge> make_judge(const JudgeSettings& settings, const fs::path& folder, bool quiet) {
    RETORT_CHECK(check_judge(settings));
    curate::Judge judge;
    judge.model = settings.model;
    RETORT_TRY(judge.prompt, judge_prompt_of(settings));
    judge.least_score = settings.least_score;
    judge.best = settings.best;
    judge.ask = [options = asking(settings, folder, quiet)](
                    std::span<const curate::JudgeQuestion> questions) { return ask_all(options, questions); };
    return judge;
}

}  // namespace retort::cli
