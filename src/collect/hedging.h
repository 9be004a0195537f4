// When a request has taken so long that a second one is worth its price: longer than all but a small share of
// the answers before it took, and never for more than that share of the requests, so that a server that slows
// down as a whole is not asked twice as much. Time is an argument. Knows nothing of requests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace retort::collect {

inline constexpr double least_hedge_share = 0.01;
inline constexpr double most_hedge_share = 0.5;

class Hedging {
  public:
    explicit Hedging(double share) : share_(share) {}  // 0: off

    [[nodiscard]] bool on() const { return share_ > 0; }
    void asked() { ++requests_; }
    void hedged() { ++hedges_; }
    // What an answer took from the first request for it on, whichever request brought it.
    void answered(double seconds);
    // Longer is slow; infinite until there are answers enough to say so.
    [[nodiscard]] double slow_after() const { return slow_after_; }
    // Whether one more stays within the share of the requests so far.
    [[nodiscard]] bool may_hedge() const;

  private:
    static constexpr std::size_t window = 256;  // the latest answers: a server's pace changes
    double share_;
    double slow_after_ = std::numeric_limits<double>::infinity();
    std::int64_t requests_ = 0;
    std::int64_t hedges_ = 0;
    std::vector<double> seconds_;
    std::size_t next_ = 0;
};

}  // namespace retort::collect
