// Detection: scores of (window, token) pairs under a key, their sum's p-value, and the books that let each
// pair count once. The null: the key was drawn independently of the text. Then the scores of distinct pairs
// are independent draws of a known distribution, whatever the text; of repeated ones they are not, which is
// why a pair is counted once.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "watermark/scheme.h"

namespace retort::watermark {

// window + 1 tokens: the token scored is the last.
using Pair = std::vector<std::int32_t>;

// red_green: 1 if green. gumbel: −ln(1 − r). tournament: Σ_ℓ weight_ℓ·g_ℓ, whole numbers falling linearly
// from 10·(m−1) by 9 a layer, which are SynthID's weights 10 … 1 times m − 1.
double pair_score(const Scheme& scheme, const Subkey& key, std::span<const std::int32_t> pair);
std::int64_t layer_weight(const Scheme& scheme, std::int64_t layer);

struct Detection {
    std::int64_t pairs = 0;
    double score = 0;         // Σ of pair_score
    double expected = 0;      // of the score under the null
    double z = 0;             // (score − expected) / standard deviation: for readers, no test
    double log_p = 0;         // ln P(score as large | null), exact
    double log_p_beyond = 0;  // ln P(score larger | null): the same where scores are not discrete
};
Detection detect(const Scheme& scheme, const Subkey& key, std::span<const Pair> pairs);

// Collects the pairs of texts, each once over all of them.
class PairBook {
  public:
    explicit PairBook(std::int64_t window) : window_(window) {}

    // Pairs that must not count: those a prompt showed.
    void exclude(std::span<const std::int32_t> tokens);
    // With this, only pairs whose window one of these texts holds. Whether a window was served is settled
    // before any number that it chooses is used, so the null stays as it is.
    void allow_windows_of(std::span<const std::int32_t> tokens);
    // Those of `tokens` that are new; context shorter than the window is not scored.
    void add(std::span<const std::int32_t> tokens);
    // One pair of a window that may come from elsewhere.
    void add_pair(std::span<const std::int32_t> window, std::int32_t token);

    [[nodiscard]] const std::vector<Pair>& pairs() const { return pairs_; }
    [[nodiscard]] std::int64_t repeated() const { return repeated_; }

  private:
    std::int64_t window_;
    std::set<Pair> seen_;
    std::set<Pair> windows_;
    bool only_known_windows_ = false;
    std::vector<Pair> pairs_;
    std::int64_t repeated_ = 0;
};

}  // namespace retort::watermark
