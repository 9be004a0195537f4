// The options of training, declared once for `distill` and read from a recipe's tables by `run`.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/result.h"
#include "formats/recipe.h"
#include "train/distill.h"
#include "train/onpolicy_job.h"

namespace retort::cli {

// Values as a person writes them; the names are resolved by finish().
struct DistillSettings {
    train::DistillOptions options;
    train::OnPolicyOptions on_policy;  // what gkd, opd and grpo have beside `options`
    bool is_on_policy = false;         // `objective` is one of them
    std::string objective = "fkl";
    std::string schedule = "cosine";
    std::string dtype = "auto";
    std::string moments = "f32";
    std::string gradients = "f32";

    Status finish();
};

// f32 or bf16; another word is refused. what: "moments" or "gradients".
Result<tensor::DType> storage_type(std::string_view what, std::string_view name);

void add_distill_options(CLI::App& command, DistillSettings& settings);
// Keys of a recipe's [student] and [distill] tables; those absent keep what `settings` holds.
Status read_student_table(const formats::TomlTable& table, DistillSettings& settings);
// The on-policy job of these settings: its student, teacher, records and output as in `options`.
train::OnPolicyJob on_policy_job(const DistillSettings& settings);
Status read_distill_table(const formats::TomlTable& table, DistillSettings& settings);

}  // namespace retort::cli
