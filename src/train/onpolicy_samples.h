// The student's own answers: many prompts, several answers each, drawn together by the generation engine from
// the weights as they are in memory, with the log-probability that each token had. And what an answer earns.
// Knows no optimiser and no loss.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "data/prompts.h"
#include "data/verify.h"
#include "model/parameters.h"
#include "text/text_model.h"

namespace retort::train {

struct SampledAnswer {
    std::size_t prompt = 0;            // index
    std::vector<std::int32_t> tokens;  // of the answer, its end-of-turn token included where it came to one
    std::vector<float> logprobs;       // log q(y) of each at temperature 1, which is what they were drawn at
    bool ended = false;                // by itself, not at max_tokens
};

struct SamplingOptions {
    std::int64_t samples = 8;  // of each prompt
    std::int64_t max_tokens = 256;
    std::int64_t max_sequences = 128;  // decoded together
    std::vector<std::int32_t> end_tokens;
    std::int64_t vocab_size = 0;  // the tokenizer's: rows of the head beyond it are padding, never drawn
    std::uint64_t seed = 0;
    // Of all prompts of a step these are number first, first + every, …: an answer's random numbers are those
    // of its place among all, whoever draws it.
    std::size_t first = 0;
    std::size_t every = 1;
};

// Prompt by prompt, samples in order. A function of weights, prompts and options: what runs beside what does
// not matter. A prompt's tokens are computed once for all its samples.
Result<std::vector<SampledAnswer>> sample_answers(const model::Weights& weights,
                                                  std::span<const std::vector<std::int32_t>> prompts,
                                                  const SamplingOptions& options);

// A prompt as the model reads it.
struct TokenisedPrompt {
    data::Prompt prompt;
    std::vector<std::int32_t> tokens;
    bool starts_in_reasoning = false;  // the template has opened <think> already
};
Result<std::vector<TokenisedPrompt>> tokenise_prompts(std::span<const data::Prompt> prompts,
                                                      const text::TextModel& text);

// 1 for an answer that the verifier passes, and `format` for one that ended by itself with its reasoning
// closed and something said after it.
struct RewardRule {
    data::Verifier verifier;
    double format = 0.1;
};
struct Reward {
    double value = 0;
    bool correct = false;
};
Result<Reward> reward_of(const SampledAnswer& answer, const TokenisedPrompt& prompt,
                         const text::TextModel& text, const RewardRule& rule);

// (r − mean) / (standard deviation + 1e-4) within each group of `samples` rewards in a row; 0 where all are
// equal.
std::vector<float> group_advantages(std::span<const double> rewards, std::int64_t samples);

}  // namespace retort::train
