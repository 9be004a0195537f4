#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/random.h"
#include "stats/bootstrap.h"
#include "stats/distributions.h"
#include "stats/proportion.h"
#include "stats/summary.h"

namespace retort::stats {
namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon();

const nlohmann::json& golden() {
    static const nlohmann::json values =
        nlohmann::json::parse(std::ifstream(RETORT_TEST_DATA "/stats/scipy.json"));
    return values;
}

using Row = std::vector<double>;

TEST(Distributions, normal_cdf_and_its_inverse) {
    for (const Row row : golden()["normal_cdf"]) {
        // erfc is within an ulp, and the relative slope of the tail, |x|, multiplies the rounding of x/√2.
        EXPECT_NEAR(normal_cdf(row[0]) / row[1], 1, (4 + row[0] * row[0]) * epsilon) << row[0];
    }
    for (const Row row : golden()["normal_quantile"]) {
        EXPECT_NEAR(normal_quantile(row[0]), row[1], 8 * epsilon * (1 + std::abs(row[1]))) << row[0];
    }
    EXPECT_EQ(normal_quantile(0), -std::numeric_limits<double>::infinity());
    EXPECT_TRUE(std::isnan(normal_quantile(1.5)));
}

// Stirling's error below 15 carries some tens of ulps of lgamma, and the continued fraction multiplies some
// √(a + b) factors, each rounded. Rounding x by ε moves ln I_x by at most ε·|x(a+b) − a|·(1 + x/(1−x)), as
// the derivatives of both deviances say.
double beta_tolerance(const Row& row) {
    const double n = row[0] + row[1];
    return (100 + std::sqrt(n)) * epsilon +
           4 * epsilon * std::abs(row[2] * n - row[0]) * (1 + row[2] / (1 - row[2]));
}

TEST(Distributions, incomplete_beta) {
    for (const Row row : golden()["incomplete_beta"]) {
        const double value = incomplete_beta(row[0], row[1], row[2]);
        // Its logarithm is rounded before it is raised.
        const double raised = row[3] > 0 ? 2 * epsilon * std::abs(std::log(row[3])) : 0;
        EXPECT_NEAR(value, row[3], row[3] * (beta_tolerance(row) + raised))
            << row[0] << ' ' << row[1] << ' ' << row[2];
        // The two branches of the continued fraction meet.
        EXPECT_NEAR(value + incomplete_beta(row[1], row[0], 1 - row[2]), 1, beta_tolerance(row));
    }
}

TEST(Distributions, log_incomplete_beta_where_the_plain_one_underflows) {
    for (const Row row : golden()["log_incomplete_beta"]) {
        // The logarithm of 1 − small keeps the absolute precision of `small`, no more.
        EXPECT_NEAR(log_incomplete_beta(row[0], row[1], row[2]), row[3],
                    beta_tolerance(row) * (1 + std::abs(row[3])))
            << row[0] << ' ' << row[1] << ' ' << row[2];
    }
    EXPECT_NEAR(log_incomplete_beta(400, 1, 1e-3), 400 * std::log(1e-3), 1e-11);  // I_x(a, 1) = x^a
}

TEST(Distributions, incomplete_beta_inverse) {
    for (const Row row : golden()["incomplete_beta_inverse"]) {
        // SciPy's inverse (Boost) is good to about 1e-13.
        EXPECT_NEAR(incomplete_beta_inverse(row[0], row[1], row[2]) / row[3], 1, 1e-12)
            << row[0] << ' ' << row[1] << ' ' << row[2];
    }
}

TEST(Proportion, intervals_are_those_of_scipy) {
    for (const char* name : {"clopper_pearson", "wilson"}) {
        for (const Row row : golden()[name]) {
            const auto k = static_cast<std::int64_t>(row[0]);
            const auto n = static_cast<std::int64_t>(row[1]);
            const Estimate estimate = name[0] == 'c' ? clopper_pearson(k, n, row[2]) : wilson(k, n, row[2]);
            // SciPy finds Clopper–Pearson by a root finder with an absolute tolerance of 2e-12.
            EXPECT_NEAR(estimate.low, row[3], 1e-11) << name << ' ' << k << '/' << n;
            EXPECT_NEAR(estimate.high, row[4], 1e-11) << name << ' ' << k << '/' << n;
            EXPECT_DOUBLE_EQ(estimate.value, row[0] / row[1]);
        }
    }
}

TEST(Proportion, no_trials_say_nothing) {
    EXPECT_EQ(clopper_pearson(0, 0).high, 1);
    EXPECT_EQ(wilson(0, 0).low, 0);
}

TEST(Summary, mean_variance_quantiles) {
    const std::vector<double> sample = golden()["sample"];
    for (const Row row : golden()["quantile"]) {
        EXPECT_NEAR(quantile(sample, row[0]), row[1], 8 * epsilon * (1 + std::abs(row[1])));
    }
    EXPECT_NEAR(mean(sample), golden()["mean"].get<double>(), 37 * epsilon);
    EXPECT_NEAR(variance(sample), golden()["variance"].get<double>(), 37 * 4 * epsilon);
    EXPECT_TRUE(std::isnan(median({})));
}

ClusterSums ratio_sums(const std::vector<double>& numerators, const std::vector<double>& denominators) {
    ClusterSums sums{{}, 2};
    for (std::size_t i = 0; i < numerators.size(); ++i) {
        sums.values.insert(sums.values.end(), {numerators[i], denominators[i]});
    }
    return sums;
}

double ratio(std::span<const double> totals) {
    return totals[0] / totals[1];
}

TEST(Bootstrap, interval_from_the_same_replicates_is_that_of_scipy) {
    for (const auto& item : golden()["bootstrap"]) {
        const std::vector<double> numerators = item["numerators"];
        const std::vector<double> denominators = item["denominators"];
        const std::vector<double> replicates = item["replicates"];
        std::vector<double> jackknife;
        for (std::size_t left_out = 0; left_out < numerators.size(); ++left_out) {
            double top = 0;
            double bottom = 0;
            for (std::size_t i = 0; i < numerators.size(); ++i) {
                if (i == left_out) continue;
                top += numerators[i];
                bottom += denominators[i];
            }
            jackknife.push_back(top / bottom);
        }
        const double value = ratio_estimate(numerators, denominators, {.resamples = 10}).value;
        for (const auto method : {IntervalMethod::bca, IntervalMethod::percentile}) {
            const Row expected = item[method == IntervalMethod::bca ? "bca" : "percentile"];
            const Estimate estimate = bootstrap_interval(value, replicates, jackknife, {.method = method});
            // Both interpolate linearly between the same order statistics; z and a agree to rounding.
            EXPECT_NEAR(estimate.low, expected[0], 1e-12);
            EXPECT_NEAR(estimate.high, expected[1], 1e-12);
        }
    }
}

TEST(Bootstrap, our_own_resamples_agree_within_monte_carlo_error) {
    for (const auto& item : golden()["bootstrap"]) {
        const std::vector<double> numerators = item["numerators"];
        const std::vector<double> denominators = item["denominators"];
        const Row expected = item["bca"];
        const Estimate estimate = ratio_estimate(numerators, denominators, {.resamples = 20000});
        // An end is a 2.5 % quantile: its error is √(.025·.975/B)/density ≈ 2.7·se/√B for a normal, from B =
        // 1999 there and 20000 here; BCa's own z doubles it at most. Five standard errors.
        const double se = item["standard_error"];
        const double tolerance = 5 * 2 * 2.7 * se * std::sqrt(1.0 / 1999 + 1.0 / 20000);
        EXPECT_NEAR(estimate.low, expected[0], tolerance);
        EXPECT_NEAR(estimate.high, expected[1], tolerance);
    }
}

TEST(Bootstrap, same_seed_same_interval) {
    std::vector<double> a;
    for (int i = 0; i < 20; ++i) a.push_back(std::sqrt(i));
    const std::vector<double> n(20, 10.0);
    const Estimate first = ratio_estimate(a, n, {.seed = 3});
    const Estimate again = ratio_estimate(a, n, {.seed = 3});
    const Estimate other = ratio_estimate(a, n, {.seed = 4});
    EXPECT_EQ(first.low, again.low);
    EXPECT_EQ(first.high, again.high);
    EXPECT_TRUE(first.low != other.low || first.high != other.high);
}

// Tokens of one answer share its difficulty: an interval that took them for independent would be too short by
// the square root of the answer's length.
TEST(Bootstrap, clusters_and_not_tokens_set_the_width) {
    constexpr int clusters = 60;
    constexpr int length = 25;
    base::RandomStream random(9);
    std::vector<double> by_answer;
    std::vector<double> lengths(clusters, length);
    std::vector<double> by_token;
    for (int c = 0; c < clusters; ++c) {
        const double difficulty = random.normal();
        by_answer.push_back(difficulty * length);
        by_token.insert(by_token.end(), length, difficulty);
    }
    const Estimate honest = ratio_estimate(by_answer, lengths);
    const Estimate naive = ratio_estimate(by_token, std::vector<double>(by_token.size(), 1.0));
    // 5 expected; both widths vary by a few per cent with 2,000 resamples.
    EXPECT_NEAR((honest.high - honest.low) / (naive.high - naive.low), 5, 0.75);
}

TEST(Bootstrap, a_95_percent_interval_covers_the_truth_about_95_times_in_100) {
    constexpr int trials = 400;
    int covered = 0;
    base::RandomStream random(21);
    for (int trial = 0; trial < trials; ++trial) {
        std::vector<double> sums;
        std::vector<double> lengths;
        for (int c = 0; c < 50; ++c) {
            const double length = 5 + static_cast<double>(random.below(40));
            lengths.push_back(length);
            sums.push_back(length * (1 - std::log1p(-random.uniform()) * 0.5));  // rate 1.5 in truth
        }
        const Estimate estimate =
            ratio_estimate(sums, lengths, {.resamples = 400, .seed = static_cast<std::uint64_t>(trial)});
        covered += estimate.low <= 1.5 && 1.5 <= estimate.high ? 1 : 0;
    }
    // BCa on 50 skewed clusters covers 92–95 %; four standard errors (1.1 %) below 92 % would be a fault.
    EXPECT_GE(covered, trials * 88 / 100);
    EXPECT_LE(covered, trials * 99 / 100);
}

TEST(Bootstrap, a_paired_difference_is_sharper_than_an_unpaired_one) {
    base::RandomStream random(4);
    std::vector<double> a;
    std::vector<double> b;
    std::vector<double> n(80, 20.0);
    for (int i = 0; i < 80; ++i) {
        const double difficulty = 20 * random.normal();
        a.push_back(difficulty + 2 + random.normal());
        b.push_back(difficulty + random.normal());
    }
    const Estimate paired = paired_difference(a, b, n);
    const Estimate unpaired = unpaired_difference(ratio_sums(a, n), ratio_sums(b, n), ratio);
    EXPECT_NEAR(paired.value, unpaired.value, 1e-12);
    EXPECT_GT(paired.low, 0);
    EXPECT_LT(unpaired.low, 0);  // the shared difficulty drowns it
}

TEST(Bootstrap, statistics_of_one_call_share_their_resamples) {
    const ClusterSums sums{{1, 2, 5, 3, 2, 2, 9, 4, 3, 7}, 2};
    const std::vector<Statistic> statistics = {[](std::span<const double> t) { return t[0]; },
                                               [](std::span<const double> t) { return t[1]; },
                                               [](std::span<const double> t) { return t[0] - t[1]; },
                                               [](std::span<const double> t) { return t[0] - t[0]; }};
    const auto estimates = cluster_bootstrap(sums, statistics, {.method = IntervalMethod::percentile});
    EXPECT_EQ(estimates[3].low, 0);
    EXPECT_EQ(estimates[3].high, 0);
    EXPECT_EQ(estimates[2].value, estimates[0].value - estimates[1].value);
}

TEST(Bootstrap, one_cluster_says_nothing_about_spread) {
    const Estimate estimate = ratio_estimate(std::vector<double>{6}, std::vector<double>{3});
    EXPECT_EQ(estimate.value, 2);
    EXPECT_EQ(estimate.low, -std::numeric_limits<double>::infinity());
}

// Between models there is a standard deviation of .1, within them none worth speaking of: the interval is
// that of as many models, however many items they were asked.
TEST(Bootstrap, the_difference_from_controls_is_as_sure_as_there_are_models) {
    base::RandomStream random(5);
    std::vector<std::vector<double>> controls;
    double mean = 0;
    double squares = 0;
    for (int m = 0; m < 40; ++m) {
        const double level = 0.1 * random.normal();
        mean += level / 40;
        squares += level * level / 40;
        controls.emplace_back(1000, level);
    }
    const std::vector<double> suspect(1000, 0.5);
    const Estimate found = difference_from_controls(suspect, controls);
    EXPECT_NEAR(found.value, 0.5 - mean, 1e-9);
    const double width = 2 * 1.96 * std::sqrt((squares - mean * mean) / 40);
    EXPECT_NEAR(found.high - found.low, width, 0.1 * width);
    const Estimate one = difference_from_controls(suspect, std::span(controls).first(1));
    EXPECT_TRUE(std::isinf(one.low) && std::isinf(one.high));
}

TEST(Bootstrap, the_difference_from_controls_is_as_sure_as_there_are_items) {
    base::RandomStream random(7);
    std::vector<double> suspect;
    for (int i = 0; i < 400; ++i) suspect.push_back(random.normal());
    const Estimate found =
        difference_from_controls(suspect, std::vector<std::vector<double>>(5, std::vector<double>(400)));
    const double width = 2 * 1.96 / std::sqrt(400);
    EXPECT_NEAR(found.high - found.low, width, 0.15 * width);
}

// The same items are drawn for suspect and controls: what is hard for all is no difference.
TEST(Bootstrap, the_difference_from_controls_is_paired) {
    base::RandomStream random(6);
    std::vector<double> suspect;
    for (int i = 0; i < 500; ++i) suspect.push_back(random.normal());
    const std::vector<std::vector<double>> controls(4, suspect);
    const Estimate found = difference_from_controls(suspect, controls);
    EXPECT_NEAR(found.low, 0, 1e-9);
    EXPECT_NEAR(found.high, 0, 1e-9);
}

TEST(Bootstrap, a_constant_has_an_interval_of_no_width) {
    const Estimate estimate = ratio_estimate(std::vector<double>(30, 4), std::vector<double>(30, 2));
    EXPECT_EQ(estimate.low, 2);
    EXPECT_EQ(estimate.high, 2);
}

TEST(Estimate, overlap_counts_a_shared_end) {
    EXPECT_TRUE(overlap({1, 0, 2}, {3, 2, 4}));
    EXPECT_FALSE(overlap({1, 0, 1.9}, {3, 2, 4}));
}

}  // namespace
}  // namespace retort::stats
