// Distribution functions that the tests and intervals stand on, in double precision.
#pragma once

namespace retort::stats {

// P(Z ≤ x) for a standard normal Z; keeps its relative precision far into the lower tail.
double normal_cdf(double x);

// The x with normal_cdf(x) = p; −∞ at 0 and +∞ at 1, NaN outside [0, 1].
double normal_quantile(double p);

// Regularised incomplete beta function I_x(a, b), a and b > 0, x clamped to [0, 1]. The binomial tail
// P(X ≥ k) of n trials at rate p is I_p(k, n − k + 1).
double incomplete_beta(double a, double b, double x);
// ln I_x(a, b), exact where I_x itself would underflow.
double log_incomplete_beta(double a, double b, double x);
// The x with I_x(a, b) = p.
double incomplete_beta_inverse(double a, double b, double p);

// ln of the regularised incomplete gamma functions, a > 0, x ≥ 0: P(a, x) = γ(a, x)/Γ(a), the distribution
// function of a sum of `a` exponential variables, and Q = 1 − P.
double log_lower_gamma(double a, double x);
double log_upper_gamma(double a, double x);

}  // namespace retort::stats
