#include "tensor/token_loss_policy.h"

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "tensor/token_loss_kernels.h"

namespace retort::tensor {

PolicyTerm policy_term(double logprob, const PolicyToken& token, const PolicyWeights& weights) {
    PolicyTerm term;
    const double advantage = static_cast<double>(token.advantage);
    term.ratio = std::exp(logprob - static_cast<double>(token.old_logprob));
    const double limited = std::clamp(term.ratio, 1 - static_cast<double>(weights.clip_low),
                                      1 + static_cast<double>(weights.clip_high));
    // The smaller of the two; where they are equal the ratio is within its limits, and its gradient counts.
    term.clipped = limited * advantage < term.ratio * advantage;
    term.loss = -(term.clipped ? limited : term.ratio) * advantage;
    term.slope = term.clipped ? 0.0 : -term.ratio * advantage;
    if (weights.kl != 0.0F) {
        const double d = static_cast<double>(token.reference_logprob) - logprob;
        term.kl = std::expm1(d) - d;
        term.loss += static_cast<double>(weights.kl) * term.kl;
        term.slope -= static_cast<double>(weights.kl) * std::expm1(d);
    }
    return term;
}

namespace {

PolicyLoss policy_row(float* student, std::int32_t target, const PolicyToken& token, std::int64_t vocab,
                      const PolicyWeights& weights) {
    const float top = row::largest(student, vocab);
    const float rate = 1.0F / weights.temperature;
    PolicyLoss loss;
    const double target_gap = static_cast<double>((student[target] - top) * rate);
    const row::EntropySums sums = row::entropy_exponentials(student, vocab, top, rate);
    const double log_sum = std::log(sums.sum);
    loss.logprob = target_gap - log_sum;
    loss.entropy = log_sum - sums.gap / sums.sum;
    const PolicyTerm term = policy_term(loss.logprob, token, weights);
    loss.loss = term.loss * static_cast<double>(token.weight);
    loss.ratio = term.ratio;
    loss.kl = term.kl;
    loss.clipped = term.clipped;
    // d log q(y)/d logits = ([y] − q)/T. A row that is no number stays one: its slope is NaN.
    const double slope = std::isfinite(top) ? term.slope : std::nan("");
    const double factor =
        slope * static_cast<double>(token.weight) * static_cast<double>(weights.scale * rate);
    row::scale(student, vocab, static_cast<float>(-factor / sums.sum));
    student[target] += static_cast<float>(factor);
    return loss;
}

}  // namespace

void policy_loss(float* student, const std::int32_t* targets, const PolicyToken* tokens, std::int64_t rows,
                 std::int64_t vocab, const PolicyWeights& weights, PolicyLoss* losses) {
    base::parallel_ranges(rows, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            losses[r] = policy_row(student + r * vocab, targets[r], tokens[r], vocab, weights);
        }
    });
}

void token_logprobs(const float* logits, const std::int32_t* targets, std::int64_t rows, std::int64_t vocab,
                    float temperature, float* logprobs) {
    const float rate = 1.0F / temperature;
    base::parallel_ranges(rows, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const float* line = logits + r * vocab;
            const float top = row::largest(line, vocab);
            const double log_sum = std::log(row::sum_exponentials(line, vocab, top, rate));
            logprobs[r] = static_cast<float>(static_cast<double>((line[targets[r]] - top) * rate) - log_sum);
        }
    });
}

}  // namespace retort::tensor
