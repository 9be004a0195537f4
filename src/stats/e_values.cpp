#include "stats/e_values.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace retort::stats {

void BettingMartingale::observe(double value) {
    // The null's own mean and variance stand for one observation before the first.
    const double n = static_cast<double>(observations_) + 1;
    const double average = (sum_ + mean_) / n;
    const double spread = (squares_ + 0.25) / n;
    const double gap = average - mean_;
    const double stake = std::clamp(gap / (spread + gap * gap), 0.0, 0.5 / mean_);
    log_wealth_ += std::log1p(stake * (value - mean_));
    highest_ = std::max(highest_, log_wealth_);
    ++observations_;
    sum_ += value;
    const double deviation = value - (sum_ + mean_) / (static_cast<double>(observations_) + 1);
    squares_ += deviation * deviation;
}

double log_mean_e_value(const double* log_e, std::int64_t count) {
    if (count <= 0) return 0;
    double largest = -std::numeric_limits<double>::infinity();
    for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, log_e[i]);
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += std::exp(log_e[i] - largest);
    return largest + std::log(sum / static_cast<double>(count));
}

}  // namespace retort::stats
