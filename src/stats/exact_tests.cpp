#include "stats/exact_tests.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numbers>

#include "stats/distributions.h"

namespace retort::stats {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Σ count·weight·q and Σ count·weight²·q(1 − q) at tilt θ, and the cumulant Σ count·ln(1 − p + p
// e^{θ·weight}).
struct Tilted {
    double cumulant = 0;
    double mean = 0;
    double variance = 0;
};

Tilted tilt(std::span<const LatticeTerm> terms, double p, double theta) {
    Tilted out;
    for (const LatticeTerm& term : terms) {
        const auto w = static_cast<double>(term.weight);
        const auto n = static_cast<double>(term.count);
        // ln(1 − p + p e^x), with e^x taken out where it is large.
        const double x = theta * w;
        const double log_sum =
            x > 0 ? x + std::log(p + (1 - p) * std::exp(-x)) : std::log1p(p * std::expm1(x));
        const double q = p * std::exp(x - log_sum);
        out.cumulant += n * log_sum;
        out.mean += n * w * q;
        out.variance += n * w * w * q * (1 - q);
    }
    return out;
}

double saddle_point(std::span<const LatticeTerm> terms, double p, double s) {
    double low = 0;
    double high = 1e-6;
    while (tilt(terms, p, high).mean < s && high < 1e4) high *= 2;
    double theta = high / 2;
    for (int step = 0; step < 200; ++step) {
        const Tilted at = tilt(terms, p, theta);
        (at.mean < s ? low : high) = theta;
        double next = theta + (s - at.mean) / at.variance;
        if (!(next > low && next < high)) next = 0.5 * (low + high);
        if (std::abs(next - theta) <= 1e-12 * theta) return next;
        theta = next;
    }
    return theta;
}

// The characteristic function of the tilted sum at the nodes where it is not 0 to the last digit.
LatticeTransform transform(std::span<const LatticeTerm> terms, double p, double theta) {
    const Tilted at = tilt(terms, p, theta);
    LatticeTransform out;
    out.theta = theta;
    out.cumulant = at.cumulant;
    // Aliases are e^{−θN} and what the tilted distribution has N away: both below 1e-17.
    const double period = std::max({64.0, 42 / theta, 24 * std::sqrt(at.variance)});
    out.count = static_cast<std::int64_t>(std::ceil(period)) | 1;  // odd: no node at π
    std::vector<double> share;
    share.reserve(terms.size());
    for (const LatticeTerm& term : terms) {
        const double x = theta * static_cast<double>(term.weight);
        share.push_back(p / (p + (1 - p) * std::exp(-x)));
    }
    const double decay = std::exp(-theta);
    for (std::int64_t k = 1; k <= out.count / 2; ++k) {
        const double omega = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(out.count);
        double log_modulus = 0;
        double phase = 0;
        for (std::size_t j = 0; j < terms.size() && log_modulus > -60; ++j) {
            const double angle = omega * static_cast<double>(terms[j].weight);
            const auto n = static_cast<double>(terms[j].count);
            const double half = std::sin(angle / 2);
            const double q = share[j];
            log_modulus += 0.5 * n * std::log1p(-4 * q * (1 - q) * half * half);
            phase += n * std::atan2(q * std::sin(angle), 1 - 2 * q * half * half);
        }
        if (log_modulus <= -60) continue;
        // e^{log_modulus + i·phase} / (1 − e^{−θ − iω}), whose conjugate's argument is taken from the phase.
        const double real = 1 - decay * std::cos(omega);
        const double imaginary = decay * std::sin(omega);
        out.nodes.push_back({omega, std::exp(log_modulus) / std::hypot(real, imaginary),
                             phase - std::atan2(imaginary, real)});
    }
    return out;
}

double log_tail(const LatticeTransform& at, double s) {
    double sum = 0.5 / -std::expm1(-at.theta);
    for (const LatticeTransform::Node& node : at.nodes) {
        sum += node.modulus * std::cos(node.phase - node.omega * s);
    }
    return at.cumulant - at.theta * s + std::log(2 * sum / static_cast<double>(at.count));
}

double spread_of(std::span<const LatticeTerm> terms, double p) {
    return std::sqrt(tilt(terms, p, 0).variance);
}

// For s above the mean and below the largest sum.
double log_tail_by_inversion(std::span<const LatticeTerm> terms, double p, double s) {
    return log_tail(transform(terms, p, std::max(saddle_point(terms, p, s), 1 / spread_of(terms, p))), s);
}

// Without what is worth nothing. Those that shrink the characteristic function most come first, so that far
// nodes are given up early.
std::vector<LatticeTerm> in_order(std::span<const LatticeTerm> given) {
    std::vector<LatticeTerm> terms;
    for (const LatticeTerm& term : given) {
        if (term.weight > 0 && term.count > 0) terms.push_back(term);
    }
    std::sort(terms.begin(), terms.end(), [](const LatticeTerm& a, const LatticeTerm& b) {
        return a.weight * a.weight * a.count > b.weight * b.weight * b.count;
    });
    return terms;
}

}  // namespace

double log_binomial_tail(std::int64_t k, std::int64_t n, double p) {
    if (k <= 0) return 0;
    if (k > n) return -infinity;
    return log_incomplete_beta(static_cast<double>(k), static_cast<double>(n - k + 1), p);
}

double log_lattice_tail(std::span<const LatticeTerm> given, double p, std::int64_t s) {
    const std::vector<LatticeTerm> terms = in_order(given);
    double total = 0;
    double all = 0;  // ln P(S = total)
    double mean = 0;
    for (const LatticeTerm& term : terms) {
        const double worth = static_cast<double>(term.weight) * static_cast<double>(term.count);
        total += worth;
        mean += p * worth;
        all += static_cast<double>(term.count) * std::log(p);
    }
    const auto wanted = static_cast<double>(s);
    if (s <= 0) return 0;
    if (wanted > total) return -infinity;
    if (wanted == total) return all;
    if (terms.size() == 1) {
        const std::int64_t weight = terms[0].weight;
        return log_binomial_tail((s + weight - 1) / weight, terms[0].count, p);
    }
    if (wanted > mean) return std::min(0.0, log_tail_by_inversion(terms, p, wanted));
    // P(S ≥ s) = 1 − P(total − S ≥ total − s + 1), whose successes are our failures.
    const double rest = total - wanted + 1;
    double other = 0;
    if (rest >= total) {
        other = 0;
        for (const LatticeTerm& term : terms) other += static_cast<double>(term.count) * std::log1p(-p);
        if (rest > total) return 0;
    } else {
        other = std::min(0.0, log_tail_by_inversion(terms, 1 - p, rest));
    }
    return std::log1p(-std::exp(other));
}

LatticeNull::LatticeNull(std::span<const LatticeTerm> terms, double p) : terms_(in_order(terms)), p_(p) {
    if (terms_.size() > 1) transform_ = transform(terms_, p, 1 / spread_of(terms_, p));
}

double LatticeNull::log_p(std::int64_t s) const {
    std::int64_t total = 0;
    for (const LatticeTerm& term : terms_) total += term.weight * term.count;
    if (terms_.size() > 1 && s > 0 && s < total) {
        // One tilt serves all sums with an absolute error of some 1e-15, a small part of what is kept here.
        const double shared = log_tail(transform_, static_cast<double>(s));
        if (shared > shared_floor) return std::min(0.0, shared);
    }
    return log_lattice_tail(terms_, p_, s);
}

SignFlipNull::SignFlipNull(std::span<const double> differences) {
    double largest = 0;
    for (const double d : differences) {
        largest = std::max(largest, std::abs(d));
        informative_ += d != 0;
    }
    if (informative_ == 0 || !std::isfinite(largest)) {
        informative_ = 0;
        log_tail_ = {0};
        return;
    }
    // At most a million cells, and some 10⁹ additions.
    const auto n = static_cast<double>(informative_);
    const double grid = std::clamp(std::min(1e6 / n, 1e9 / (n * n)), 8.0, 50000.0);
    // Whole numbers stay in proportion, so that sums that tie go on tying.
    scale_ = largest <= grid ? std::floor(grid / largest) : grid / largest;
    std::vector<std::int64_t> weights;
    std::int64_t total = 0;
    for (const double d : differences) {
        const auto weight = std::llround(std::abs(d) * scale_);
        if (weight == 0) continue;
        weights.push_back(weight);
        total += weight;
    }
    std::sort(weights.begin(), weights.end());
    std::vector<double> mass(static_cast<std::size_t>(total + 1), 0.0);
    mass[0] = 1;
    std::int64_t reach = 0;
    constexpr double half = 0.5;
    for (const std::int64_t weight : weights) {
        for (std::int64_t x = reach; x >= 0; --x) {
            // From the top down: x + weight has been halved already, and is not halved again.
            const double moved = half * mass[static_cast<std::size_t>(x)];
            mass[static_cast<std::size_t>(x)] = moved;
            mass[static_cast<std::size_t>(x + weight)] += moved;
        }
        reach += weight;
    }
    log_tail_.resize(mass.size() + 1, -infinity);
    double tail = 0;
    for (std::size_t x = mass.size(); x-- > 0;) {
        tail += mass[x];
        log_tail_[x] = tail > 0 ? std::log(tail) : -infinity;
    }
    log_tail_[0] = 0;
}

std::int64_t SignFlipNull::positive_sum(std::span<const double> differences) const {
    std::int64_t sum = 0;
    for (const double d : differences) {
        if (d > 0) sum += std::llround(d * scale_);
    }
    return sum;
}

double SignFlipNull::log_p(std::span<const double> differences) const {
    if (informative_ == 0) return 0;
    const auto at = static_cast<std::size_t>(positive_sum(differences));
    assert(at < log_tail_.size());
    return std::min(0.0, log_tail_[at]);
}

double SignFlipNull::log_p_beyond(std::span<const double> differences) const {
    if (informative_ == 0) return -infinity;
    return std::min(0.0, log_tail_[static_cast<std::size_t>(positive_sum(differences)) + 1]);
}

double kolmogorov_tail(double d, std::int64_t n) {
    if (n <= 0 || d <= 0) return 1;
    if (d >= 1) return 0;
    const double s = d * d * static_cast<double>(n);
    // Where the matrix would be large and the answer small, the two one-sided series agree to 7 digits.
    if (s > 7.24 || (s > 3.76 && n > 99)) {
        const double root = std::sqrt(static_cast<double>(n));
        return 2 * std::exp(-(2.000071 + 0.331 / root + 1.409 / static_cast<double>(n)) * s);
    }
    const auto k = static_cast<std::int64_t>(static_cast<double>(n) * d) + 1;
    const auto m = static_cast<std::size_t>(2 * k - 1);
    const double h = static_cast<double>(k) - static_cast<double>(n) * d;
    using Matrix = std::vector<double>;
    Matrix step(m * m);
    for (std::size_t i = 0; i < m; ++i) {
        for (std::size_t j = 0; j < m; ++j) step[i * m + j] = i + 1 < j ? 0 : 1;
    }
    for (std::size_t i = 0; i < m; ++i) {
        step[i * m] -= std::pow(h, static_cast<double>(i + 1));
        step[(m - 1) * m + i] -= std::pow(h, static_cast<double>(m - i));
    }
    step[(m - 1) * m] += 2 * h - 1 > 0 ? std::pow(2 * h - 1, static_cast<double>(m)) : 0;
    for (std::size_t i = 0; i < m; ++i) {
        for (std::size_t j = 0; j < m; ++j) {
            for (std::size_t g = 1; i + 1 > j && g <= i - j + 1; ++g) {
                step[i * m + j] /= static_cast<double>(g);
            }
        }
    }
    const auto product = [m](const Matrix& a, const Matrix& b) {
        Matrix c(m * m, 0.0);
        for (std::size_t i = 0; i < m; ++i) {
            for (std::size_t l = 0; l < m; ++l) {
                const double value = a[i * m + l];
                if (value == 0) continue;
                for (std::size_t j = 0; j < m; ++j) c[i * m + j] += value * b[l * m + j];
            }
        }
        return c;
    };
    // The power, scaled as it grows; exponents of ten are kept apart.
    Matrix power(m * m, 0.0);
    for (std::size_t i = 0; i < m; ++i) power[i * m + i] = 1;
    int power_exponent = 0;
    int step_exponent = 0;
    for (std::int64_t left = n; left > 0; left /= 2) {
        const auto rescale = [&](Matrix& matrix, int& exponent) {
            if (matrix[static_cast<std::size_t>(k - 1) * m + static_cast<std::size_t>(k - 1)] > 1e140) {
                for (double& value : matrix) value *= 1e-140;
                exponent += 140;
            }
        };
        if (left % 2 == 1) {
            power = product(power, step);
            power_exponent += step_exponent;
            rescale(power, power_exponent);
        }
        step = product(step, step);
        step_exponent *= 2;
        rescale(step, step_exponent);
    }
    double value = power[static_cast<std::size_t>(k - 1) * m + static_cast<std::size_t>(k - 1)];
    for (std::int64_t i = 1; i <= n; ++i) {
        value *= static_cast<double>(i) / static_cast<double>(n);
        if (value < 1e-140) {
            value *= 1e140;
            power_exponent -= 140;
        }
    }
    return std::clamp(1 - value * std::pow(10.0, power_exponent), 0.0, 1.0);
}

UniformityTest kolmogorov_uniformity(std::span<const double> sample) {
    std::vector<double> sorted(sample.begin(), sample.end());
    std::sort(sorted.begin(), sorted.end());
    const auto n = static_cast<double>(sorted.size());
    UniformityTest test;
    for (std::size_t i = 0; i < sorted.size(); ++i) {
        const auto rank = static_cast<double>(i);
        test.distance = std::max({test.distance, sorted[i] - rank / n, (rank + 1) / n - sorted[i]});
    }
    test.p = kolmogorov_tail(test.distance, static_cast<std::int64_t>(sorted.size()));
    return test;
}

double rank_p(double value, std::span<const double> others) {
    const auto as_large = std::count_if(others.begin(), others.end(), [&](double x) { return x >= value; });
    return (1 + static_cast<double>(as_large)) / (1 + static_cast<double>(others.size()));
}

}  // namespace retort::stats
