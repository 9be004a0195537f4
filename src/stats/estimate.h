// A number with the ends of its confidence interval: how every measured quantity is passed on.
#pragma once

namespace retort::stats {

struct Estimate {
    double value = 0;
    double low = 0;
    double high = 0;
};

// Whether two intervals share a point.
inline bool overlap(const Estimate& a, const Estimate& b) {
    return a.low <= b.high && b.low <= a.high;
}

}  // namespace retort::stats
