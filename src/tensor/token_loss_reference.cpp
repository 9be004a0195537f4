// The definitions, written out in double precision: what the kernels are held to.
#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/token_loss.h"

namespace retort::tensor {

namespace {

std::vector<double> log_softmax(const float* logits, std::int64_t vocab, double temperature) {
    std::vector<double> result(logits, logits + vocab);
    for (double& x : result) x /= temperature;
    const double top = *std::max_element(result.begin(), result.end());
    double sum = 0;
    for (const double x : result) sum += std::exp(x - top);
    for (double& x : result) x -= top + std::log(sum);
    return result;
}

// p·log(p/m) given the logarithms; 0 at p = 0.
double information(double p, double log_p, double log_m) {
    return p == 0 ? 0.0 : p * (log_p - log_m);
}

DivergenceTerm term_of_logs(Divergence kind, double parameter, double log_p, double log_q) {
    const double p = std::exp(log_p);
    const double q = std::exp(log_q);
    const double log_top = std::max(log_p, log_q);
    if (std::isinf(log_top)) return {};  // neither side gives it any
    const auto log_mixture = [&](double of_p) {
        return log_top + std::log(of_p * std::exp(log_p - log_top) + (1 - of_p) * std::exp(log_q - log_top));
    };
    switch (kind) {
        case Divergence::fkl:
            return {information(p, log_p, log_q), p == 0 ? 0.0 : -p / q};
        case Divergence::rkl:
            return {information(q, log_q, log_p), q == 0 ? 0.0 : log_q - log_p};
        case Divergence::jsd: {
            const double log_m = log_mixture(parameter);
            return {parameter * information(p, log_p, log_m) + (1 - parameter) * information(q, log_q, log_m),
                    q == 0 ? 0.0 : (1 - parameter) * (log_q - log_m)};
        }
        case Divergence::skew_fkl: {
            const double log_m = log_mixture(parameter);
            return {information(p, log_p, log_m), p == 0 ? 0.0 : -(1 - parameter) * std::exp(log_p - log_m)};
        }
        case Divergence::skew_rkl: {
            const double log_m = log_mixture(1 - parameter);
            return {information(q, log_q, log_m),
                    q == 0 ? 0.0 : log_q - log_m - parameter * std::exp(log_q - log_m)};
        }
        case Divergence::tvd:
            return {0.5 * std::abs(p - q), p == q ? 0.0 : std::copysign(0.5, q - p)};
    }
    return {};
}

}  // namespace

DivergenceTerm divergence_term(Divergence kind, double parameter, double p, double q) {
    return term_of_logs(kind, parameter, std::log(p), std::log(q));
}

TokenLoss token_loss_reference(const float* student, const float* teacher, std::int32_t target,
                               std::int64_t vocab, const TokenLossWeights& weights, double* gradient) {
    TokenLoss loss;
    const auto log_q1 = log_softmax(student, vocab, 1.0);
    loss.ce = -log_q1[static_cast<std::size_t>(target)];
    for (std::int64_t i = 0; i < vocab; ++i) {
        gradient[i] = static_cast<double>(weights.ce) *
                      (std::exp(log_q1[static_cast<std::size_t>(i)]) - (i == target ? 1.0 : 0.0));
    }
    if (weights.divergence == 0.0F) return loss;
    const double t = static_cast<double>(weights.temperature);
    const auto log_q = log_softmax(student, vocab, t);
    const auto log_p = log_softmax(teacher, vocab, t);
    const Divergence kind = effective_kind(weights);
    std::vector<double> flow(log_q.size());  // q·g
    double mean = 0;
    for (std::size_t i = 0; i < flow.size(); ++i) {
        const DivergenceTerm term =
            term_of_logs(kind, static_cast<double>(weights.parameter), log_p[i], log_q[i]);
        loss.divergence += t * t * term.value;
        flow[i] = kind == Divergence::fkl ? -std::exp(log_p[i])  // q·(−p/q), where q may be 0
                                          : std::exp(log_q[i]) * term.slope;
        mean += flow[i];
    }
    const double factor = static_cast<double>(weights.divergence) * t;
    for (std::size_t i = 0; i < flow.size(); ++i)
        gradient[i] += factor * (flow[i] - std::exp(log_q[i]) * mean);
    loss.agrees = student[std::max_element(teacher, teacher + vocab) - teacher] ==
                  *std::max_element(student, student + vocab);
    return loss;
}

}  // namespace retort::tensor
