#include "stats/bootstrap.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "base/random.h"
#include "stats/distributions.h"
#include "stats/summary.h"

namespace retort::stats {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

std::vector<double> totals_of(const ClusterSums& sums) {
    std::vector<double> totals(static_cast<std::size_t>(sums.width));
    for (std::int64_t c = 0; c < sums.clusters(); ++c) {
        const auto row = sums.row(c);
        for (std::size_t i = 0; i < totals.size(); ++i) totals[i] += row[i];
    }
    return totals;
}

void draw_totals(const ClusterSums& sums, base::RandomStream& random, std::vector<double>& totals) {
    std::fill(totals.begin(), totals.end(), 0.0);
    const auto clusters = static_cast<std::uint64_t>(sums.clusters());
    for (std::uint64_t draw = 0; draw < clusters; ++draw) {
        const auto row = sums.row(static_cast<std::int64_t>(random.below(clusters)));
        for (std::size_t i = 0; i < totals.size(); ++i) totals[i] += row[i];
    }
}

std::vector<double> totals_without(const ClusterSums& sums, std::span<const double> totals,
                                   std::int64_t cluster) {
    const auto row = sums.row(cluster);
    std::vector<double> rest(totals.begin(), totals.end());
    for (std::size_t i = 0; i < rest.size(); ++i) rest[i] -= row[i];
    return rest;
}

// NaN where the bias or the acceleration is not finite.
double corrected_share(double share, double bias, double acceleration) {
    const double z = bias + normal_quantile(share);
    return normal_cdf(bias + z / (1 - acceleration * z));
}

double acceleration_of(std::span<const double> jackknife) {
    const double centre = mean(jackknife);
    double squares = 0;
    double cubes = 0;
    for (const double x : jackknife) {
        const double d = centre - x;
        squares += d * d;
        cubes += d * d * d;
    }
    return squares == 0 ? 0 : cubes / (6 * std::pow(squares, 1.5));
}

}  // namespace

Estimate bootstrap_interval(double value, std::span<const double> replicates,
                            std::span<const double> jackknife, const BootstrapOptions& options) {
    std::vector<double> sorted(replicates.begin(), replicates.end());
    std::sort(sorted.begin(), sorted.end());
    double low = (1 - options.confidence) / 2;
    double high = 1 - low;
    if (options.method == IntervalMethod::bca && !jackknife.empty()) {
        const auto below = std::lower_bound(sorted.begin(), sorted.end(), value) - sorted.begin();
        const auto up_to = std::upper_bound(sorted.begin(), sorted.end(), value) - sorted.begin();
        const double bias =
            normal_quantile(static_cast<double>(below + up_to) / (2 * static_cast<double>(sorted.size())));
        const double acceleration = acceleration_of(jackknife);
        const double corrected_low = corrected_share(low, bias, acceleration);
        const double corrected_high = corrected_share(high, bias, acceleration);
        if (std::isfinite(bias) && std::isfinite(corrected_low) && std::isfinite(corrected_high)) {
            low = corrected_low;
            high = corrected_high;
        }
    }
    return {value, quantile_of_sorted(sorted, low), quantile_of_sorted(sorted, high)};
}

std::vector<Estimate> cluster_bootstrap(const ClusterSums& sums, std::span<const Statistic> statistics,
                                        const BootstrapOptions& options) {
    const std::int64_t clusters = sums.clusters();
    const std::vector<double> totals = totals_of(sums);
    std::vector<Estimate> estimates;
    estimates.reserve(statistics.size());
    if (clusters < 2) {
        for (const Statistic& statistic : statistics) {
            estimates.push_back({statistic(totals), -infinity, infinity});
        }
        return estimates;
    }
    const auto resamples = static_cast<std::size_t>(options.resamples);
    std::vector<std::vector<double>> replicates(statistics.size(), std::vector<double>(resamples));
    base::RandomStream random(options.seed);
    std::vector<double> drawn(totals.size());
    for (std::size_t r = 0; r < resamples; ++r) {
        draw_totals(sums, random, drawn);
        for (std::size_t s = 0; s < statistics.size(); ++s) replicates[s][r] = statistics[s](drawn);
    }
    std::vector<std::vector<double>> jackknife(statistics.size());
    if (options.method == IntervalMethod::bca) {
        for (std::int64_t c = 0; c < clusters; ++c) {
            const std::vector<double> rest = totals_without(sums, totals, c);
            for (std::size_t s = 0; s < statistics.size(); ++s) jackknife[s].push_back(statistics[s](rest));
        }
    }
    for (std::size_t s = 0; s < statistics.size(); ++s) {
        estimates.push_back(bootstrap_interval(statistics[s](totals), replicates[s], jackknife[s], options));
    }
    return estimates;
}

