// Training on the student's own answers: each step samples them with the weights of that moment, weighs them
// by a teacher (gkd, opd) or by a verifier (grpo), and takes an optimiser step (docs/on-policy.md).
// Resumable: killed at any instant and started again with the same inputs, it ends at the same bits (same
// machine and number of threads).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/packing.h"
#include "model/parameters.h"
#include "text/text_model.h"
#include "train/onpolicy_samples.h"
#include "train/trainer.h"

namespace retort::train {

enum class OnPolicyKind {
    gkd,   // generalised JSD to the teacher, on own answers or on the data (Agarwal et al. 2024)
    opd,   // advantage −(log q_old(y) − log p(y)) of each sampled token: reverse KL by policy gradient
    grpo,  // advantage of each answer within its prompt's group, by a verifier (Shao et al. 2024)
};

std::optional<OnPolicyKind> on_policy_from_name(std::string_view name);
std::string_view on_policy_name(OnPolicyKind kind);

struct OnPolicyOptions {
    OnPolicyKind kind = OnPolicyKind::opd;
    std::int64_t steps = 100;  // batches of own answers
    std::int64_t prompts_per_step = 16;
    std::int64_t samples = 8;  // of each prompt
    std::int64_t updates = 1;  // optimiser steps on each batch
    std::int64_t max_answer_tokens = 256;
    std::int64_t row_length = 512;  // of packed answers with their prompts
    double clip_low = 0.2;          // grpo: ratios are clipped to [1 − low, 1 + high]
    double clip_high = 0.2;
    double kl = 0;               // grpo: weight of KL to the student at the start
    double format_reward = 0.1;  // grpo
    double lambda = 1;           // gkd: share of batches that are own answers; the rest are data
    // Of it: objective (gkd's jsd), optimiser, schedule, learning rate, warm-up, rows a micro-batch, rows a
    // step (of data), seed, bf16, folder, checkpoints, data_hash, label, quiet.
    TrainOptions train;
};

// What one run reads. prompts must not be empty.
struct OnPolicyInputs {
    std::span<const TokenisedPrompt> prompts;
    const text::TextModel* text = nullptr;
    const model::Parameters* teacher = nullptr;  // gkd, opd
    const data::Verifier* verifier = nullptr;    // grpo; with the others, only for the curve
    std::span<const data::PackedBatch> rows;     // gkd with lambda below 1
};

// Which prompts step `index` asks, and how their answers are drawn: by all processes together.
std::vector<std::int64_t> prompts_of_step(const OnPolicyInputs& inputs, const OnPolicyOptions& options,
                                          std::int64_t index);
SamplingOptions sampling_of_step(const OnPolicyInputs& inputs, const OnPolicyOptions& options,
                                 std::int64_t index);

// Trains in place.
Result<TrainReport> train_on_policy(model::Parameters& student, const OnPolicyInputs& inputs,
                                    const OnPolicyOptions& options);

}  // namespace retort::train
