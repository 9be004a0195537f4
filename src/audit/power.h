// How much must be asked before an answer can be expected, from what share of marked training text. Knows no
// model: what share lifts by how much is a figure that was measured, and is said with the answer.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"

namespace retort::audit {

// A published lift of the green share at gamma .25: .0088 where 5 % of the training text was marked (Sander
// et al. 2024), and in proportion.
inline constexpr double published_lift_per_share = 0.0088 / 0.05;

// P(Binomial(n, gamma + lift) reaches the exact critical value of level p).
double green_power(std::int64_t n, double gamma, double lift, double p);
// The least n with that power, to three digits; nothing where 1e12 do not do.
std::optional<std::int64_t> green_windows(double gamma, double lift, double p, double power);

// Twins whose difference has a mean of `effect` standard deviations; never fewer than all heads would need.
double twin_power(std::int64_t pairs, double effect, double p);
std::optional<std::int64_t> twin_pairs(double effect, double p, double power);

}  // namespace retort::audit
