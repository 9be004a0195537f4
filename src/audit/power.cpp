#include "audit/power.h"

#include <cmath>

#include "stats/distributions.h"
#include "stats/exact_tests.h"

namespace retort::audit {

namespace {

// Least n in [1, 1e12] with reaches(n), where it is (nearly) monotone; exact up to the saw-tooth of
// discreteness.
template <typename Reaches>
std::optional<std::int64_t> least(const Reaches& reaches) {
    std::int64_t high = 1;
    while (!reaches(high)) {
        high *= 2;
        if (high > 1'000'000'000'000) return std::nullopt;
    }
    std::int64_t low = high / 2;
    while (high - low > 1) {
        const std::int64_t middle = low + (high - low) / 2;
        (reaches(middle) ? high : low) = middle;
    }
    return high;
}

}  // namespace

double green_power(std::int64_t n, double gamma, double lift, double p) {
    const double rate = gamma + lift;
    if (rate >= 1) return 1;
    // The critical value: the least k whose tail is at most p.
    const double log_p = std::log(p);
    std::int64_t low = static_cast<std::int64_t>(gamma * static_cast<double>(n));
    std::int64_t high = n + 1;
    while (high - low > 1) {
        const std::int64_t middle = low + (high - low) / 2;
        (stats::log_binomial_tail(middle, n, gamma) <= log_p ? high : low) = middle;
    }
    return high > n ? 0 : std::exp(stats::log_binomial_tail(high, n, rate));
}

std::optional<std::int64_t> green_windows(double gamma, double lift, double p, double power) {
    if (lift <= 0) return std::nullopt;
    return least([&](std::int64_t n) { return green_power(n, gamma, lift, p) >= power; });
}

double twin_power(std::int64_t pairs, double effect, double p) {
    // All signs alike: 2^-n is the least p that there is.
    if (static_cast<double>(pairs) * std::log(0.5) > std::log(p)) return 0;
    return stats::normal_cdf(effect * std::sqrt(static_cast<double>(pairs)) + stats::normal_quantile(p));
}

std::optional<std::int64_t> twin_pairs(double effect, double p, double power) {
    if (effect <= 0) return std::nullopt;
    return least([&](std::int64_t n) { return twin_power(n, effect, p) >= power; });
}

}  // namespace retort::audit
