// retort curate: from a teacher's answers to data worth training on.
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/judge_options.h"
#include "cli/model_path.h"
#include "curate/curate.h"
#include "data/verify.h"
#include "text/text_model.h"

namespace retort::cli {

namespace {

struct CurateOptions {
    curate::CurateOptions curate;
    std::string verifier;
    std::string tokenizer;
    std::string protected_index;
    std::string public_index;
    JudgeSettings judge;
    bool keep_truncated = false;
    bool keep_bad_reasoning = false;
    bool keep_refusals = false;
    bool keep_repetitive = false;
    bool keep_duplicates = false;
};

void print_curate_report(const curate::CurateReport& report, const std::string& output) {
    fmt::print("{}: {} of {} records kept\n", output, report.kept, report.read);
    for (const auto& [reason, count] : report.dropped) fmt::print("  dropped {:>7}  {}\n", count, reason);
    if (report.verified > 0) {
        fmt::print("  verified {:>6}  {} passed\n", report.verified, report.verified_passed);
    }
    if (report.judged > 0) {
        std::string scores;
        for (const auto& [score, count] : report.judge_scores)
            scores += fmt::format("  {}: {}", score, count);
        fmt::print("  judged {:>8}  by score{}\n", report.judged, scores);
    }
    for (const auto& [split, manifest] : report.splits) {
        const auto prompts = report.prompts.find(split);
        fmt::print("  {:<10} {:>6}  records of {} prompts, merkle root {}…\n", split, manifest.records,
                   prompts == report.prompts.end() ? 0 : prompts->second, manifest.merkle_root.substr(0, 16));
    }
    if (const auto reasoning = report.reasoning.find("train"); reasoning != report.reasoning.end()) {
        const auto train = report.splits.find("train");
        if (reasoning->second > 0 && train != report.splits.end()) {
            fmt::print("  train: {} with reasoning, {} plain\n", reasoning->second,
                       train->second.records - reasoning->second);
        }
    }
    fmt::print("  every drop and its reason: {}/dropped.jsonl\n", output);
}

Status run_curate(const CurateOptions& options, const CommonOptions& common) {
    curate::CurateOptions wanted = options.curate;
    wanted.quiet = common.quiet;
    wanted.drop_truncated = !options.keep_truncated;
    wanted.drop_bad_reasoning = !options.keep_bad_reasoning;
    wanted.drop_refusals = !options.keep_refusals;
    wanted.drop_repetitive = !options.keep_repetitive;
    wanted.drop_exact_duplicates = !options.keep_duplicates;
    if (options.keep_duplicates) wanted.near_duplicate_similarity = 2;
    if (wanted.validation_share + wanted.test_share >= 1) {
        return fail(ErrorCode::invalid_argument, "--validation {} and --test {} leave nothing to train on",
                    wanted.validation_share, wanted.test_share);
    }
    if (!options.verifier.empty()) {
        RETORT_TRY(wanted.verifier, data::Verifier::from_file(options.verifier));
    }
    std::optional<text::TextModel> text_model;
    if (!options.tokenizer.empty()) {
        RETORT_TRY(const std::filesystem::path path, resolve_model(options.tokenizer));
        RETORT_TRY(text_model, text::load_text_model(path));
        wanted.tokenizer = &text_model->tokenizer;
    }
    std::optional<screen::Screen> protected_works;
    if (!options.protected_index.empty()) {
        RETORT_TRY(protected_works, screen::Screen::open(options.protected_index, options.public_index, {}));
        wanted.protected_works = &*protected_works;
    } else if (!options.public_index.empty()) {
        return fail(ErrorCode::invalid_argument, "--public {}: of which works? --protected names them",
                    options.public_index);
    }
    if (!options.judge.endpoint.empty()) {
        RETORT_TRY(wanted.judge, make_judge(options.judge, wanted.output / "judge", common.quiet));
    } else if (!options.judge.model.empty()) {
        return fail(ErrorCode::invalid_argument, "--judge-model {}: where? --judge names its endpoint",
                    options.judge.model);
    }
    RETORT_TRY(const curate::CurateReport report, curate::curate(wanted));
    if (common.json) {
        fmt::print("{}\n", curate::report_json(report));
    } else {
        print_curate_report(report, wanted.output.string());
    }
    return {};
}

void add_filters(CLI::App& app, CurateOptions& options) {
    curate::CurateOptions& curate_options = options.curate;
    constexpr auto group = "What is dropped";
    app.add_option("--min-characters", curate_options.min_characters, "of the answer, without its reasoning")
        ->type_name("N")
        ->group(group);
    app.add_option("--max-characters", curate_options.max_characters, "0: no limit")
        ->type_name("N")
        ->group(group);
    app.add_option("--min-tokens", curate_options.min_tokens,
                   "of the answer, by --tokenizer, else as the teacher's server counted")
        ->type_name("N")
        ->group(group);
    app.add_option("--max-tokens", curate_options.max_tokens, "0: no limit")->type_name("N")->group(group);
    app.add_option("--tokenizer", options.tokenizer, "model whose tokenizer counts")
        ->type_name("MODEL")
        ->group(group);
    app.add_option("--language", curate_options.language,
                   "drop what is clearly of another language: en, de, fr, es, it, pt, nl")
        ->type_name("CODE")
        ->group(group);
    app.add_option("--foreign-script", curate_options.foreign_script_share,
                   "largest share of letters of a script that the prompt does not use; 1: not looked at")
        ->type_name("SHARE")
        ->check(CLI::Range(0.0, 1.0))
        ->group(group);
    app.add_option(
           "--near-duplicate", curate_options.near_duplicate_similarity,
           "answers this similar to an earlier one (Jaccard over word 5-grams); above 1: not looked at")
        ->type_name("SHARE")
        ->check(CLI::Range(0.0, 2.0))
        ->group(group);
    app.add_option("--verifier", options.verifier,
                   "rule that each answer must pass (docs/formats/verifiers.md)")
        ->type_name("FILE")
        ->group(group);
    app.add_option(
           "--decontaminate", curate_options.decontaminate,
           "prompts or records of an evaluation set: what shares words in a row with it is dropped; may be "
           "given more than once")
        ->type_name("FILE")
        ->allow_extra_args(false)
        ->group(group);
    app.add_option("--contamination-ngram", curate_options.contamination_ngram, "how many words in a row")
        ->type_name("N")
        ->check(CLI::Range(std::size_t{2}, std::size_t{100}))
        ->group(group);
    app.add_option(
           "--protected", options.protected_index,
           "index of works (retort screen index): answers that repeat 50 words or 150 characters of one")
        ->type_name("INDEX")
        ->group(group);
    app.add_option("--public", options.public_index, "index of what everybody may repeat")
        ->type_name("INDEX")
        ->group(group);
    app.add_flag("--keep-truncated", options.keep_truncated, "keep answers that the token limit cut")
        ->group(group);
    app.add_flag("--keep-bad-reasoning", options.keep_bad_reasoning,
                 "keep reasoning that is never closed, or nothing but code")
        ->group(group);
    app.add_flag("--keep-refusals", options.keep_refusals, "keep refusals")->group(group);
    app.add_flag("--keep-repetitive", options.keep_repetitive, "keep loops and repetitions")->group(group);
    app.add_flag("--keep-duplicates", options.keep_duplicates, "keep exact and near duplicates")
        ->group(group);
}

}  // namespace

void add_curate(Commands& commands) {
    auto options = std::make_shared<CurateOptions>();
    CLI::App& app = commands.add(
        Group::data, "curate",
        "filter, verify, deduplicate, decontaminate and split; every drop with its reason",
        {"retort curate runs/first/answers -o runs/first/data",
         "retort curate answers/ more/records.jsonl -o data --verifier rule.toml --max-tokens 300",
         "retort curate answers/ -o data --judge http://127.0.0.1:8080/v1 --judge-model large --judge-terms "
         "terms.toml"},
        [options](const CommonOptions& common) { return run_curate(*options, common); });
    app.add_option("inputs", options->curate.inputs, "folders that `collect` wrote, or records.jsonl files")
        ->required();
    app.add_option("-o,--output", options->curate.output, "folder for train, validation and test records")
        ->required()
        ->type_name("FOLDER");
    app.add_option("--validation", options->curate.validation_share, "share of the prompts, by hash")
        ->type_name("SHARE")
        ->check(CLI::Range(0.0, 1.0));
    app.add_option("--test", options->curate.test_share, "share of the prompts, by hash")
        ->type_name("SHARE")
        ->check(CLI::Range(0.0, 1.0));
    app.add_option("--split-salt", options->curate.split_salt, "another word here makes another split")
        ->type_name("TEXT");
    app.add_option(
           "--reasoning-mix", options->curate.reasoning_mix,
           "answers with reasoning for each plain one in train.jsonl, by hash (R1: 3); 0: as they come")
        ->type_name("N")
        ->check(CLI::Range(0.0, 1e6).description(""));
    add_filters(app, *options);
    add_judge_options(app, options->judge);
    commands.add_json_option(app);
}

}  // namespace retort::cli
