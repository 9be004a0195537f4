#include "watermark/detect.h"

#include <cmath>

#include "stats/distributions.h"
#include "stats/exact_tests.h"

namespace retort::watermark {

std::int64_t layer_weight(const Scheme& scheme, std::int64_t layer) {
    return 10 * (scheme.layers - 1) - 9 * layer;
}

double pair_score(const Scheme& scheme, const Subkey& key, std::span<const std::int32_t> pair) {
    const std::uint64_t hash = pair_hash(key, pair.first(pair.size() - 1), pair.back());
    switch (scheme.kind) {
        case SchemeKind::red_green:
            return is_green(hash, scheme.gamma) ? 1 : 0;
        case SchemeKind::gumbel:
            return -std::log1p(-unit_number(hash));
        case SchemeKind::tournament: {
            std::int64_t sum = 0;
            for (std::int64_t layer = 0; layer < scheme.layers; ++layer) {
                if ((hash >> static_cast<unsigned>(layer) & 1U) != 0) sum += layer_weight(scheme, layer);
            }
            return static_cast<double>(sum);
        }
    }
    return 0;
}

Detection detect(const Scheme& scheme, const Subkey& key, std::span<const Pair> pairs) {
    Detection out;
    out.pairs = static_cast<std::int64_t>(pairs.size());
    for (const Pair& pair : pairs) out.score += pair_score(scheme, key, pair);
    if (pairs.empty()) return out;
    const auto n = static_cast<double>(out.pairs);
    double variance = 0;
    switch (scheme.kind) {
        case SchemeKind::red_green: {
            const auto green = static_cast<std::int64_t>(out.score);
            out.expected = n * scheme.gamma;
            variance = n * scheme.gamma * (1 - scheme.gamma);
            out.log_p = stats::log_binomial_tail(green, out.pairs, scheme.gamma);
            out.log_p_beyond = stats::log_binomial_tail(green + 1, out.pairs, scheme.gamma);
            break;
        }
        case SchemeKind::gumbel:
            out.expected = n;
            variance = n;
            out.log_p = stats::log_upper_gamma(n, out.score);
            out.log_p_beyond = out.log_p;
            break;
        case SchemeKind::tournament: {
            std::vector<stats::LatticeTerm> terms;
            for (std::int64_t layer = 0; layer < scheme.layers; ++layer) {
                const std::int64_t weight = layer_weight(scheme, layer);
                terms.push_back({weight, out.pairs});
                out.expected += 0.5 * n * static_cast<double>(weight);
                variance += 0.25 * n * static_cast<double>(weight * weight);
            }
            const auto sum = static_cast<std::int64_t>(out.score);
            out.log_p = stats::log_lattice_tail(terms, 0.5, sum);
            out.log_p_beyond = stats::log_lattice_tail(terms, 0.5, sum + 1);
            break;
        }
    }
    out.z = (out.score - out.expected) / std::sqrt(variance);
    return out;
}

void PairBook::exclude(std::span<const std::int32_t> tokens) {
    const auto length = static_cast<std::size_t>(window_) + 1;
    for (std::size_t i = 0; i + length <= tokens.size(); ++i) {
        seen_.emplace(tokens.begin() + static_cast<std::ptrdiff_t>(i),
                      tokens.begin() + static_cast<std::ptrdiff_t>(i + length));
    }
}

void PairBook::allow_windows_of(std::span<const std::int32_t> tokens) {
    only_known_windows_ = true;
    const auto length = static_cast<std::size_t>(window_);
    for (std::size_t i = 0; i + length <= tokens.size(); ++i) {
        windows_.emplace(tokens.begin() + static_cast<std::ptrdiff_t>(i),
                         tokens.begin() + static_cast<std::ptrdiff_t>(i + length));
    }
}

void PairBook::add(std::span<const std::int32_t> tokens) {
    const auto length = static_cast<std::size_t>(window_);
    for (std::size_t i = length; i < tokens.size(); ++i) {
        add_pair(tokens.subspan(i - length, length), tokens[i]);
    }
}

void PairBook::add_pair(std::span<const std::int32_t> window, std::int32_t token) {
    Pair pair(window.begin(), window.end());
    if (only_known_windows_ && !windows_.contains(pair)) return;
    pair.push_back(token);
    if (seen_.insert(pair).second) {
        pairs_.push_back(std::move(pair));
    } else {
        ++repeated_;
    }
}

}  // namespace retort::watermark
