#include "stats/summary.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace retort::stats {

namespace {
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
}

double mean(std::span<const double> values) {
    if (values.empty()) return not_a_number;
    double sum = 0;
    for (const double x : values) sum += x;
    return sum / static_cast<double>(values.size());
}

double variance(std::span<const double> values) {
    if (values.size() < 2) return not_a_number;
    const double centre = mean(values);
    double sum = 0;
    for (const double x : values) sum += (x - centre) * (x - centre);
    return sum / static_cast<double>(values.size() - 1);
}

double quantile_of_sorted(std::span<const double> sorted, double share) {
    if (sorted.empty()) return not_a_number;
    const double place = std::clamp(share, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    const double part = place - static_cast<double>(below);
    // Infinities stay what they are where no interpolation is asked for.
    if (part == 0 || sorted[below] == sorted[above]) return sorted[below];
    return sorted[below] + part * (sorted[above] - sorted[below]);
}

double quantile(std::span<const double> values, double share) {
    std::vector<double> sorted(values.begin(), values.end());
    std::sort(sorted.begin(), sorted.end());
    return quantile_of_sorted(sorted, share);
}

double median(std::span<const double> values) {
    return quantile(values, 0.5);
}

}  // namespace retort::stats
