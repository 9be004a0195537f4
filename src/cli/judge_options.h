// The judge of `curate`: its options, declared once for the command and read from a recipe's table by `run`,
// and the asking, which is a collecting run of its own with its journal.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "curate/judge.h"
#include "formats/json.h"
#include "formats/recipe.h"

namespace retort::cli {

struct JudgeSettings {
    std::string endpoint;  // empty: no judge
    std::string model;
    std::filesystem::path terms;   // that allow its verdicts to decide on training data; without, refused
    std::filesystem::path prompt;  // empty: the one that ships
    std::string key_variable = "RETORT_JUDGE_KEY";
    std::int64_t least_score = 7;
    std::int64_t best = 0;
    std::int64_t max_tokens = 256;
    std::int64_t concurrency = 8;
    std::int64_t max_requests = 0;
    bool plain = false;  // the schema is not sent
};

void add_judge_options(CLI::App& app, JudgeSettings& settings);
// [curate.judge]; paths as they are written.
Status read_judge_table(const formats::TomlTable& table, JudgeSettings& settings);
// What shapes the verdicts, for a stage's key.
Result<formats::Json> judge_inputs(const JudgeSettings& settings);
// `folder` keeps what was asked and answered: a run that was killed goes on there.
Result<curate::Judge> make_judge(const JudgeSettings& settings, const std::filesystem::path& folder,
                                 bool quiet);

}  // namespace retort::cli
