// The bootstrap by cluster: what belongs together (all tokens of one answer, all answers to one prompt) is
// drawn together, so that an interval does not pretend that tokens are independent. A statistic is a function
// of sums over clusters, so a resample costs one pass of additions whatever the clusters hold.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "stats/estimate.h"

namespace retort::stats {

// One row of `width` sums a cluster, row-major.
struct ClusterSums {
    std::vector<double> values;
    std::int64_t width = 1;

    [[nodiscard]] std::int64_t clusters() const {
        return width == 0 ? 0 : static_cast<std::int64_t>(values.size()) / width;
    }
    [[nodiscard]] std::span<const double> row(std::int64_t cluster) const {
        return std::span(values).subspan(static_cast<std::size_t>(cluster * width),
                                         static_cast<std::size_t>(width));
    }
};

using Statistic = std::function<double(std::span<const double> totals)>;

enum class IntervalMethod {
    percentile,
    bca,  // bias-corrected and accelerated (Efron 1987); percentile where its correction is not finite
};

struct BootstrapOptions {
    std::int64_t resamples = 2000;
    double confidence = 0.95;
    std::uint64_t seed = 0;
    IntervalMethod method = IntervalMethod::bca;
};

// One estimate a statistic, all on the same resamples: the difference of two columns is a *paired*
// difference. Fewer than two clusters carry no information on spread: the interval is then (−∞, ∞).
std::vector<Estimate> cluster_bootstrap(const ClusterSums& sums, std::span<const Statistic> statistics,
                                        const BootstrapOptions& options = {});
Estimate cluster_bootstrap(const ClusterSums& sums, const Statistic& statistic,
                           const BootstrapOptions& options = {});

// Σ numerators / Σ denominators, for instance KL per token from each answer's KL and token count.
Estimate ratio_estimate(std::span<const double> numerators, std::span<const double> denominators,
                        const BootstrapOptions& options = {});

// (Σ a − Σ b) / Σ denominators over the same clusters.
Estimate paired_difference(std::span<const double> a, std::span<const double> b,
                           std::span<const double> denominators, const BootstrapOptions& options = {});

// statistic(a) − statistic(b), each resampled from its own clusters.
Estimate unpaired_difference(const ClusterSums& a, const ClusterSums& b, const Statistic& statistic,
                             const BootstrapOptions& options = {});

// A suspect's mean over items less that of control models on the same items, with models drawn first and
// items then: what one model says of many items is no sample of models. `controls`: one row a model, as long
// as `suspect`. Fewer than two models or items: (−∞, ∞).
Estimate difference_from_controls(std::span<const double> suspect,
                                  std::span<const std::vector<double>> controls,
                                  const BootstrapOptions& options = {});

// The last step alone: an interval from the replicates, and for bca from the jackknife (one value a cluster
// left out).
Estimate bootstrap_interval(double value, std::span<const double> replicates,
                            std::span<const double> jackknife, const BootstrapOptions& options);

}  // namespace retort::stats
