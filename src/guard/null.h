// Scores of a server's own past as a null distribution: what share of benign account-windows reached a score.
// Knows no account.
#pragma once

#include <cstdint>
#include <vector>

namespace retort::guard {

// One window's scores of one detector, kept for `kept_windows` windows.
class NullDistribution {
  public:
    static constexpr std::size_t kept_windows = 8;
    // Scores of the account-windows of a past window; order does not matter.
    void add_window(std::vector<float> scores);
    [[nodiscard]] std::size_t size() const { return sorted_.size(); }
    // P(a benign account-window scores at least `score`): the rank (1 + number at or above) / (1 + size),
    // ties broken by `uniform` in [0, 1], so that p is uniform under the null. Above the largest ever seen,
    // the tail is taken to fall off exponentially, with the mean excess over the 99 % quantile as its scale:
    // ranks alone could not go below 1 / (1 + size). Who goes beyond it there does so with as many others as
    // share a value in the tail: the accounts of one cluster are one observation and many alarms.
    [[nodiscard]] double p_value(double score, double uniform) const;

    // For a checkpoint.
    [[nodiscard]] const std::vector<std::vector<float>>& windows() const { return windows_; }
    void restore(std::vector<std::vector<float>> windows);

  private:
    void rebuild();
    std::vector<std::vector<float>> windows_;
    std::vector<float> sorted_;  // ascending
    double tail_scale_ = 1;
    double tail_company_ = 1;  // accounts a value of the tail
};

}  // namespace retort::guard
