// What a bettor wins against each test's null hypothesis: fair odds on what the owner's randomness decides,
// one bet after another.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "audit/parsed_evidence.h"

namespace retort::audit {

double bet_outcome(const watermark::Scheme& scheme, const watermark::Subkey& key,
                   const watermark::Pair& pair) {
    const double score = watermark::pair_score(scheme, key, pair);
    switch (scheme.kind) {
        case watermark::SchemeKind::red_green:
            return score;
        case watermark::SchemeKind::gumbel:
            return -std::expm1(-score);  // r, uniform
        case watermark::SchemeKind::tournament:
            break;
    }
    double most = 0;
    for (std::int64_t layer = 0; layer < scheme.layers; ++layer) {
        most += static_cast<double>(watermark::layer_weight(scheme, layer));
    }
    return score / most;
}

stats::BettingMartingale bettor_against(const watermark::Scheme& scheme) {
    return stats::BettingMartingale(scheme.kind == watermark::SchemeKind::red_green ? scheme.gamma : 0.5);
}

stats::BettingMartingale bet_on_pairs(const watermark::Scheme& scheme, const watermark::Subkey& key,
                                      std::span<const watermark::Pair> pairs) {
    stats::BettingMartingale bettor = bettor_against(scheme);
    for (const watermark::Pair& pair : pairs) bettor.observe(bet_outcome(scheme, key, pair));
    return bettor;
}

namespace {

// Given its size the sign of a difference is a fair coin. Sizes are taken in units of twice what they were
// so far, so that none counts for more than the stake.
double bet_on_twins(std::span<const double> differences) {
    stats::BettingMartingale bettor(0.5);
    double sizes = 0;
    double seen = 0;
    for (const double difference : differences) {
        if (sizes > 0) bettor.observe(0.5 + 0.5 * std::clamp(difference * seen / (2 * sizes), -1.0, 1.0));
        sizes += std::abs(difference);
        seen += 1;
    }
    return bettor.log_wealth();
}

// The share of the decoys that the planted string beats; ties count against it.
double bet_on_canaries(const std::vector<CanaryScores>& canaries) {
    stats::BettingMartingale bettor(0.5);
    for (const CanaryScores& canary : canaries) {
        const auto candidates = static_cast<double>(canary.scores.size());
        bettor.observe((1 - rank_of(canary, canary.planted)) * candidates / (candidates - 1));
    }
    return bettor.log_wealth();
}

double bet_on_mass(const std::vector<Context>& contexts, const Keyed& keyed) {
    stats::BettingMartingale bettor(keyed.scheme.gamma);
    for (const Context& context : contexts) {
        const auto total = std::accumulate(context.weights.begin(), context.weights.end(), std::int64_t{0});
        if (total == 0) continue;
        const std::int64_t green = green_mass(std::span(&context, 1), keyed.key, keyed.scheme.gamma);
        bettor.observe(static_cast<double>(green) / static_cast<double>(total));
    }
    return bettor.log_wealth();
}

}  // namespace

Result<double> log_e_value(const Json& evidence) {
    RETORT_TRY(const std::string name, formats::json_string(evidence, "test"));
    if (name.starts_with("twin-")) {
        RETORT_TRY(const std::vector<double> differences, twin_differences(evidence));
        return bet_on_twins(differences);
    }
    if (name == "canary") {
        RETORT_TRY(const std::vector<CanaryScores> canaries, parse_canary_scores(evidence));
        return bet_on_canaries(canaries);
    }
    RETORT_TRY(const Keyed keyed, parse_keyed(evidence));
    if (name == "green-mass") {
        RETORT_TRY(const std::vector<Context> contexts, parse_contexts(evidence));
        return bet_on_mass(contexts, keyed);
    }
    RETORT_TRY(const std::vector<watermark::Pair> pairs, parse_pairs(evidence));
    return bet_on_pairs(keyed.scheme, keyed.key, pairs).log_wealth();
}

}  // namespace retort::audit
