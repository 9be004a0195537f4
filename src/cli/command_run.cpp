#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/hash.h"
#include "base/log.h"
#include "base/strings.h"
#include "cli/commands.h"
#include "cli/compare_models.h"
#include "cli/conversation.h"
#include "cli/export_card.h"
#include "cli/export_model.h"
#include "cli/judge_options.h"
#include "cli/live_report.h"
#include "cli/loaded_model.h"
#include "cli/model_path.h"
#include "cli/pull.h"
#include "cli/recipe.h"
#include "cli/run_folder.h"
#include "data/lineage.h"
#include "data/prompts.h"
#include "train/communicator.h"
#include "train/model_files.h"

namespace retort::cli {

namespace {

namespace fs = std::filesystem;
using formats::Json;

// One run of a recipe: what each stage made is what the next one reads.
class Run {
  public:
    Run(Recipe recipe, RunFolder folder, bool quiet)
        : recipe_(std::move(recipe)),
          folder_(std::move(folder)),
          quiet_(quiet),
          live_(page(), recipe_.name, "retort run " + recipe_.path.string(), recipe_.text) {}

    // The run's page tells what goes on until the report itself is there.
    Result<evaluate::ComparisonReport> all() {
        auto report = stages();
        if (report) {
            live_.done(*report);
        } else {
            live_.failed(report.error());
        }
        return report;
    }

    [[nodiscard]] fs::path page() const { return folder_.path() / "report.html"; }
    [[nodiscard]] fs::path report_folder() const { return folder_.path() / "evaluate"; }
    [[nodiscard]] fs::path shipped(const std::string& variant) const {
        return folder_.path() / "export" / fmt::format("{}-{}.gguf", variant, recipe_.ship_type);
    }
    [[nodiscard]] const Recipe& recipe() const { return recipe_; }

