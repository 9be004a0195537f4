#include "watermark/mark.h"

#include <cmath>
#include <cstddef>

namespace retort::watermark {

void Marker::change_logits(std::span<const std::int32_t> context, std::span<float> logits) const {
    const auto window = static_cast<std::size_t>(scheme_.window);
    if (context.size() < window) return;
    const auto delta = static_cast<float>(scheme_.delta);
    for (std::size_t token = 0; token < logits.size(); ++token) {
        const std::uint64_t hash = pair_hash(key_, context.last(window), static_cast<std::int32_t>(token));
        if (is_green(hash, scheme_.gamma)) logits[token] += delta;
    }
}

std::optional<std::int32_t> Marker::choose(std::span<const std::int32_t> context,
                                           std::span<const std::int32_t> tokens,
                                           std::span<const float> probabilities) {
    const auto window = static_cast<std::size_t>(scheme_.window);
    if (context.size() < window || tokens.empty()) return std::nullopt;
    hashes_.resize(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        hashes_[i] = pair_hash(key_, context.last(window), tokens[i]);
    }
    if (scheme_.kind == SchemeKind::gumbel) {
        // argmax r^{1/p} = argmax ln(r)/p.
        std::size_t best = 0;
        double highest = -HUGE_VAL;
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            const double score = std::log(unit_number(hashes_[i])) / static_cast<double>(probabilities[i]);
            if (score > highest) {
                highest = score;
                best = i;
            }
        }
        return tokens[best];
    }
    weights_.assign(probabilities.begin(), probabilities.end());
    double total = 0;
    for (const double weight : weights_) total += weight;
    for (std::int64_t layer = 0; layer < scheme_.layers; ++layer) {
        double ones = 0;
        const auto bit = [&](std::size_t i) { return (hashes_[i] >> static_cast<unsigned>(layer)) & 1U; };
        for (std::size_t i = 0; i < weights_.size(); ++i) ones += bit(i) != 0 ? weights_[i] : 0;
        const double mean = ones / total;
        for (std::size_t i = 0; i < weights_.size(); ++i) {
            weights_[i] *= 1 + static_cast<double>(bit(i)) - mean;
        }
    }
    total = 0;
    for (const double weight : weights_) total += weight;
    double left = random_.uniform() * total;
    for (std::size_t i = 0; i < weights_.size(); ++i) {
        left -= weights_[i];
        if (left < 0) return tokens[i];
    }
    return tokens.back();
}

}  // namespace retort::watermark
