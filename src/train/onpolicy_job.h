// The whole of one on-policy job from files to files: a student's folder, prompts, a teacher or a verifier
// in; the trained student's folder out. What `retort distill --objective opd` runs, and such a variant of a
// recipe.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "data/prompts.h"
#include "train/onpolicy.h"

namespace retort::train {

struct OnPolicyJob {
    std::filesystem::path student;  // what it starts from
    std::filesystem::path teacher;  // gkd, opd
    std::vector<data::Prompt> prompts;
    std::optional<data::Verifier> verifier;  // grpo needs it; with the others it only shows in the curve
    std::filesystem::path records;           // gkd with lambda below 1
    bool auto_dtype = true;                  // bf16 where the machine has it
    OnPolicyOptions options;                 // train.folder, train.bf16 and train.data_hash are set here
    std::filesystem::path output;            // model/, checkpoint.bin, metrics.jsonl, distill.json
};

struct OnPolicyReport {
    TrainReport train;
    std::int64_t sampled_tokens = 0;
    std::filesystem::path model;  // the student's folder
};

// Everything before the first step.
struct PreparedOnPolicy {
    text::TextModel text;  // the student's
    model::Parameters student;
    std::optional<model::Parameters> teacher;  // gkd, opd
    std::vector<TokenisedPrompt> prompts;
    std::vector<data::PackedBatch> rows;  // gkd with lambda below 1
    OnPolicyOptions options;              // as train_on_policy takes them
};
Result<std::unique_ptr<PreparedOnPolicy>> prepare_on_policy(const OnPolicyJob& job);
// Points into both.
OnPolicyInputs inputs_of(const PreparedOnPolicy& prepared, const OnPolicyJob& job);

Result<OnPolicyReport> distill_on_policy(const OnPolicyJob& job);

std::string report_json(const OnPolicyReport& report, const OnPolicyJob& job);

}  // namespace retort::train
