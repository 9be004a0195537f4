// A recipe: the whole loop from prompts to a compared, exported student, in one TOML file
// (docs/formats/recipe.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/distill_options.h"
#include "cli/judge_options.h"
#include "cli/recipe_cache.h"
#include "collect/collect.h"
#include "curate/curate.h"
#include "data/problems.h"
#include "formats/json.h"

namespace retort::cli {

struct RecipeVariant {
    std::string name;  // of its stage's folder: "distilled"
    DistillSettings settings;
    std::string after;          // the variant whose student it starts from; empty: the start
    bool answers_only = false;  // trained on the answers without their reasoning
    RecipeCache cache;          // in place of the live teacher
};

struct RecipeExport {
    std::string format;  // gguf, folder
    std::string type;    // q8_0, bf16, …
};

struct Recipe {
    std::filesystem::path path;
    std::string text;  // the file, whole
    std::string name;
    std::filesystem::path folder;  // of the run
    std::string teacher_source;    // as `pull` takes it

    bool has_problems = false;      // [problems]: prompts, and what is held out, are made and not read
    data::ProblemOptions problems;  // of the training side
    std::int64_t held_out_problems = 300;
    std::vector<std::filesystem::path> prompts;
    std::filesystem::path prompt_licence;
    std::filesystem::path terms;
    std::string system_prompt;
    std::int64_t prompt_limit = 0;  // 0: all
    std::int64_t samples = 1;
    std::int64_t max_tokens = 256;
    std::int64_t concurrency = 16;
    formats::Json parameters;  // temperature, top_p, seed
    collect::Budget budget;

    curate::CurateOptions curate;
    std::vector<std::filesystem::path> sources;  // records from elsewhere, beside those that are collected
    std::filesystem::path verifier;              // empty: none
    JudgeSettings judge;                         // no endpoint: none

    DistillSettings student;  // [student] and what [distill] says for every variant
    std::vector<RecipeVariant> variants;
    std::vector<RecipeExport> exports;

    std::int64_t task_prompts = 60;
    std::int64_t max_answer_tokens = 128;
    std::string ship_type = "q4_1";  // of the files whose size and speed are compared
    std::string try_prompt;
};

Result<Recipe> read_recipe(const std::filesystem::path& path);

}  // namespace retort::cli
