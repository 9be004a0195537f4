// What speaks for or against but has no valid null: reported apart, decides nothing.
#pragma once

#include "audit/gather.h"

namespace retort::audit {

// Agreement of the suspect's first choices with the logged answers and its likelihood of them, beside a
// reference's, Min-K%++ (weights), passages of 50 teacher's tokens that its own answers share with logged
// ones, and how often it says that it is the teacher.
Result<Json> corroborate(const GatherInput& input);

}  // namespace retort::audit
