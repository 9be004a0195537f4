#include "collect/hedging.h"

#include <algorithm>
#include <cmath>

namespace retort::collect {

namespace {
constexpr double least_answers = 20;
}

void Hedging::answered(double seconds) {
    if (!on()) return;
    if (seconds_.size() < window) {
        seconds_.push_back(seconds);
    } else {
        seconds_[next_] = seconds;
        next_ = (next_ + 1) % window;
    }
    const auto count = static_cast<double>(seconds_.size());
    if (count < std::max(least_answers, 1 / share_)) return;
    const auto rank = static_cast<std::ptrdiff_t>(std::ceil((1 - share_) * count - 1e-9)) - 1;
    std::vector<double> sorted = seconds_;
    std::nth_element(sorted.begin(), sorted.begin() + rank, sorted.end());
    slow_after_ = sorted[static_cast<std::size_t>(rank)];
}

bool Hedging::may_hedge() const {
    return static_cast<double>(hedges_ + 1) <= share_ * static_cast<double>(requests_);
}

}  // namespace retort::collect
