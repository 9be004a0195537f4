// The stages up to the student's start: teacher, problems, answers, curated records.
#include "cli/recipe_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "cli/judge_options.h"
#include "cli/loaded_model.h"
#include "cli/model_path.h"
#include "cli/pull.h"
#include "data/lineage.h"
#include "data/prompts.h"
#include "serve/server.h"
#include "train/model_files.h"

namespace retort::cli {

namespace fs = std::filesystem;
using formats::Json;

RecipeRun::RecipeRun(Recipe recipe, RunFolder folder, bool quiet)
    : recipe_(std::move(recipe)),
      folder_(std::move(folder)),
      quiet_(quiet),
      live_(page(), recipe_.name, "retort run " + recipe_.path.string(), recipe_.text) {}

Result<evaluate::ComparisonReport> RecipeRun::all() {
    auto report = stages();
    if (report) {
        live_.done(*report);
    } else {
        live_.failed(report.error());
    }
    return report;
}

Result<evaluate::ComparisonReport> RecipeRun::stages() {
    RETORT_CHECK(base::write_file_atomic(folder_.path() / "recipe.toml", recipe_.text));
    live_.now("The teacher is fetched.");
    RETORT_CHECK(pull_teacher());
    RETORT_CHECK(make_problems());
    live_.now("The teacher answers the prompts.");
    RETORT_CHECK(collect_answers());
    live_.now("The answers are filtered and split.");
    RETORT_CHECK(curate_answers());
    live_.now("The student is cut out.");
    RETORT_CHECK(start_student());
    for (const RecipeVariant& variant : recipe_.variants) {
        RETORT_CHECK(distill_variant(variant));
        if (trained_[variant.name].was_there)
            live_.show(variant.name, display_name(variant), role_of(variant), objective_of(variant),
                       metrics_of(variant));
    }
    live_.now("The student is written in the forms that ship.");
    RETORT_CHECK(export_students());
    live_.now("Teacher and students are compared on held-out prompts.");
    RETORT_CHECK(compare());
    RETORT_TRY(evaluate::ComparisonReport report, evaluate::read_report(report_folder() / "report.json"));
    RETORT_CHECK(write_cards(report));
    return report;
}

Status RecipeRun::pull_teacher() {
    PullOptions options;
    options.source = recipe_.teacher_source;
    options.quiet = quiet_;
    RETORT_TRY(const Pulled pulled, pull(options));
    teacher_ = pulled.model;
    for (const PulledFile& file : pulled.record.files) teacher_hash_ += file.name + ":" + file.sha256 + " ";
    teacher_licence_ = pulled.record.licence;
    spdlog::info("teacher: {}{}", teacher_.string(), pulled.was_there ? " (there already)" : "");
    return {};
}

// Prompts to ask the teacher, and held-out problems with worked answers to judge every student by.
Status RecipeRun::make_problems() {
    if (!recipe_.has_problems) return {};
    const Json inputs = {{"count", recipe_.problems.count},
                         {"seed", recipe_.problems.seed},
                         {"kinds", recipe_.problems.kinds},
                         {"held_out", recipe_.held_out_problems}};
    const auto work = [&](const fs::path& folder) -> Status {
        std::string prompts;
        RETORT_TRY(const auto asked, data::make_problems(recipe_.problems));
        for (const data::Problem& problem : asked) prompts += data::problem_prompt_line(problem) + "\n";
        RETORT_CHECK(base::write_file_atomic(folder / "prompts.jsonl", prompts));
        data::ProblemOptions held_out = recipe_.problems;
        held_out.count = recipe_.held_out_problems;
        held_out.split = data::ProblemSplit::held_out;
        std::string worked;
        RETORT_TRY(const auto kept, data::make_problems(held_out));
        for (const data::Problem& problem : kept)
            worked += data::write_record(data::worked_record(problem)) + "\n";
        return base::write_file_atomic(folder / "held_out.jsonl", worked);
    };
    RETORT_TRY(problems_, folder_.stage("problems", inputs, work));
    recipe_.prompts.push_back(folder_.path() / "problems" / "prompts.jsonl");
    return {};
}

Status RecipeRun::collect_answers() {
    collect::CollectOptions options;
    for (const fs::path& file : recipe_.prompts) {
        RETORT_TRY(auto prompts, data::read_prompts(file, recipe_.system_prompt));
        options.prompts.insert(options.prompts.end(), std::make_move_iterator(prompts.begin()),
                               std::make_move_iterator(prompts.end()));
    }
    if (recipe_.prompt_limit > 0 && options.prompts.size() > static_cast<std::size_t>(recipe_.prompt_limit)) {
        options.prompts.resize(static_cast<std::size_t>(recipe_.prompt_limit));
    }
    Json inputs = {{"teacher", teacher_hash_},        {"parameters", recipe_.parameters},
                   {"samples", recipe_.samples},      {"max_tokens", recipe_.max_tokens},
                   {"system", recipe_.system_prompt}, {"limit", recipe_.prompt_limit}};
    for (const fs::path& file : recipe_.prompts) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(file));
        inputs["prompts"].push_back(base::to_hex(hash));
    }
    if (!recipe_.terms.empty()) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(recipe_.terms));
        inputs["terms"] = base::to_hex(hash);
    }
    const auto work = [&](const fs::path& folder) -> Status {
        generate::EngineOptions engine_options;
        engine_options.max_sequences = recipe_.concurrency;
        // Long enough for any prompt of a narrow job, and no longer: the cache is planned for all
        // sequences.
        RETORT_TRY(const model::Weights weights, model::load_weights(teacher_));
        engine_options.context_length = std::min<std::int64_t>(2048, weights.config.context_length);
        RETORT_TRY(LoadedModel local, load_model(teacher_.string(), engine_options));
        serve::ServerOptions server_options;
        server_options.model_id = model_name();
        RETORT_TRY(const auto server, serve::Server::create(server_options, served_model(local)));
        spdlog::info("collect: the teacher answers at {}", server->base_url());
        options.output = folder;
        options.endpoints = {{server->base_url(), ""}};
        options.model = model_name();
        options.parameters = recipe_.parameters;
        options.max_tokens = recipe_.max_tokens;
        options.samples = recipe_.samples;
        options.terms = recipe_.terms;
        options.prompt_licence = recipe_.prompt_licence;
        options.budget = recipe_.budget;
        options.pressure.initial_concurrency = static_cast<int>(recipe_.concurrency);
        options.pressure.max_concurrency = static_cast<int>(recipe_.concurrency);
        options.quiet = quiet_;
        RETORT_TRY(const collect::CollectReport report, collect::collect(options));
        if (!report.stopped.empty()) {
            return fail(ErrorCode::refused,
                        "collect: {}; {} answers are still missing: raise the budget in {} and run again",
                        report.stopped, report.missing, recipe_.path.string());
        }
        return {};
    };
    // The journal knows which answers still fit changed settings.
    RETORT_TRY(collected_, folder_.stage("collect", inputs, work, {.keep_on_change = true}));
    return {};
}

