// A batch of the student's own answers as packed rows, with what the policy's loss needs of each token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "data/packing.h"
#include "tensor/token_loss_policy.h"
#include "train/onpolicy_samples.h"

namespace retort::train {

struct PolicyBatch {
    std::vector<data::PackedBatch> rows;
    std::vector<std::vector<tensor::PolicyToken>> tokens;  // of each row: one for each target, in order
    std::vector<std::vector<std::size_t>> answers;         // of each row: which answer each target is of
    std::int64_t trained_tokens = 0;
};

// Answers whose advantage is 0 are left out when `skip_zero`: they have no gradient. advantages: one an
// answer.
Result<PolicyBatch> make_policy_batch(std::span<const SampledAnswer> answers,
                                      std::span<const std::vector<std::int32_t>> prompts,
                                      std::span<const float> advantages, bool skip_zero,
                                      std::int64_t row_length);

}  // namespace retort::train
