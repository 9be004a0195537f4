#include "stats/exact_tests.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/random.h"
#include "stats/distributions.h"
#include "stats/e_values.h"
#include "stats/multiplicity.h"

namespace retort::stats {
namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon();

const nlohmann::json& golden() {
    static const nlohmann::json values =
        nlohmann::json::parse(std::ifstream(RETORT_TEST_DATA "/stats/exact_tests.json"));
    return values;
}

// Rounding x by ε moves the tail's logarithm by ε·|x − a|; the series and fractions take some √a steps; the
// logarithm itself is rounded, and the sum that it is once more.
double gamma_tolerance(double a, double x, double expected) {
    return (200 + std::sqrt(a)) * epsilon + 4 * epsilon * std::abs(x - a) + 2 * epsilon * std::abs(expected);
}

TEST(Distributions, log_incomplete_gamma) {
    for (const std::vector<double> row : golden()["log_upper_gamma"]) {
        EXPECT_NEAR(log_upper_gamma(row[0], row[1]), row[2], gamma_tolerance(row[0], row[1], row[2]))
            << row[0] << ' ' << row[1];
    }
    for (const std::vector<double> row : golden()["log_lower_gamma"]) {
        EXPECT_NEAR(log_lower_gamma(row[0], row[1]), row[2], gamma_tolerance(row[0], row[1], row[2]))
            << row[0] << ' ' << row[1];
    }
}

TEST(ExactTests, binomial_tail_in_logarithms) {
    for (const auto& row : golden()["binomial"]) {
        const double expected = row[3];
        EXPECT_NEAR(log_binomial_tail(row[0], row[1], row[2]), expected, 1e-12 * (1 + std::abs(expected)))
            << row.dump();
    }
    EXPECT_EQ(log_binomial_tail(0, 5, 0.3), 0);
    EXPECT_EQ(log_binomial_tail(6, 5, 0.3), -std::numeric_limits<double>::infinity());
}

// An absolute error of 1e-15 in P is 1e-9 in ln P at the floor of −14, beyond which each sum is inverted
// alone.
TEST(ExactTests, one_null_for_many_sums_gives_each_its_tail) {
    const std::vector<LatticeTerm> terms = {{1, 40}, {7, 31}, {30, 12}, {211, 9}, {1024, 5}};
    const LatticeNull null(terms, 0.25);
    for (std::int64_t s = -3; s <= 7900; s += 13) {
        const double expected = log_lattice_tail(terms, 0.25, s);
        if (std::isinf(expected)) {
            EXPECT_EQ(null.log_p(s), expected) << s;
        } else {
            EXPECT_NEAR(null.log_p(s), expected, 1e-8) << s;
        }
    }
}

TEST(ExactTests, lattice_tail_is_that_of_the_counted_polynomial) {
    for (const auto& row : golden()["lattice"]) {
        std::vector<LatticeTerm> terms;
        for (const auto& term : row[0]) terms.push_back({term[0], term[1]});
        const double expected = row[3];
        // The inversion loses some digits of the absolute size of its largest node, about 1.
        EXPECT_NEAR(log_lattice_tail(terms, row[1], row[2]), expected, 1e-10 * (1 + std::abs(expected)))
            << "s " << row[2] << " p " << row[1];
    }
}

TEST(ExactTests, sign_flips_are_all_counted) {
    for (const auto& row : golden()["sign_flip"]) {
        const std::vector<double> differences = row[0];
        const SignFlipNull null(differences);
        const double expected = row[1];
        // Whole numbers lie on the grid, and the counts are sums of positive numbers.
        EXPECT_NEAR(null.log_p(differences), expected,
                    1e-12 * static_cast<double>(differences.size()) * (1 + std::abs(expected)))
            << differences.size();
        if (row[2].is_null()) {
            EXPECT_EQ(null.log_p_beyond(differences), -std::numeric_limits<double>::infinity());
            continue;
        }
        const double beyond = row[2];
        EXPECT_NEAR(null.log_p_beyond(differences), beyond,
                    1e-12 * static_cast<double>(differences.size()) * (1 + std::abs(beyond)))
            << differences.size();
    }
    const SignFlipNull nothing(std::vector<double>{0, 0});
    EXPECT_EQ(nothing.log_p(std::vector<double>{0, 0}), 0);
    EXPECT_EQ(nothing.informative(), 0);
}

TEST(ExactTests, sign_flip_of_equal_differences_is_the_binomial) {
    std::vector<double> differences(200, 0.37);
    for (std::size_t i = 0; i < 60; ++i) differences[i] = -0.37;
    EXPECT_NEAR(SignFlipNull(differences).log_p(differences), log_binomial_tail(140, 200, 0.5), 1e-9);
}

TEST(ExactTests, kolmogorov_is_that_of_scipy) {
    for (const std::vector<double> row : golden()["kolmogorov"]) {
        // The series above nd² = 3.76 is good to 7 digits of 1 − p; below it the matrix is exact.
        EXPECT_NEAR(kolmogorov_tail(row[0], static_cast<std::int64_t>(row[1])), row[2], 2e-7)
            << row[0] << ' ' << row[1];
    }
}

TEST(ExactTests, kolmogorov_tells_uniform_from_not) {
    base::RandomStream random(5);
    std::vector<double> uniform(1000);
    for (double& u : uniform) u = random.uniform();
    EXPECT_GT(kolmogorov_uniformity(uniform).p, 0.001);
    for (double& u : uniform) u = u * u;
    EXPECT_LT(kolmogorov_uniformity(uniform).p, 1e-9);
}

TEST(ExactTests, rank_among_decoys) {
    for (const auto& row : golden()["rank"]) {
        EXPECT_DOUBLE_EQ(rank_p(row[0], std::vector<double>(row[1])), row[2].get<double>());
    }
    EXPECT_DOUBLE_EQ(rank_p(3, std::vector<double>{1, 2, 3, 4}), 3.0 / 5);
    EXPECT_DOUBLE_EQ(rank_p(9, std::vector<double>(99, 1.0)), 0.01);
}

TEST(Multiplicity, adjusted_p_values_are_those_of_scipy) {
    const auto& expected = golden()["adjusted"];
    const std::vector<double> p = expected["p"];
    const auto same = [&](const std::vector<double>& got, const char* name) {
        for (std::size_t i = 0; i < p.size(); ++i)
            EXPECT_DOUBLE_EQ(got[i], expected[name][i].get<double>()) << name;
    };
    same(adjust_holm(p), "holm");
    same(adjust_bonferroni(p), "bonferroni");
    same(adjust_benjamini_hochberg(p), "benjamini_hochberg");
}

// Each of n steps rounds ln wealth and the stake that follows from its sums.
TEST(EValues, wealth_is_that_of_the_definition) {
    for (const auto& row : golden()["bets"]) {
        BettingMartingale bet(row[0]);
        for (const double value : row[1]) bet.observe(value);
        const double wealth = row[2];
        const double log_p = row[3];
        EXPECT_NEAR(bet.log_wealth(), wealth, 1e-11 * (1 + std::abs(wealth)));
        EXPECT_NEAR(bet.log_p(), log_p, 1e-11 * (1 + std::abs(log_p)));
        EXPECT_EQ(bet.observations(), static_cast<std::int64_t>(row[1].size()));
    }
    for (const auto& row : golden()["mean_e"]) {
        const std::vector<double> logs = row[0];
        EXPECT_NEAR(log_mean_e_value(logs.data(), static_cast<std::int64_t>(logs.size())), row[1],
                    1e-13 * (1 + std::abs(row[1].get<double>())));
    }
}

// Ville: the wealth of a bet on a true null reaches 20 in at most 5 % of runs, stopped wherever it is
// highest.
TEST(EValues, wealth_rarely_grows_under_the_null_and_grows_against_it) {
    base::RandomStream random(11);
    int reached = 0;
    constexpr int runs = 2000;
    for (int run = 0; run < runs; ++run) {
        BettingMartingale bet(0.25);
        for (int i = 0; i < 400; ++i) bet.observe(random.uniform() < 0.25 ? 1 : 0);
        reached += bet.log_p() <= std::log(0.05);
    }
    // At most 100 in the mean; 4.5 standard deviations above.
    EXPECT_LT(reached, 145);
    BettingMartingale bet(0.25);
    for (int i = 0; i < 2000; ++i) bet.observe(random.uniform() < 0.35 ? 1 : 0);
    EXPECT_LT(bet.log_p(), std::log(1e-6));
    const double pair[] = {std::log(3.0), std::log(1.0)};
    EXPECT_NEAR(log_mean_e_value(pair, 2), std::log(2.0), 1e-12);
}

}  // namespace
}  // namespace retort::stats