Status RecipeRun::curate_answers() {
    Json inputs = {{"records", collected_.files["records.jsonl"]},
                   {"min_characters", recipe_.curate.min_characters},
                   {"max_characters", recipe_.curate.max_characters},
                   {"max_tokens", recipe_.curate.max_tokens},
                   {"near_duplicate_similarity", recipe_.curate.near_duplicate_similarity},
                   {"language", recipe_.curate.language},
                   {"validation_share", recipe_.curate.validation_share},
                   {"test_share", recipe_.curate.test_share}};
    if (recipe_.curate.min_tokens > 0) inputs["min_tokens"] = recipe_.curate.min_tokens;
    for (const fs::path& set : recipe_.curate.decontaminate) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(set));
        inputs["decontaminate"].push_back({base::to_hex(hash), recipe_.curate.contamination_ngram});
    }
    if (recipe_.curate.reasoning_mix > 0) inputs["reasoning_mix"] = recipe_.curate.reasoning_mix;
    if (!recipe_.verifier.empty()) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(recipe_.verifier));
        inputs["verifier"] = base::to_hex(hash);
    }
    for (const fs::path& source : recipe_.sources) {
        RETORT_TRY(const std::string hash, data::hash_of_path(source));
        inputs["sources"].push_back(hash);
    }
    const bool judged = !recipe_.judge.endpoint.empty();
    if (judged) {
        RETORT_TRY(inputs["judge"], judge_inputs(recipe_.judge));
    }
    const auto work = [&](const fs::path& folder) -> Status {
        curate::CurateOptions options = recipe_.curate;
        options.inputs = {folder_.path() / "collect"};
        options.inputs.insert(options.inputs.end(), recipe_.sources.begin(), recipe_.sources.end());
        options.output = folder;
        options.quiet = quiet_;
        RETORT_TRY(const text::TextModel text, text::load_text_model(teacher_));
        options.tokenizer = &text.tokenizer;
        // Not in the stage's folder: other filters leave its verdicts as they are.
        if (judged) {
            RETORT_TRY(options.judge, make_judge(recipe_.judge, folder_.path() / "judge", quiet_));
        }
        RETORT_TRY(const curate::CurateReport report, curate::curate(options));
        spdlog::info("curate: {} of {} answers kept", report.kept, report.read);
        for (const auto& [reason, count] : report.dropped)
            spdlog::info("curate: {} dropped: {}", count, reason);
        return {};
    };
    RETORT_TRY(curated_, folder_.stage("curate", inputs, work));
    return {};
}

