// Confidence intervals of a share: k of n succeeded.
#pragma once

#include <cstdint>

#include "stats/estimate.h"

namespace retort::stats {

// Never covers less than `confidence` (Clopper & Pearson 1934); wide for small n. n = 0 gives [0, 1].
Estimate clopper_pearson(std::int64_t successes, std::int64_t trials, double confidence = 0.95);

// Covers `confidence` on average (Wilson 1927), and is narrower.
Estimate wilson(std::int64_t successes, std::int64_t trials, double confidence = 0.95);

}  // namespace retort::stats
