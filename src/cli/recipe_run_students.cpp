// The stages that make students, from their training to the report and the cards of what ships.
#include "cli/recipe_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/strings.h"
#include "cli/compare_models.h"
#include "cli/export_card.h"
#include "cli/export_model.h"
#include "data/prompts.h"
#include "data/record.h"

namespace retort::cli {

namespace fs = std::filesystem;
using formats::Json;

fs::path RecipeRun::shipped(const std::string& variant) const {
    return folder_.path() / "export" / fmt::format("{}-{}.gguf", variant, recipe_.ship_type);
}

bool RecipeRun::on_the_way(const RecipeVariant& variant) const {
    return leads_to(variant.name, recipe_.variants.back());
}

bool RecipeRun::with_teacher(const RecipeVariant& variant) {
    return variant.settings.is_on_policy ||
           variant.settings.options.train.objective.kind != train::ObjectiveKind::ce;
}

evaluate::Role RecipeRun::role_of(const RecipeVariant& variant) const {
    if (&variant == &recipe_.variants.back()) return evaluate::Role::distilled;
    return with_teacher(variant) || on_the_way(variant) ? evaluate::Role::other : evaluate::Role::text_only;
}

std::string RecipeRun::display_name(const RecipeVariant& variant) const {
    std::string name = variant.settings.is_on_policy ? "Student on its own answers"
                       : with_teacher(variant)       ? "Student distilled"
                                                     : "Student on text alone";
    if (recipe_.variants.size() > 2) name += " (" + variant.name + ")";
    return name;
}

std::string RecipeRun::objective_of(const RecipeVariant& variant) {
    return std::string(variant.settings.is_on_policy
                           ? train::on_policy_name(variant.settings.on_policy.kind)
                           : train::objective_name(variant.settings.options.train.objective.kind));
}

fs::path RecipeRun::validation_records() const {
    return folder_.path() / "curate" / "validation.jsonl";
}

fs::path RecipeRun::test_records() const {
    return folder_.path() / (recipe_.has_problems ? "problems/held_out.jsonl" : "curate/test.jsonl");
}

std::string RecipeRun::test_hash() {
    return recipe_.has_problems ? problems_.files["held_out.jsonl"] : curated_.files["test.jsonl"];
}

Status RecipeRun::distill_variant(const RecipeVariant& variant) {
    train::DistillOptions options = variant.settings.options;
    options.start = {};
    options.start.model = variant_model(variant.after.empty() ? "before" : variant.after);
    options.records = train_records();
    if (train::uses_teacher(options.train.objective)) options.teacher = teacher_;
    options.train.quiet = quiet_;
    options.train.label = variant.name;
    live_.watch(options.train, variant.name, display_name(variant), role_of(variant), objective_of(variant));
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
    // Not named where they are f32, so that stages made before there was a choice are still theirs.
    if (variant.settings.moments != "f32") inputs["moments"] = variant.settings.moments;
    if (variant.settings.gradients != "f32") inputs["gradients"] = variant.settings.gradients;
    if (variant.settings.is_on_policy) {
        options.train.eval_every = 0;  // measured by what they answer
        return own_answers_variant(variant, options, std::move(inputs));
    }
    RETORT_CHECK(make_cache(variant));
    if (const std::string cache = cache_of(variant); !cache.empty()) {
        options.cache = folder_.path() / cache;
        inputs["cache"] = cached_.at(cache).key;
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
Status RecipeRun::own_answers_variant(const RecipeVariant& variant, const train::DistillOptions& options,
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
    RETORT_TRY(trained_[variant.name],
               folder_.stage("distill-" + variant.name, inputs, work, {.scratch_files = {"checkpoint.bin"}}));
    return {};
}

Status RecipeRun::write_without_reasoning(const fs::path& from, const fs::path& to) {
    std::string lines;
    RETORT_CHECK(data::read_records(from, [&](data::Record&& record) -> Status {
        record.reasoning.clear();
        data::seal(record);
        lines += data::write_record(record) + "\n";
        return {};
    }));
    return base::write_file_atomic(to, lines);
}

fs::path RecipeRun::variant_model(const std::string& name) const {
    return name == "before" ? start_model() : folder_.path() / ("distill-" + name) / "model";
}

// Beside what is shipped: what it was made of, and what was measured. Not of a stage, as the figures are
// known only after the last; written anew each time.
Status RecipeRun::write_cards(const evaluate::ComparisonReport& report) {
    data::ModelCard card;
    card.name = recipe_.name;
    card.licence = teacher_licence_;
    card.teacher = model_name();
    card.teacher_files = base::trimmed(teacher_hash_);
    card.recipe_sha256 = base::sha256_hex(recipe_.text);
    for (const RecipeVariant* one = &recipe_.variants.back(); one != nullptr;
         one = find_variant(one->after)) {
        const DistillSettings& settings = one->settings;
        card.training =
            fmt::format("{} ({}){}{}", one->name,
                        settings.is_on_policy ? train::on_policy_name(settings.on_policy.kind)
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

fs::path RecipeRun::export_path(const std::string& variant, const RecipeExport& one) const {
    return folder_.path() / "export" /
           fmt::format("{}-{}{}", variant, one.type, one.format == "gguf" ? ".gguf" : "");
}

// Every student in the type that sizes and speeds are compared in; the last variant in what the recipe
// asks for.
Status RecipeRun::export_students() {
    Json inputs = {{"ship_type", recipe_.ship_type}, {"start", started_.files["model/model.safetensors"]}};
    for (const RecipeVariant& variant : recipe_.variants) {
        inputs[variant.name] = trained_[variant.name].files["model/model.safetensors"];
    }
    for (const RecipeExport& one : recipe_.exports) inputs["exports"].push_back(one.format + ":" + one.type);
    const auto work = [&](const fs::path&) -> Status {
        const std::string last = recipe_.variants.back().name;
        RETORT_CHECK(export_model(variant_model(last), "gguf", recipe_.ship_type, shipped(last), recipe_.name,
                                  teacher_licence_));
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

const RecipeVariant* RecipeRun::find_variant(const std::string& name) const {
    const auto found = std::find_if(recipe_.variants.begin(), recipe_.variants.end(),
                                    [&](const RecipeVariant& one) { return one.name == name; });
    return found == recipe_.variants.end() ? nullptr : &*found;
}

// Whether `name` is the variant itself or one that it goes on from.
bool RecipeRun::leads_to(const std::string& name, const RecipeVariant& variant) const {
    for (const RecipeVariant* one = &variant; one != nullptr; one = find_variant(one->after))
        if (one->name == name) return true;
    return false;
}

fs::path RecipeRun::metrics_of(const RecipeVariant& variant) const {
    return folder_.path() / ("distill-" + variant.name) / "metrics.jsonl";
}

// All that a variant's weights went through.
std::vector<fs::path> RecipeRun::history_of(const RecipeVariant& variant) const {
    std::vector<fs::path> files;
    for (const RecipeVariant* one = &variant; one != nullptr; one = find_variant(one->after))
        files.push_back(metrics_of(*one));
    return files;
}

Status RecipeRun::compare() {
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
        RETORT_TRY(options.facts, facts_of_caches());
        RETORT_TRY(const evaluate::ComparisonReport report, compare_models(options));
        return evaluate::write_report(report, folder);
    };
    RETORT_CHECK(folder_.stage("evaluate", inputs, work));
    return {};
}

}  // namespace retort::cli
