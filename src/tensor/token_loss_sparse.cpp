#include "tensor/token_loss_sparse.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "tensor/token_loss_kernels.h"

namespace retort::tensor {

namespace {

// One row of the teacher's.
struct Entries {
    const std::int32_t* ids;
    const float* values;
    std::size_t count;
    double tail;
    double entropy;
};

Entries entries_of(const SparseTargets& teacher, std::int64_t row) {
    const std::int64_t begin = teacher.starts[row];
    return {teacher.ids + begin, teacher.values + begin,
            static_cast<std::size_t>(teacher.starts[row + 1] - begin),
            teacher.sampled ? 0.0 : static_cast<double>(teacher.tails[row]),
            teacher.sampled ? static_cast<double>(teacher.entropies[row]) : 0.0};
}

// The student's side of a row: probabilities of the kept ids, and of all others together.
struct Kept {
    std::vector<double> logs;  // (x − top)·rate of each id
    std::vector<double> q;     // probabilities; the tail behind them
    double sum = 0;            // of the exponentials
    double tail_sum = 0;
};

// Leaves the exponentials of all other ids in the row, and 0 at the kept ones: what is outside them is
// summed, never taken as a difference from 1.
void split(float* student, std::int64_t vocab, const Entries& entries, float top, float rate, Kept& kept) {
    kept.logs.resize(entries.count);
    kept.q.resize(entries.count + 1);
    double head = 0;
    for (std::size_t i = 0; i < entries.count; ++i) {
        float& logit = student[entries.ids[i]];
        kept.logs[i] = (static_cast<double>(logit) - static_cast<double>(top)) * static_cast<double>(rate);
        kept.q[i] = std::exp(kept.logs[i]);
        head += kept.q[i];
        logit = -std::numeric_limits<float>::infinity();
    }
    kept.tail_sum = row::exponentials(student, vocab, top, rate, student);
    kept.sum = head + kept.tail_sum;
    for (std::size_t i = 0; i < entries.count; ++i) kept.q[i] /= kept.sum;
    kept.q[entries.count] = kept.tail_sum / kept.sum;
}

// Both sides to the power 1/T, and normalised.
void temper(std::vector<double>& masses, double temperature) {
    double sum = 0;
    for (double& mass : masses) {
        mass = mass > 0 ? std::exp(std::log(mass) / temperature) : 0.0;
        sum += mass;
    }
    for (double& mass : masses) mass /= sum;
}

// A divergence over the buckets; flows[b] becomes r·(g − Σr·g), of which the gradient of a logit is its share
// of the bucket.
double bucket_divergence(const TokenLossWeights& weights, const std::vector<double>& p,
                         const std::vector<double>& r, std::vector<double>& flows) {
    // f32 exponentials of the student end here; below, a logarithm would be of what was rounded to 0.
    constexpr double least = 1e-40;
    const Divergence kind = effective_kind(weights);
    double value = 0;
    double mean = 0;
    flows.resize(p.size());
    for (std::size_t b = 0; b < p.size(); ++b) {
        if (p[b] == 0 && r[b] < least) {
            flows[b] = 0;
            continue;
        }
        const double rb = std::max(r[b], least);
        const DivergenceTerm term = divergence_term(kind, static_cast<double>(weights.parameter), p[b], rb);
        value += term.value;
        flows[b] = kind == Divergence::fkl ? -p[b] : rb * term.slope;
        mean += flows[b];
    }
    for (std::size_t b = 0; b < p.size(); ++b) flows[b] -= r[b] * mean;
    return value;
}

// All that is known of such a row is the token that was written.
bool is_unknown(const SparseTargets& teacher, const Entries& entries) {
    return !teacher.sampled && entries.count == 0;
}

TokenLoss written_token_row(float* student, std::int32_t target, std::int64_t vocab,
                            const TokenLossWeights& weights, float top) {
    const double factor =
        static_cast<double>(weights.ce + weights.divergence) * static_cast<double>(weights.scale);
    const double gap = static_cast<double>(top) - static_cast<double>(student[target]);
    const double sum = row::exponentials(student, vocab, top, 1.0F, student);
    row::scale(student, vocab, static_cast<float>(factor / sum));
    student[target] -= static_cast<float>(factor);
    const double ce = std::log(sum) + gap;
    return {ce, ce, gap == 0};
}

struct Scratch {
    Kept kept;
    std::vector<double> p;
    std::vector<double> r;
    std::vector<double> flows;
};

TokenLoss sparse_row(float* student, const SparseTargets& teacher, const Entries& entries,
                     std::int32_t target, std::int64_t vocab, const TokenLossWeights& weights) {
    const float top = row::largest(student, vocab);
    if (!std::isfinite(top)) return row::not_a_number(student, vocab);
    if (is_unknown(teacher, entries)) return written_token_row(student, target, vocab, weights, top);
    thread_local Scratch scratch;
    Kept& kept = scratch.kept;
    TokenLoss loss;
    const auto* largest = std::max_element(entries.values, entries.values + entries.count);
    loss.agrees = entries.count > 0 && student[entries.ids[largest - entries.values]] == top;
    const double target_gap = static_cast<double>(top) - static_cast<double>(student[target]);
    const bool tempers = !teacher.sampled && teacher.temperature == 1.0F && weights.temperature != 1.0F;
    const float rate = tempers ? 1.0F : 1.0F / weights.temperature;
    const bool shares_softmax = rate == 1.0F;
    row::PlainSoftmax plain;
    if (!shares_softmax) plain = row::plain_softmax(student, vocab, top, weights.ce != 0.0F);
    split(student, vocab, entries, top, rate, kept);
    const double t = static_cast<double>(weights.temperature);
    const double scale = static_cast<double>(weights.scale);
    const double factor = static_cast<double>(weights.divergence) * t * scale;
    const double ce_factor = static_cast<double>(weights.ce) * scale;
    const double share = shares_softmax ? ce_factor : 0.0;
    double value = 0;
    double tail_factor = 0;  // of q
    if (teacher.sampled) {
        double drawn = 0;
        for (std::size_t i = 0; i < entries.count; ++i) {
            value -= static_cast<double>(entries.values[i]) * (kept.logs[i] - std::log(kept.sum));
            drawn += static_cast<double>(entries.values[i]);
        }
        value -= entries.entropy;
        scratch.flows.resize(entries.count + 1);
        for (std::size_t i = 0; i < entries.count; ++i)
            scratch.flows[i] = drawn * kept.q[i] - static_cast<double>(entries.values[i]);
        tail_factor = drawn;
    } else {
        scratch.p.assign(entries.values, entries.values + entries.count);
        scratch.p.push_back(entries.tail);
        scratch.r = kept.q;
        if (tempers) {
            temper(scratch.p, t);
            temper(scratch.r, t);
        }
        value = bucket_divergence(weights, scratch.p, scratch.r, scratch.flows);
        const double tail = kept.q[entries.count];
        tail_factor = tail > 0 ? scratch.flows[entries.count] / tail : 0.0;
    }
    row::scale(student, vocab, static_cast<float>((factor * tail_factor + share) / kept.sum));
    for (std::size_t i = 0; i < entries.count; ++i) {
        student[entries.ids[i]] = static_cast<float>(factor * scratch.flows[i] + share * kept.q[i]);
    }
    loss.divergence = t * t * value;
    if (shares_softmax) plain.sum = kept.sum;
    loss.ce = std::log(plain.sum) + target_gap;
    if (plain.exponentials != nullptr) {
        row::add_scaled(student, plain.exponentials, vocab, static_cast<float>(ce_factor / plain.sum));
    }
    student[target] -= static_cast<float>(ce_factor);
    return loss;
}

}  // namespace

void sparse_token_loss(float* student, const SparseTargets& teacher, const std::int32_t* targets,
                       std::int64_t rows, std::int64_t vocab, const TokenLossWeights& weights,
                       TokenLoss* losses) {
    base::parallel_ranges(rows, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            losses[r] =
                sparse_row(student + r * vocab, teacher, entries_of(teacher, r), targets[r], vocab, weights);
        }
    });
}

