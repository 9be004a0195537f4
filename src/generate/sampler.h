// Chooses one token from a row of logits. The steps, in this order (docs/engine-generation.md):
// log-probabilities of the unmodified row; repetition, frequency and presence penalties; logit bias; the
// hook's logits; temperature; top-k; top-p; min-p; the draw, by the hook's choice or by the seed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "generate/engine.h"
#include "generate/vocabulary.h"

namespace retort::generate {

// The token's log-probability by this row, and the `top` largest (none at or below 0).
TokenEvent describe_token(std::span<const float> logits, std::int32_t token, std::int32_t top);

class Sampler {
  public:
    Sampler(const SamplingParameters& parameters, std::int32_t top_logprobs, SamplingHook hook,
            std::span<const std::int32_t> prompt, std::uint64_t default_seed);

    // context: prompt and answer so far. logits are changed. An error when the model's numbers are not
    // finite.
    Result<TokenEvent> sample(std::span<const std::int32_t> context, std::span<float> logits);

    // A small model's guess at the next token, for verify(): drawn from the same steps over its own logits,
    // but without the hook. drafted: guesses before it in this step, the end of the context. probabilities
    // (vocab): what it was drawn from; empty at temperature 0. Nothing if the logits are not finite.
    std::optional<std::int32_t> propose(std::span<const std::int32_t> drafted, std::span<float> logits,
                                        std::vector<float>& probabilities);

    // sample(), given a guess: the same distribution, and the guess itself as often as that allows
    // (generate/speculation.h). The same token as sample()'s at temperature 0. Not for a hook that chooses.
    Result<TokenEvent> verify(std::span<const std::int32_t> context, std::span<float> logits,
                              std::int32_t drafted, std::span<const float> probabilities);

    // The distribution that sample() draws from, largest first; what the tests look at.
    std::vector<TokenProbability> distribution(std::span<const std::int32_t> context,
                                               std::span<float> logits);

  private:
    Result<LargestLogit> prepare(std::span<const std::int32_t> context, std::span<float> logits);
    TokenEvent conclude(std::int32_t token);
    void modify(std::span<float> logits);
    void fill_distribution(std::span<const float> logits, const LargestLogit& largest,
                           std::vector<float>& probabilities);
    void truncate(std::span<const float> logits, const LargestLogit& largest);
    std::int32_t draw_untruncated(std::span<const float> logits, const LargestLogit& largest);
    std::int32_t draw_candidate();
    [[nodiscard]] bool truncates() const;

    SamplingParameters parameters_;
    std::int32_t top_logprobs_;
    SamplingHook hook_;
    base::RandomStream random_;
    base::RandomStream guesses_;  // apart: what is guessed must not tell what is drawn
    std::unordered_map<std::int32_t, std::int32_t> answer_counts_;  // every token of the prompt too, at 0
    std::vector<float> raw_;      // logits before any change, when log-probabilities are asked
    std::vector<float> weights_;  // exp of the changed logits
    std::vector<float> target_;   // the distribution that verify() keeps to
    std::vector<TokenProbability> candidates_;
};

}  // namespace retort::generate
