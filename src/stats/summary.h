// Plain summaries of a sample.
#pragma once

#include <span>

namespace retort::stats {

// NaN for an empty sample, here and below.
double mean(std::span<const double> values);
// With n − 1; NaN below two values.
double variance(std::span<const double> values);
// Linear between order statistics (Hyndman & Fan's type 7, as NumPy's default). `sorted` ascends.
double quantile_of_sorted(std::span<const double> sorted, double share);
double quantile(std::span<const double> values, double share);
double median(std::span<const double> values);

}  // namespace retort::stats
