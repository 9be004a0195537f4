// Applies a scheme while text is sampled: what a sampler's hook calls. A context shorter than the window is
// left unmarked. Knows no sampler.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/random.h"
#include "watermark/scheme.h"

namespace retort::watermark {

// One answer's; not for several threads.
class Marker {
  public:
    // `seed`: of the draw that ends a tournament, which must be nobody's to guess.
    Marker(const Scheme& scheme, const Subkey& key, std::uint64_t seed)
        : scheme_(scheme), key_(key), random_(seed) {}

    [[nodiscard]] bool changes_logits() const { return scheme_.kind == SchemeKind::red_green; }
    // red_green: logits of all tokens, in place. `context`: prompt and answer so far.
    void change_logits(std::span<const std::int32_t> context, std::span<float> logits) const;
    // The others: one of `tokens`, whose probabilities sum to 1. Nothing: too early, draw as usual.
    std::optional<std::int32_t> choose(std::span<const std::int32_t> context,
                                       std::span<const std::int32_t> tokens,
                                       std::span<const float> probabilities);

  private:
    Scheme scheme_;
    Subkey key_;
    base::RandomStream random_;
    std::vector<double> weights_;
    std::vector<std::uint64_t> hashes_;
};

}  // namespace retort::watermark
