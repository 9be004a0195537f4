// Bets against a null hypothesis: a gambler's wealth, which under the null is a supermartingale, so that it
// reaches 1/α with probability α at most, whenever one stops to look (Ville 1939). Waudby-Smith & Ramdas
// 2024.
#pragma once

#include <cstdint>

namespace retort::stats {

// Against: observations in [0, 1] whose mean, given those before, is at most `mean`. The stake is what the
// past makes best (Kelly's, for the mean and variance seen so far), at most half of what could be lost.
class BettingMartingale {
  public:
    explicit BettingMartingale(double mean) : mean_(mean) {}

    void observe(double value);
    [[nodiscard]] double log_wealth() const { return log_wealth_; }
    // ln of the anytime-valid p-value 1/max wealth.
    [[nodiscard]] double log_p() const { return -highest_; }
    [[nodiscard]] std::int64_t observations() const { return observations_; }

  private:
    double mean_;
    double log_wealth_ = 0;
    double highest_ = 0;
    double sum_ = 0;
    double squares_ = 0;
    std::int64_t observations_ = 0;
};

// The average of e-values is one, under any dependence.
double log_mean_e_value(const double* log_e, std::int64_t count);

}  // namespace retort::stats
