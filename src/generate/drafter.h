// The small model of speculative decoding: it reads what the large one reads and proposes the next tokens.
// Its keys and values lie in pages of the same numbers as the large model's, so that one page cache keeps
// both. Knows neither requests nor the large model; a wrong proposal costs time, never a wrong token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "generate/decoder.h"
#include "generate/sampler.h"

namespace retort::generate {

// What the draft model has not read of a sequence that decodes: the last token, and the proposal before it
// where all proposals stood.
constexpr std::int64_t usual_draft_reading = 2;

// Of one sequence.
struct DraftState {
    bool enabled = false;
    std::int64_t computed = 0;  // tokens whose keys and values this model has
    // Proposals of the step under way; they are the last of the sequence's tokens. Distributions (vocab) they
    // were drawn from; empty ones when greedy.
    std::int64_t count = 0;
    std::vector<std::vector<float>> probabilities;
};

struct DraftTask {
    DraftState* state = nullptr;
    Sampler* sampler = nullptr;
    std::vector<std::int32_t>* tokens = nullptr;  // proposals are added
    std::span<const std::int32_t> pages;          // enough for all tokens, and for the proposals but the last
    std::int64_t read = 0;                        // tokens to read from state->computed on
    std::int64_t propose = 0;                     // at most; above 0 only if that reads all there are
};

class Drafter {
  public:
    // vocab_size: the large model's. Steps of at most max_step_tokens.
    Drafter(model::Weights weights, std::int64_t page_count, std::int64_t context_length,
            std::int64_t max_step_tokens, std::int64_t vocab_size, tensor::DType cache_type);

    // Reads and proposes, for all sequences together.
    void run(std::span<DraftTask> tasks);

    // The first `count` of the sequence's tokens stand; what was computed of others is forgotten.
    void keep(DraftState& state, std::span<const std::int32_t> pages, std::int64_t count);

    // What the cache did with a page.
    void page_taken(std::int32_t page) { valid(page) = 0; }
    void page_copied(std::int32_t from, std::int32_t to, std::int64_t valid_tokens);
    void page_replaced(std::int32_t own, std::int32_t twin);
    // Tokens of a sequence with these pages that are computed from its beginning without a gap.
    [[nodiscard]] std::int64_t computed_of(std::span<const std::int32_t> pages) const;
    [[nodiscard]] std::int64_t valid_tokens(std::int32_t page) const {
        return valid_[static_cast<std::size_t>(page)];
    }

  private:
    std::int32_t& valid(std::int32_t page) { return valid_[static_cast<std::size_t>(page)]; }
    void step(std::span<DraftTask* const> tasks);
    std::span<float> row(std::span<float> logits, std::int64_t index);
    void note_computed(const DraftTask& task, std::int64_t from, std::int64_t to);

    Decoder decoder_;
    std::int64_t vocab_size_;
    std::vector<std::int32_t> valid_;         // of each page: leading tokens that this model computed
    std::vector<std::int32_t> known_tokens_;  // the step's, those outside its vocabulary replaced
    std::vector<float> padded_;               // (vocab_size_), where its own vocabulary is smaller
};

}  // namespace retort::generate
