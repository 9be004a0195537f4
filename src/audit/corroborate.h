// What speaks for or against but has no valid null: reported apart, decides nothing.
#pragma once

#include "audit/gather.h"

namespace retort::audit {

// How often the suspect's answer begins with the token that the logged one begins with, passages of 50
// teacher's tokens that its own answers share with logged ones, and how often it says that it is the teacher.
// With log-probabilities: agreement of its first choices with the logged answers, its likelihood of them,
// Min-K% (Shi et al. 2024) and Min-K%++ (Zhang et al. 2024), beside a reference's. `controls`: paths of
// models that cannot have seen the answers; the differences from them are resampled by model, then by answer.
Result<Json> corroborate(const GatherInput& input, std::span<const std::string> controls);

}  // namespace retort::audit
