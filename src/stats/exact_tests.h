// Tests whose null distribution is known exactly: their p-values as logarithms, true far below where a double
// underflows. One-sided all: small when the statistic is large. Knows nothing of what is tested.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace retort::stats {

// ln P(X ≥ k) of X ~ Binomial(n, p); 0 for k ≤ 0, −∞ for k > n.
double log_binomial_tail(std::int64_t k, std::int64_t n, double p);

// `count` independent Bernoulli(p), each worth `weight` ≥ 0 when it succeeds.
struct LatticeTerm {
    std::int64_t weight = 0;
    std::int64_t count = 0;
};
// ln P(S ≥ s) of S, the worth of all terms. Exact up to rounding: the characteristic function, tilted to the
// saddle point, is inverted by the trapezoidal rule, which converges geometrically (Abate & Whitt 1992).
double log_lattice_tail(std::span<const LatticeTerm> terms, double p, std::int64_t s);

// A sum's characteristic function, tilted by θ, at the nodes of the inversion that count.
struct LatticeTransform {
    struct Node {
        double omega = 0;
        double modulus = 0;
        double phase = 0;
    };
    double theta = 0;
    double cumulant = 0;
    std::int64_t count = 0;  // of all nodes
    std::vector<Node> nodes;
};

// The same for many sums of the same terms: their characteristic function is computed once, at one tilt.
// Where that is not exact enough, below e^−14, each sum has its own.
class LatticeNull {
  public:
    LatticeNull(std::span<const LatticeTerm> terms, double p);
    // ln P(S ≥ s), to 1e-8.
    [[nodiscard]] double log_p(std::int64_t s) const;

  private:
    static constexpr double shared_floor = -14;
    std::vector<LatticeTerm> terms_;
    double p_ = 0;
    LatticeTransform transform_;
};

// The null distribution of Σ dᵢ when each dᵢ's sign is a fair coin: all of 2ⁿ signs, counted by convolution.
// Differences are rounded to a grid first, the same for either sign, so that the test on the rounded numbers
// is exact; up to 20 of them the grid is as fine as doubles allow.
class SignFlipNull {
  public:
    explicit SignFlipNull(std::span<const double> differences);

    // ln P(sum ≥ that of `differences`), sums on the grid; the same length and absolute values as given.
    [[nodiscard]] double log_p(std::span<const double> differences) const;
    // ln P(sum > that of `differences`): with the above, a p-value made uniform by a random number.
    [[nodiscard]] double log_p_beyond(std::span<const double> differences) const;
    [[nodiscard]] std::int64_t informative() const { return informative_; }  // those that are not 0

  private:
    [[nodiscard]] std::int64_t positive_sum(std::span<const double> differences) const;
    double scale_ = 1;
    std::int64_t informative_ = 0;
    std::vector<double> log_tail_;  // of the sum of what is positive, from 0
};

// Kolmogorov's distance of a sample to the uniform distribution on [0, 1], and P(distance ≥ that), by the
// exact matrix formula (Marsaglia, Tsang & Wang 2003).
struct UniformityTest {
    double distance = 0;
    double p = 1;
};
UniformityTest kolmogorov_uniformity(std::span<const double> sample);
// P(D_n ≥ d).
double kolmogorov_tail(double d, std::int64_t n);

// Rank of one among others drawn as it was: (1 + how many are as large) / (1 + how many there are).
double rank_p(double value, std::span<const double> others);

}  // namespace retort::stats
