#include "stats/proportion.h"

#include <algorithm>
#include <cmath>

#include "stats/distributions.h"

namespace retort::stats {

Estimate clopper_pearson(std::int64_t successes, std::int64_t trials, double confidence) {
    if (trials <= 0) return {0, 0, 1};
    const auto k = static_cast<double>(successes);
    const auto n = static_cast<double>(trials);
    const double tail = (1 - confidence) / 2;
    return {k / n, successes == 0 ? 0 : incomplete_beta_inverse(k, n - k + 1, tail),
            successes == trials ? 1 : incomplete_beta_inverse(k + 1, n - k, 1 - tail)};
}

Estimate wilson(std::int64_t successes, std::int64_t trials, double confidence) {
    if (trials <= 0) return {0, 0, 1};
    const auto k = static_cast<double>(successes);
    const auto n = static_cast<double>(trials);
    const double z = normal_quantile(0.5 + confidence / 2);
    const double share = k / n;
    const double centre = (k + z * z / 2) / (n + z * z);
    const double half = z * std::sqrt(n * share * (1 - share) + z * z / 4) / (n + z * z);
    return {share, successes == 0 ? 0 : std::max(0.0, centre - half),
            successes == trials ? 1 : std::min(1.0, centre + half)};
}

}  // namespace retort::stats
