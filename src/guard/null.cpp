#include "guard/null.h"

#include <algorithm>
#include <cmath>

namespace retort::guard {

namespace {
constexpr double tail_share = 0.01;
// Scores are sums of logarithms to base 2; a scale below this would promise more than a few windows can show.
constexpr double smallest_scale = 0.25;
}  // namespace

void NullDistribution::add_window(std::vector<float> scores) {
    windows_.push_back(std::move(scores));
    if (windows_.size() > kept_windows) windows_.erase(windows_.begin());
    rebuild();
}

void NullDistribution::restore(std::vector<std::vector<float>> windows) {
    windows_ = std::move(windows);
    rebuild();
}

void NullDistribution::rebuild() {
    sorted_.clear();
    for (const auto& window : windows_) sorted_.insert(sorted_.end(), window.begin(), window.end());
    std::sort(sorted_.begin(), sorted_.end());
    tail_scale_ = smallest_scale;
    tail_company_ = 1;
    if (sorted_.empty()) return;
    const auto from = static_cast<std::size_t>(static_cast<double>(sorted_.size()) * (1 - tail_share));
    const double threshold = sorted_[std::min(from, sorted_.size() - 1)];
    // Each value once: the accounts of one cluster share theirs, and are one observation.
    double sum = 0;
    std::size_t count = 0;
    float last = -1;
    for (std::size_t i = from; i < sorted_.size(); ++i) {
        if (sorted_[i] == last) continue;
        last = sorted_[i];
        sum += last - threshold;
        ++count;
    }
    if (count > 1) {
        tail_scale_ = std::max(smallest_scale, sum / static_cast<double>(count - 1));
        // Where nobody is known to have scored at all, the many noughts are not one cluster.
        const auto company = static_cast<double>(sorted_.size() - from) / static_cast<double>(count);
        if (threshold > 0) tail_company_ = std::max(1.0, company);
    }
}

double NullDistribution::p_value(double score, double uniform) const {
    const auto value = static_cast<float>(score);
    const auto [low, high] = std::equal_range(sorted_.begin(), sorted_.end(), value);
    const auto above = static_cast<double>(sorted_.end() - high);
    const auto equal = static_cast<double>(high - low);
    const double size = static_cast<double>(sorted_.size()) + 1;
    if (above == 0 && equal == 0 && !sorted_.empty()) {
        return std::min(1.0,
                        uniform * tail_company_ / size * std::exp(-(value - sorted_.back()) / tail_scale_));
    }
    return (above + uniform * (equal + 1)) / size;
}

}  // namespace retort::guard