  private:
    Result<evaluate::ComparisonReport> stages() {
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

    [[nodiscard]] bool on_the_way(const RecipeVariant& variant) const {
        return leads_to(variant.name, recipe_.variants.back());
    }
    [[nodiscard]] static bool with_teacher(const RecipeVariant& variant) {
        return variant.settings.is_on_policy ||
               variant.settings.options.train.objective.kind != train::ObjectiveKind::ce;
    }
    [[nodiscard]] evaluate::Role role_of(const RecipeVariant& variant) const {
        if (&variant == &recipe_.variants.back()) return evaluate::Role::distilled;
        return with_teacher(variant) || on_the_way(variant) ? evaluate::Role::other
                                                            : evaluate::Role::text_only;
    }
    [[nodiscard]] std::string display_name(const RecipeVariant& variant) const {
        std::string name = variant.settings.is_on_policy ? "Student on its own answers"
                           : with_teacher(variant)       ? "Student distilled"
                                                         : "Student on text alone";
        if (recipe_.variants.size() > 2) name += " (" + variant.name + ")";
        return name;
    }
    [[nodiscard]] static std::string objective_of(const RecipeVariant& variant) {
        return std::string(variant.settings.is_on_policy
                               ? train::on_policy_name(variant.settings.on_policy.kind)
                               : train::objective_name(variant.settings.options.train.objective.kind));
    }

    Status pull_teacher() {
        PullOptions options;
        options.source = recipe_.teacher_source;
        options.quiet = quiet_;
        RETORT_TRY(const Pulled pulled, pull(options));
        teacher_ = pulled.model;
        for (const PulledFile& file : pulled.record.files)
            teacher_hash_ += file.name + ":" + file.sha256 + " ";
        teacher_licence_ = pulled.record.licence;
        spdlog::info("teacher: {}{}", teacher_.string(), pulled.was_there ? " (there already)" : "");
        return {};
    }

    // Prompts to ask the teacher, and held-out problems with worked answers to judge every student by.
    Status make_problems() {
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

    Status collect_answers() {
        collect::CollectOptions options;
        for (const fs::path& file : recipe_.prompts) {
            RETORT_TRY(auto prompts, data::read_prompts(file, recipe_.system_prompt));
            options.prompts.insert(options.prompts.end(), std::make_move_iterator(prompts.begin()),
                                   std::make_move_iterator(prompts.end()));
        }
        if (recipe_.prompt_limit > 0 &&
            options.prompts.size() > static_cast<std::size_t>(recipe_.prompt_limit)) {
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

    Status curate_answers() {
        Json inputs = {{"records", collected_.files["records.jsonl"]},
                       {"min_characters", recipe_.curate.min_characters},
                       {"max_characters", recipe_.curate.max_characters},
                       {"max_tokens", recipe_.curate.max_tokens},
                       {"near_duplicate_similarity", recipe_.curate.near_duplicate_similarity},
                       {"language", recipe_.curate.language},
                       {"validation_share", recipe_.curate.validation_share},
                       {"test_share", recipe_.curate.test_share}};
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

    [[nodiscard]] fs::path train_records() const { return folder_.path() / "curate" / "train.jsonl"; }
    [[nodiscard]] fs::path validation_records() const {
        return folder_.path() / "curate" / "validation.jsonl";
    }
    [[nodiscard]] fs::path test_records() const {
        return folder_.path() / (recipe_.has_problems ? "problems/held_out.jsonl" : "curate/test.jsonl");
    }
    std::string test_hash() {
        return recipe_.has_problems ? problems_.files["held_out.jsonl"] : curated_.files["test.jsonl"];
    }
    [[nodiscard]] fs::path start_model() const { return folder_.path() / "start" / "model"; }
    [[nodiscard]] std::string model_name() const { return model_display_name(teacher_); }

    Status start_student() {
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
            std::vector<std::int64_t> kept;
            RETORT_TRY(const model::Parameters student, train::make_student(options, &kept));
            RETORT_TRY(const text::TextModel text, text::load_text_model(teacher_));
            RETORT_CHECK(train::save_model_folder(folder / "model", student, text, tensor::DType::f32));
            RETORT_CHECK(data::save_lineage(folder / "lineage.json", "retort run",
                                            {{"teacher", start.model.empty() ? teacher_ : fs::path()},
                                             {"start", start.model},
                                             {"shape", start.fresh},
                                             {"tokenizer", start.fresh.empty() ? fs::path() : teacher_}}));
            spdlog::info("start: {:.1f}M parameters, layers {}",
                         static_cast<double>(student.layout.config.parameter_count()) / 1e6,
                         fmt::join(kept, ","));
            return base::write_file_atomic(folder / "layers.json", Json(kept).dump() + "\n");
        };
        RETORT_TRY(started_, folder_.stage("start", inputs, work));
        return {};
    }

    Status distill_variant(const RecipeVariant& variant) {
        train::DistillOptions options = variant.settings.options;
        options.start = {};
        options.start.model = variant_model(variant.after.empty() ? "before" : variant.after);
        options.records = train_records();
        if (train::uses_teacher(options.train.objective)) options.teacher = teacher_;
        options.train.quiet = quiet_;
        options.train.label = variant.name;
        live_.watch(options.train, variant.name, display_name(variant), role_of(variant),
                    objective_of(variant));
        const StageResult& from = variant.after.empty() ? started_ : trained_.at(variant.after);
        Json inputs = {{"teacher", teacher_hash_},
                       {"train", curated_.files["train.jsonl"]},
                       {"start", from.files.at("model/model.safetensors")},
                       {"answers_only", variant.answers_only},
                       {"objective", train::objective_name(options.train.objective.kind)},
                       {"temperature", options.train.objective.temperature},
                       {"ce_mix", options.train.objective.ce_mix},
                       {"beta", options.train.objective.beta},
                       {"alpha", options.train.objective.alpha},
                       {"learning_rate", options.train.learning_rate},
                       {"schedule", train::schedule_name(options.train.schedule)},
                       {"warmup", options.train.warmup_share},
                       {"weight_decay", options.train.optimiser.weight_decay},
                       {"clip", options.train.optimiser.clip_norm},
                       {"epochs", options.train.epochs},
                       {"max_steps", options.train.max_steps},
                       {"rows_per_step", options.train.rows_per_step},
                       {"rows_per_micro_batch", options.train.rows_per_micro_batch},
                       {"row_length", options.row_length},
                       {"seed", options.train.seed},
                       {"dtype", variant.settings.dtype}};
        if (variant.settings.is_on_policy) {
            options.train.eval_every = 0;  // measured by what they answer
            return own_answers_variant(variant, options, std::move(inputs));
        }
        const bool watched = options.train.eval_every > 0;
        if (watched)
            inputs["held_out"] = {curated_.files["validation.jsonl"], options.train.eval_every,
                                  options.train.patience};
        const auto work = [&](const fs::path& folder) -> Status {
            options.output = folder;
            if (watched) options.held_out = validation_records();
            if (variant.answers_only) {
                options.records = folder / "answers.jsonl";
                RETORT_CHECK(write_without_reasoning(train_records(), options.records));
                if (watched) {
                    options.held_out = folder / "held_out_answers.jsonl";
                    RETORT_CHECK(write_without_reasoning(validation_records(), options.held_out));
                }
            }
            return train::distill(options).map([](const train::DistillReport&) {});
        };
        RETORT_TRY(trained_[variant.name], folder_.stage("distill-" + variant.name, inputs, work,
                                                         {.scratch_files = {"checkpoint.bin", "best.bin"}}));
        return {};
    }

    // The variant trains on what its student answers to the recipe's prompts.
    Status own_answers_variant(const RecipeVariant& variant, const train::DistillOptions& options,
                               Json inputs) {
        DistillSettings settings = variant.settings;
        settings.options = options;
        settings.options.teacher = teacher_;
        const train::OnPolicyOptions& on_policy = settings.on_policy;
        inputs["objective"] = train::on_policy_name(on_policy.kind);
        inputs["on_policy"] = {on_policy.steps,
                               on_policy.prompts_per_step,
                               on_policy.samples,
                               on_policy.updates,
                               on_policy.max_answer_tokens,
                               on_policy.clip_low,
                               on_policy.clip_high,
                               on_policy.kl,
                               on_policy.format_reward,
                               on_policy.lambda};
        for (const fs::path& file : recipe_.prompts) {
            RETORT_TRY(const base::Sha256 hash, base::sha256_file(file));
            inputs["prompts"].push_back(base::to_hex(hash));
        }
        const auto work = [&](const fs::path& folder) -> Status {
            settings.options.output = folder;
            train::OnPolicyJob job = on_policy_job(settings);
            for (const fs::path& file : recipe_.prompts) {
                RETORT_TRY(auto prompts, data::read_prompts(file, recipe_.system_prompt));
                job.prompts.insert(job.prompts.end(), std::make_move_iterator(prompts.begin()),
                                   std::make_move_iterator(prompts.end()));
            }
            job.verifier = recipe_.curate.verifier;
            return train::distill_on_policy(job).map([](const train::OnPolicyReport&) {});
        };
        RETORT_TRY(trained_[variant.name], folder_.stage("distill-" + variant.name, inputs, work,
                                                         {.scratch_files = {"checkpoint.bin"}}));
        return {};
    }

    static Status write_without_reasoning(const fs::path& from, const fs::path& to) {
        std::string lines;
        RETORT_CHECK(data::read_records(from, [&](data::Record&& record) -> Status {
            record.reasoning.clear();
            data::seal(record);
            lines += data::write_record(record) + "\n";
            return {};
        }));
        return base::write_file_atomic(to, lines);
    }

    [[nodiscard]] fs::path variant_model(const std::string& name) const {
        return name == "before" ? start_model() : folder_.path() / ("distill-" + name) / "model";
    }

    // Beside what is shipped: what it was made of, and what was measured. Not of a stage, as the figures are
    // known only after the last; written anew each time.
    Status write_cards(const evaluate::ComparisonReport& report) {
        data::ModelCard card;
        card.name = recipe_.name;
        card.licence = teacher_licence_;
        card.teacher = model_name();
        card.teacher_files = base::trimmed(teacher_hash_);
        card.recipe_sha256 = base::sha256_hex(recipe_.text);
        for (const RecipeVariant* one = &recipe_.variants.back(); one != nullptr;
             one = find_variant(one->after)) {
            const DistillSettings& settings = one->settings;
            card.training = fmt::format("{} ({}){}{}", one->name,
                                        settings.is_on_policy
                                            ? train::on_policy_name(settings.on_policy.kind)
                                            : train::objective_name(settings.options.train.objective.kind),
                                        card.training.empty() ? "" : ", then ", card.training);
        }
        RETORT_TRY(card.records.emplace_back(), data::card_records("train", train_records()));
        if (recipe_.curate.validation_share > 0) {
            RETORT_TRY(card.records.emplace_back(), data::card_records("validation", validation_records()));
        }
        if (!recipe_.has_problems) {
            RETORT_TRY(card.records.emplace_back(), data::card_records("test", test_records()));
        }
        card.figures = card_figures(report);
        const std::string last = recipe_.variants.back().name;
        RETORT_CHECK(write_export_papers(shipped(last), card));
        for (const RecipeExport& one : recipe_.exports) {
            const fs::path exported = export_path(last, one);
            if (exported != shipped(last)) RETORT_CHECK(write_export_papers(exported, card));
        }
        return {};
    }

    [[nodiscard]] fs::path export_path(const std::string& variant, const RecipeExport& one) const {
        return folder_.path() / "export" /
               fmt::format("{}-{}{}", variant, one.type, one.format == "gguf" ? ".gguf" : "");
    }

    // Every student in the type that sizes and speeds are compared in; the last variant in what the recipe
    // asks for.
    Status export_students() {
        Json inputs = {{"ship_type", recipe_.ship_type},
                       {"start", started_.files["model/model.safetensors"]}};
        for (const RecipeVariant& variant : recipe_.variants) {
            inputs[variant.name] = trained_[variant.name].files["model/model.safetensors"];
        }
        for (const RecipeExport& one : recipe_.exports)
            inputs["exports"].push_back(one.format + ":" + one.type);
        const auto work = [&](const fs::path&) -> Status {
            const std::string last = recipe_.variants.back().name;
            RETORT_CHECK(export_model(variant_model(last), "gguf", recipe_.ship_type, shipped(last),
                                      recipe_.name, teacher_licence_));
            for (const RecipeExport& one : recipe_.exports) {
                const fs::path target = export_path(last, one);
                if (target == shipped(last)) continue;
                RETORT_CHECK(export_model(variant_model(last), one.format, one.type, target, recipe_.name,
                                          teacher_licence_));
                spdlog::info("export: {}", target.string());
            }
            return {};
        };
        RETORT_TRY(exported_, folder_.stage("export", inputs, work));
        return {};
    }

    [[nodiscard]] const RecipeVariant* find_variant(const std::string& name) const {
        const auto found = std::find_if(recipe_.variants.begin(), recipe_.variants.end(),
                                        [&](const RecipeVariant& one) { return one.name == name; });
        return found == recipe_.variants.end() ? nullptr : &*found;
    }
    // Whether `name` is the variant itself or one that it goes on from.
    [[nodiscard]] bool leads_to(const std::string& name, const RecipeVariant& variant) const {
        for (const RecipeVariant* one = &variant; one != nullptr; one = find_variant(one->after))
            if (one->name == name) return true;
        return false;
    }
    [[nodiscard]] fs::path metrics_of(const RecipeVariant& variant) const {
        return folder_.path() / ("distill-" + variant.name) / "metrics.jsonl";
    }
    // All that a variant's weights went through.
    [[nodiscard]] std::vector<fs::path> history_of(const RecipeVariant& variant) const {
        std::vector<fs::path> files;
        for (const RecipeVariant* one = &variant; one != nullptr; one = find_variant(one->after))
            files.push_back(metrics_of(*one));
        return files;
    }

    Status compare() {
        const std::string last = recipe_.variants.back().name;
        CompareOptions options;
        options.teacher = teacher_;
        options.records = test_records();
        options.row_length = recipe_.student.options.row_length;
        options.verifier = recipe_.curate.verifier;
        options.task_prompts = recipe_.task_prompts;
        options.max_answer_tokens = recipe_.max_answer_tokens;
        options.title = recipe_.name;
        options.command = "retort run " + recipe_.path.string();
        options.recipe = recipe_.text;
        options.quiet = quiet_;
        // Students differ in their numbers only, not in shape: size and speed are those of the one file that
        // ships.
        options.models.push_back({"before",
                                  "Student before",
                                  evaluate::Role::before,
                                  start_model(),
                                  shipped(last),
                                  "the start, untrained",
                                  {},
                                  {},
                                  {},
                                  false});
        for (const RecipeVariant& variant : recipe_.variants) {
            ComparedModel model;
            model.key = variant.name;
            model.name = display_name(variant);
            model.role = role_of(variant);
            model.path = variant_model(variant.name);
            model.shipped = shipped(last);
            model.objective = objective_of(variant);
            model.note = fmt::format("{} on {}{}", model.objective,
                                     variant.settings.is_on_policy ? "its own answers"
                                     : variant.answers_only        ? "the teacher's answers without reasoning"
                                                                   : "the teacher's answers",
                                     variant.after.empty() ? "" : ", after " + variant.after);
            model.metrics = metrics_of(variant);
            model.history = history_of(variant);
            model.is_rival = !on_the_way(variant);
            options.models.push_back(std::move(model));
        }
        ComparedModel file;
        file.key = "shipped";
        file.name = "Distilled, " + recipe_.ship_type + " file";
        file.path = shipped(last);
        file.note = "what is shipped, rounding included";
        options.models.push_back(std::move(file));
        Json inputs = {{"teacher", teacher_hash_},
                       {"test", test_hash()},
                       {"export", exported_.files},
                       {"task_prompts", recipe_.task_prompts},
                       {"max_tokens", recipe_.max_answer_tokens},
                       {"start", started_.files["model/model.safetensors"]}};
        for (const RecipeVariant& variant : recipe_.variants)
            inputs["variants"].push_back(trained_[variant.name].key);
        const auto work = [&](const fs::path& folder) -> Status {
            RETORT_TRY(const evaluate::ComparisonReport report, compare_models(options));
            return evaluate::write_report(report, folder);
        };
        RETORT_CHECK(folder_.stage("evaluate", inputs, work));
        return {};
    }

    Recipe recipe_;
    RunFolder folder_;
    bool quiet_;
    LiveReport live_;
    fs::path teacher_;
    std::string teacher_hash_;
    std::string teacher_licence_;
    StageResult problems_;
    StageResult collected_;
    StageResult curated_;
    StageResult started_;
    std::map<std::string, StageResult> trained_;
    StageResult exported_;
};

Status answer_first(const fs::path& model, const std::string& prompt) {
    RETORT_TRY(LoadedModel local, load_model(model.string(), {}));
    const std::vector<data::Message> messages = {{"user", prompt, ""}};
    RETORT_TRY(generate::TextRequest request, conversation_request(local, messages));
    request.tokens.sampling.temperature = 0;
    request.tokens.max_tokens = 96;
    fmt::print("\n> {}\n", prompt);
    RETORT_CHECK(generate::generate_text(*local.engine, local.text.tokenizer, std::move(request),
                                         [](const generate::TextDelta& delta) {
                                             fmt::print("{}", delta.content);
                                             std::fflush(stdout);
                                             return true;
                                         }));
    fmt::print("\n");
    return {};
}

}  // namespace

void add_run(Commands& commands) {
    struct Options {
        std::string recipe;
        std::string folder;
    };
    auto options = std::make_shared<Options>();
    CLI::App& command =
        commands.add(Group::training, "run", "a recipe: the whole loop from one TOML file, resumable",
                     {"retort run recipes/demo.toml", "retort run recipes/demo.toml --folder runs/second"},
                     [options](const CommonOptions& common) -> Status {
                         RETORT_TRY(train::Communicator * world, train::join_world());
                         if (world->size() > 1) {
                             return fail(ErrorCode::unsupported,
                                         "a recipe runs as one process: start `retort distill` by mpirun "
                                         "instead (docs/several-machines.md)");
                         }
                         RETORT_TRY(Recipe recipe, read_recipe(options->recipe));
                         if (!options->folder.empty()) recipe.folder = options->folder;
                         RETORT_TRY(RunFolder folder, RunFolder::open(recipe.folder));
                         Run run(std::move(recipe), std::move(folder), common.quiet);
                         RETORT_TRY(const evaluate::ComparisonReport report, run.all());
                         if (common.json) {
                             fmt::print("{}\n", evaluate::report_to_json(report));
                             return {};
                         }
                         fmt::print("\n{}\n", evaluate::render_table(report));
                         fmt::print("report: {}\n", (run.report_folder() / "report.html").string());
                         const fs::path model = run.shipped(run.recipe().variants.back().name);
                         fmt::print("student: {}\n", model.string());
                         if (!run.recipe().try_prompt.empty())
                             RETORT_CHECK(answer_first(model, run.recipe().try_prompt));
                         return {};
                     });
    command.add_option("recipe", options->recipe, "a TOML file (docs/formats/recipe.md)")->required();
    command.add_option("--folder", options->folder, "of the run, instead of the recipe's");
    commands.add_json_option(command);
}

}  // namespace retort::cli