TokenLoss sparse_token_loss_reference(const float* student, const SparseTargets& teacher, std::int32_t target,
                                      std::int64_t vocab, const TokenLossWeights& weights, double* gradient) {
    const Entries entries = entries_of(teacher, 0);
    const double t = static_cast<double>(weights.temperature);
    const bool tempers = !teacher.sampled && teacher.temperature == 1.0F && t != 1.0;
    const auto softmax = [&](double temperature) {
        std::vector<double> q(student, student + vocab);
        const double top = *std::max_element(q.begin(), q.end());
        double sum = 0;
        for (double& x : q) sum += x = std::exp((x - top) / temperature);
        for (double& x : q) x /= sum;
        return q;
    };
    TokenLoss loss;
    const auto plain = softmax(1.0);
    loss.ce = -std::log(plain[static_cast<std::size_t>(target)]);
    if (is_unknown(teacher, entries)) {
        loss.divergence = loss.ce;
        const double factor = static_cast<double>(weights.ce + weights.divergence);
        for (std::size_t i = 0; i < plain.size(); ++i) gradient[i] = factor * plain[i];
        gradient[target] -= factor;
        return loss;
    }
    const auto q = tempers ? plain : softmax(t);
    std::vector<std::size_t> bucket(q.size(), entries.count);
    for (std::size_t i = 0; i < entries.count; ++i) bucket[static_cast<std::size_t>(entries.ids[i])] = i;
    std::vector<double> d_bucket(entries.count + 1);  // dD/dQ_b
    std::vector<double> masses(entries.count + 1);
    for (std::size_t i = 0; i < q.size(); ++i) masses[bucket[i]] += q[i];
    if (teacher.sampled) {
        loss.divergence = -entries.entropy;
        for (std::size_t b = 0; b < entries.count; ++b) {
            loss.divergence -= static_cast<double>(entries.values[b]) * std::log(masses[b]);
            d_bucket[b] = -static_cast<double>(entries.values[b]) / masses[b];
        }
    } else {
        std::vector<double> p(entries.values, entries.values + entries.count);
        p.push_back(entries.tail);
        auto r = masses;
        if (tempers) {
            temper(p, t);
            temper(r, t);
        }
        double mean = 0;
        std::vector<double> slopes;
        for (std::size_t b = 0; b < p.size(); ++b) {
            const DivergenceTerm term =
                divergence_term(effective_kind(weights), static_cast<double>(weights.parameter), p[b], r[b]);
            loss.divergence += term.value;
            slopes.push_back(term.slope);
            mean += r[b] * term.slope;
        }
        const double power = tempers ? 1 / t : 1.0;
        for (std::size_t b = 0; b < p.size(); ++b)
            d_bucket[b] = power * r[b] * (slopes[b] - mean) / masses[b];
    }
    loss.divergence *= t * t;
    double mean = 0;
    for (std::size_t i = 0; i < q.size(); ++i) mean += q[i] * d_bucket[bucket[i]];
    const double factor = static_cast<double>(weights.divergence) * t * (tempers ? t : 1.0);
    for (std::size_t i = 0; i < q.size(); ++i) {
        gradient[i] =
            factor * q[i] * (d_bucket[bucket[i]] - mean) + static_cast<double>(weights.ce) * plain[i];
    }
    gradient[target] -= static_cast<double>(weights.ce);
    return loss;
}

}  // namespace retort::tensor