std::string RecipeRun::model_name() const {
    return model_display_name(teacher_);
}

Status RecipeRun::start_student() {
    const train::StudentStart& start = recipe_.student.options.start;
    Json inputs = {{"teacher", teacher_hash_},
                   {"train", curated_.files["train.jsonl"]},
                   {"model", start.model.string()},
                   {"keep_layers", start.keep_layers},
                   {"method", start.method},
                   {"layers", start.layers},
                   {"row_length", recipe_.student.options.row_length}};
    if (!start.width.none())
        inputs["width"] = {start.width.intermediate, start.width.heads, start.width.hidden,
                           start.importance_samples};
    if (!start.fresh.empty()) {
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(start.fresh));
        inputs["fresh"] = {base::to_hex(hash), start.seed};
    }
    const auto work = [&](const fs::path& folder) -> Status {
        train::DistillOptions options = recipe_.student.options;
        options.teacher = teacher_;
        options.records = train_records();
        RETORT_TRY(const train::StudentMade made, train::make_student(options));
        const model::Parameters& student = made.parameters;
        RETORT_TRY(const text::TextModel text, text::load_text_model(teacher_));
        RETORT_CHECK(train::save_model_folder(folder / "model", student, text, tensor::DType::f32));
        data::Lineage lineage;
        lineage.made_by = "retort run";
        lineage.pruned = made.pruned;
        RETORT_CHECK(data::save_lineage(folder / "lineage.json", std::move(lineage),
                                        {{"teacher", start.model.empty() ? teacher_ : fs::path()},
                                         {"start", start.model},
                                         {"shape", start.fresh},
                                         {"tokenizer", start.fresh.empty() ? fs::path() : teacher_}}));
        spdlog::info("start: {:.1f}M parameters, layers {}",
                     static_cast<double>(student.layout.config.parameter_count()) / 1e6,
                     fmt::join(made.kept_layers, ","));
        return base::write_file_atomic(folder / "layers.json", Json(made.kept_layers).dump() + "\n");
    };
    RETORT_TRY(started_, folder_.stage("start", inputs, work));
    return {};
}

}  // namespace retort::cli
