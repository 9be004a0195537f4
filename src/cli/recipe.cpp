#include "cli/recipe.h"

#include <algorithm>

#include "base/file.h"
#include "formats/recipe.h"

namespace retort::cli {

namespace fs = std::filesystem;
using formats::TomlTable;

namespace {

// Paths in a recipe are relative to it.
fs::path beside(const Recipe& recipe, const std::string& name) {
    return name.empty() ? fs::path() : (recipe.path.parent_path() / name).lexically_normal();
}

Status read_collect(const TomlTable& table, Recipe& recipe) {
    RETORT_TRY(const auto prompts,
               recipe.has_problems ? table.strings_or("prompts", {}) : table.strings("prompts"));
    for (const std::string& file : prompts) recipe.prompts.push_back(beside(recipe, file));
    RETORT_TRY(const std::string terms, table.string_or("terms", ""));
    recipe.terms = beside(recipe, terms);
    RETORT_TRY(const std::string licence, table.string_or("prompt_licence", ""));
    recipe.prompt_licence = beside(recipe, licence);
    RETORT_TRY(recipe.system_prompt, table.string_or("system", ""));
    RETORT_TRY(recipe.prompt_limit, table.integer_or("limit", 0, 0));
    RETORT_TRY(recipe.samples, table.integer_or("samples", 1, 1, 10000));
    RETORT_TRY(recipe.max_tokens, table.integer_or("max_tokens", 256, 1));
    RETORT_TRY(recipe.concurrency, table.integer_or("concurrency", 16, 1, 1024));
    recipe.parameters = formats::Json::object();
    RETORT_TRY(const double temperature, table.number_or("temperature", 1.0, 0, 2));
    RETORT_TRY(const double top_p, table.number_or("top_p", 1.0, 0, 1));
    RETORT_TRY(const std::int64_t seed, table.integer_or("seed", 1, 0));
    recipe.parameters["temperature"] = temperature;
    recipe.parameters["top_p"] = top_p;
    recipe.parameters["seed"] = seed;
    RETORT_TRY(recipe.budget.max_requests, table.integer_or("max_requests", 0, 0));
    RETORT_TRY(recipe.budget.max_tokens, table.integer_or("max_total_tokens", 0, 0));
    RETORT_TRY(recipe.budget.max_seconds, table.number_or("max_seconds", 0, 0));
    return {};
}

Status read_problems(const TomlTable& root, Recipe& recipe) {
    recipe.has_problems = root.has("problems");
    RETORT_TRY(const TomlTable table, root.table_or_empty("problems"));
    RETORT_TRY(recipe.problems.count, table.integer_or("count", recipe.problems.count, 1));
    RETORT_TRY(const std::int64_t seed, table.integer_or("seed", 1, 0));
    recipe.problems.seed = static_cast<std::uint64_t>(seed);
    RETORT_TRY(recipe.problems.kinds, table.strings_or("kinds", {}));
    RETORT_TRY(recipe.held_out_problems, table.integer_or("held_out", recipe.held_out_problems, 1));
    return {};
}

Status read_curate(const TomlTable& table, Recipe& recipe) {
    curate::CurateOptions& curate = recipe.curate;
    RETORT_TRY(curate.min_characters, table.integer_or("min_characters", curate.min_characters, 0));
    RETORT_TRY(curate.max_characters, table.integer_or("max_characters", curate.max_characters, 0));
    RETORT_TRY(curate.min_tokens, table.integer_or("min_tokens", curate.min_tokens, 0));
    RETORT_TRY(curate.max_tokens, table.integer_or("max_tokens", curate.max_tokens, 0));
    RETORT_TRY(const auto evaluation_sets, table.strings_or("decontaminate", {}));
    for (const std::string& set : evaluation_sets) curate.decontaminate.push_back(beside(recipe, set));
    RETORT_TRY(const std::int64_t ngram,
               table.integer_or("contamination_ngram", static_cast<std::int64_t>(curate.contamination_ngram),
                                2, 100));
    curate.contamination_ngram = static_cast<std::size_t>(ngram);
    RETORT_TRY(curate.near_duplicate_similarity,
               table.number_or("near_duplicate_similarity", curate.near_duplicate_similarity, 0, 2));
    RETORT_TRY(curate.reasoning_mix, table.number_or("reasoning_mix", 0.0, 0, 1e6));
    RETORT_TRY(curate.language, table.string_or("language", curate.language));
    RETORT_TRY(curate.validation_share, table.number_or("validation_share", 0.0, 0, 1));
    RETORT_TRY(curate.test_share, table.number_or("test_share", 0.15, 0, 1));
    RETORT_TRY(const auto sources, table.strings_or("sources", {}));
    for (const std::string& source : sources) recipe.sources.push_back(beside(recipe, source));
    RETORT_TRY(const std::string verifier, table.string_or("verifier", ""));
    recipe.verifier = beside(recipe, verifier);
    if (!verifier.empty()) {
        RETORT_TRY(curate.verifier, data::Verifier::from_file(recipe.verifier));
    }
    if (table.has("judge")) {
        RETORT_TRY(const TomlTable judge, table.table("judge"));
        RETORT_CHECK(read_judge_table(judge, recipe.judge));
        recipe.judge.terms = beside(recipe, recipe.judge.terms.string());
        recipe.judge.prompt = beside(recipe, recipe.judge.prompt.string());
    }
    return {};
}

Status read_variants(const TomlTable& distill, Recipe& recipe) {
    RETORT_CHECK(read_distill_table(distill, recipe.student));
    RETORT_TRY(const RecipeCache cache, read_cache_keys(distill, {}));
    RETORT_TRY(const std::vector<TomlTable> variants, distill.tables_or_empty("variant"));
    for (const TomlTable& table : variants) {
        RecipeVariant variant;
        variant.settings = recipe.student;
        RETORT_TRY(variant.name, table.string("name"));
        if (variant.name.empty() ||
            variant.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_") != std::string::npos) {
            return table.error_at("name", "a variant's name is of lower-case letters, digits, - and _");
        }
        RETORT_CHECK(read_distill_table(table, variant.settings));
        RETORT_TRY(variant.after, table.string_or("after", ""));
        RETORT_TRY(variant.answers_only, table.boolean_or("answers_only", false));
        const bool known = std::any_of(recipe.variants.begin(), recipe.variants.end(),
                                       [&](const RecipeVariant& one) { return one.name == variant.after; });
        if (!variant.after.empty() && !known)
            return table.error_at("after",
                                  fmt::format("no variant \"{}\" stands before this one", variant.after));
        RETORT_TRY(const RecipeCache asked, read_cache_keys(table, cache));
        RETORT_TRY(variant.cache, cache_for(table.has("cache") ? table : distill, table.has("cache"),
                                            variant.settings, asked));
        recipe.variants.push_back(std::move(variant));
    }
    if (recipe.variants.empty()) {
        RETORT_TRY(const RecipeCache used, cache_for(distill, true, recipe.student, cache));
        recipe.variants.push_back({"distilled", recipe.student, "", false, used});
    }
    for (const RecipeVariant& variant : recipe.variants) {
        const bool grpo =
            variant.settings.is_on_policy && variant.settings.on_policy.kind == train::OnPolicyKind::grpo;
        if (grpo && !recipe.curate.verifier) {
            return distill.error_at("objective", "grpo is rewarded by a verifier: give [curate] verifier");
        }
        if (variant.settings.options.train.eval_every > 0 && recipe.curate.validation_share <= 0 &&
            !variant.settings.is_on_policy) {
            return distill.error_at(
                "eval_every", "held-out loss is of the validation records: give [curate] validation_share");
        }
    }
    return {};
}

}  // namespace

Result<Recipe> read_recipe(const fs::path& path) {
    Recipe recipe;
    recipe.path = path;
    RETORT_TRY(recipe.text, base::read_file(path, std::size_t{1} << 20U));
    RETORT_TRY(const TomlTable root, TomlTable::parse(recipe.text, path.string()));
    RETORT_TRY(recipe.name, root.string_or("name", path.stem().string()));
    RETORT_TRY(const std::string folder, root.string_or("folder", "runs/" + recipe.name));
    recipe.folder = folder;
    RETORT_TRY(const TomlTable teacher, root.table("teacher"));
    RETORT_TRY(recipe.teacher_source, teacher.string("source"));
    if (std::error_code code; fs::exists(beside(recipe, recipe.teacher_source), code))
        recipe.teacher_source = beside(recipe, recipe.teacher_source).string();
    RETORT_CHECK(read_problems(root, recipe));
    RETORT_TRY(const TomlTable collect, root.table("collect"));
    RETORT_CHECK(read_collect(collect, recipe));
    RETORT_TRY(const TomlTable curate, root.table_or_empty("curate"));
    RETORT_CHECK(read_curate(curate, recipe));
    RETORT_TRY(const TomlTable student, root.table_or_empty("student"));
    RETORT_CHECK(read_student_table(student, recipe.student));
    recipe.student.options.start.fresh = beside(recipe, recipe.student.options.start.fresh.string());
    RETORT_TRY(const TomlTable distill, root.table_or_empty("distill"));
    RETORT_CHECK(read_variants(distill, recipe));
    RETORT_TRY(const std::vector<TomlTable> exports, root.tables_or_empty("export"));
    for (const TomlTable& table : exports) {
        RecipeExport one;
        RETORT_TRY(one.format, table.choice_or("format", "gguf", {"gguf", "folder"}));
        RETORT_TRY(one.type, table.string_or("type", one.format == "gguf" ? "q8_0" : "bf16"));
        recipe.exports.push_back(std::move(one));
    }
    RETORT_TRY(const TomlTable evaluate, root.table_or_empty("evaluate"));
    RETORT_TRY(recipe.task_prompts, evaluate.integer_or("task_prompts", recipe.task_prompts, 1));
    RETORT_TRY(recipe.max_answer_tokens, evaluate.integer_or("max_tokens", recipe.max_answer_tokens, 1));
    RETORT_TRY(recipe.ship_type, evaluate.string_or("ship_type", recipe.ship_type));
    RETORT_TRY(recipe.try_prompt, root.string_or("try", ""));
    RETORT_CHECK(root.check_unknown_keys());
    return recipe;
}

}  // namespace retort::cli
