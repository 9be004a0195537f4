// Runs a model: requests in, tokens out, many at once (continuous batching), one thread owning the weights
// and the KV cache. Knows tokens only: text, templates and stop strings are the caller's
// (generate/text_generation.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "model/weights.h"

namespace retort::generate {

struct SamplingParameters {
    float temperature = 1.0F;  // 0: greedy
    std::int32_t top_k = 0;    // 0: off
    float top_p = 1.0F;
    float min_p = 0.0F;
    float repetition_penalty = 1.0F;  // over prompt and answer, as in transformers
    float frequency_penalty = 0.0F;   // over the answer, as in OpenAI's API
    float presence_penalty = 0.0F;
    std::vector<std::pair<std::int32_t, float>> logit_bias;
    std::optional<std::uint64_t> seed;  // same seed, same request, same machine: same tokens
};

struct TokenProbability {
    std::int32_t token = 0;
    float probability = 0;
};

// Where a watermark acts. Both are called on a thread of the engine, with the request's tokens so far (prompt
// and answer); either may be empty.
struct SamplingHook {
    // Changes the logits, after penalties and bias.
    std::function<void(std::span<const std::int32_t> context, std::span<float> logits)> change_logits;
    // Chooses among what temperature and truncation left, largest first; nothing: drawn by the seed as usual.
    // Not called at temperature 0.
    std::function<std::optional<std::int32_t>(std::span<const std::int32_t> context,
                                              std::span<const TokenProbability> candidates)>
        choose;
};

struct Request {
    std::vector<std::int32_t> prompt;
    SamplingParameters sampling;
    std::int64_t max_tokens = 256;          // 0: the prompt alone, with one of the last two
    std::vector<std::int32_t> stop_tokens;  // end the answer, and are not reported as tokens of it
    std::int32_t top_logprobs = -1;         // -1: no logprobs at all; 0–20: that many alternatives
    SamplingHook hook;
    bool prompt_logprobs = false;  // Completion::prompt; computes all of the prompt, whatever is in the cache
    bool embed = false;            // Completion::embedding, likewise; no token is sampled, max_tokens is 0
};

struct TokenLogprob {
    std::int32_t token = 0;
    float logprob = 0;  // of the model's distribution before penalties, bias, temperature and truncation
};

struct TokenEvent {
    std::int32_t token = 0;
    float logprob = 0;
    std::vector<TokenLogprob> top;
};

enum class FinishReason { stop, length, cancelled };

struct Completion {
    FinishReason finish_reason = FinishReason::stop;
    std::int64_t prompt_tokens = 0;
    std::int64_t cached_tokens = 0;  // of the prompt, found in the KV cache
    std::int64_t completion_tokens = 0;
    double queue_seconds = 0;         // until it got a slot
    std::optional<TokenEvent> stop;   // the stop token, where one ended the answer
    std::vector<TokenEvent> prompt;   // its tokens but the first, each given those before it
    std::vector<float> embedding;     // (hidden): mean over the prompt of the last layer's normed output
    std::int64_t steps = 0;           // of the model, after the one that ended the prompt
    std::int64_t drafted_tokens = 0;  // proposed by the draft model
    std::int64_t draft_hits = 0;      // of these, kept
};

struct EngineOptions {
    std::int64_t context_length = 0;  // 0: the model's own, at most 8192
    std::int64_t max_sequences = 16;  // decoded together
    std::int64_t cache_bytes = 0;     // 0: what max_sequences need, at most a quarter of memory
    // Of keys and values, f32 or bf16: bf16 takes half the memory, and rounds them.
    tensor::DType cache_type = tensor::DType::bf16;
    // Of activations that meet block-quantised weights, 8 or 16 (tensor/linear.h). Of the whole program: who
    // makes the engine hands it to tensor::set_activation_bits().
    int activation_bits = 8;
    std::int64_t prefill_chunk = 256;  // prompt tokens a step, so that decoding others is not held up
    // With a draft model: tokens that it proposes a step, at most. Where more requests than draft_sequences
    // run, a machine has enough to do without it: those whose answer does not depend on it (greedy, or
    // without a seed) then go on alone.
    std::int64_t draft_tokens = 4;
    std::int64_t draft_sequences = 4;
};

struct EngineStatistics {
    std::int64_t running = 0;
    std::int64_t waiting = 0;
    double kv_cache_usage = 0;  // share of pages in use
    std::uint64_t prompt_tokens = 0;
    std::uint64_t generated_tokens = 0;
    std::uint64_t prefix_cache_hits = 0;  // tokens
    std::uint64_t drafted_tokens = 0;     // proposed by the draft model
    std::uint64_t draft_hits = 0;         // of these, kept
};

class Engine {
  public:
    // draft: a small model of the same vocabulary that proposes tokens, which the large one keeps or replaces
    // so that what it answers is distributed as without it (docs/speculative-decoding.md).
    static Result<std::unique_ptr<Engine>> create(model::Weights weights, const EngineOptions& options,
                                                  std::optional<model::Weights> draft = std::nullopt);
    virtual ~Engine() = default;

    // Called on the engine's thread for each token; false cancels the request and frees its slot.
    using OnToken = std::function<bool(const TokenEvent&)>;
    // Called once, last, on the engine's thread.
    using OnDone = std::function<void(Result<Completion>)>;

    // Queues and returns at once. A prompt that does not fit the context, or a token outside the vocabulary,
    // is an error here, not later. The returned id cancels.
    virtual Result<std::uint64_t> submit(Request request, OnToken on_token, OnDone on_done) = 0;
    virtual void cancel(std::uint64_t id) = 0;
    // Blocks until done: for command-line use.
    virtual Result<Completion> generate(Request request, const OnToken& on_token) = 0;

    [[nodiscard]] virtual const model::ModelConfig& config() const = 0;
    [[nodiscard]] virtual std::int64_t context_length() const = 0;
    [[nodiscard]] virtual EngineStatistics statistics() const = 0;
};

}  // namespace retort::generate