Estimate cluster_bootstrap(const ClusterSums& sums, const Statistic& statistic,
                           const BootstrapOptions& options) {
    return cluster_bootstrap(sums, std::span(&statistic, 1), options).front();
}

Estimate ratio_estimate(std::span<const double> numerators, std::span<const double> denominators,
                        const BootstrapOptions& options) {
    assert(numerators.size() == denominators.size());
    ClusterSums sums{{}, 2};
    for (std::size_t i = 0; i < numerators.size(); ++i) {
        sums.values.push_back(numerators[i]);
        sums.values.push_back(denominators[i]);
    }
    return cluster_bootstrap(
        sums, [](std::span<const double> totals) { return totals[0] / totals[1]; }, options);
}

Estimate paired_difference(std::span<const double> a, std::span<const double> b,
                           std::span<const double> denominators, const BootstrapOptions& options) {
    assert(a.size() == b.size());
    std::vector<double> differences(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) differences[i] = a[i] - b[i];
    return ratio_estimate(differences, denominators, options);
}

Estimate unpaired_difference(const ClusterSums& a, const ClusterSums& b, const Statistic& statistic,
                             const BootstrapOptions& options) {
    const std::vector<double> totals_a = totals_of(a);
    const std::vector<double> totals_b = totals_of(b);
    const double value = statistic(totals_a) - statistic(totals_b);
    if (a.clusters() < 2 || b.clusters() < 2) return {value, -infinity, infinity};
    base::RandomStream random_a(options.seed, 1);
    base::RandomStream random_b(options.seed, 2);
    std::vector<double> replicates(static_cast<std::size_t>(options.resamples));
    std::vector<double> drawn_a(totals_a.size());
    std::vector<double> drawn_b(totals_b.size());
    for (double& replicate : replicates) {
        draw_totals(a, random_a, drawn_a);
        draw_totals(b, random_b, drawn_b);
        replicate = statistic(drawn_a) - statistic(drawn_b);
    }
    // The jackknife of a two-sample statistic has no single acceleration; percentile does without.
    BootstrapOptions percentile = options;
    percentile.method = IntervalMethod::percentile;
    return bootstrap_interval(value, replicates, {}, percentile);
}

Estimate difference_from_controls(std::span<const double> suspect,
                                  std::span<const std::vector<double>> controls,
                                  const BootstrapOptions& options) {
    const std::size_t items = suspect.size();
    const std::size_t models = controls.size();
    const auto difference = [&](std::span<const double> of_models, std::size_t item) {
        return suspect[item] - of_models[item] / static_cast<double>(models);
    };
    std::vector<double> sums(items, 0.0);
    for (const std::vector<double>& control : controls) {
        assert(control.size() == items);
        for (std::size_t i = 0; i < items; ++i) sums[i] += control[i];
    }
    double value = 0;
    for (std::size_t i = 0; i < items; ++i) value += difference(sums, i);
    if (items > 0) value /= static_cast<double>(items);
    if (models < 2 || items < 2) return {value, -infinity, infinity};
    base::RandomStream random(options.seed);
    std::vector<double> replicates(static_cast<std::size_t>(options.resamples));
    for (double& replicate : replicates) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (std::size_t draw = 0; draw < models; ++draw) {
            const std::vector<double>& control = controls[random.below(models)];
            for (std::size_t i = 0; i < items; ++i) sums[i] += control[i];
        }
        for (std::size_t draw = 0; draw < items; ++draw) replicate += difference(sums, random.below(items));
        replicate /= static_cast<double>(items);
    }
    BootstrapOptions percentile = options;
    percentile.method = IntervalMethod::percentile;
    return bootstrap_interval(value, replicates, {}, percentile);
}

}  // namespace retort::stats
