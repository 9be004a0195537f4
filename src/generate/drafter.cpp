#include "generate/drafter.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <optional>
#include <utility>

namespace retort::generate {

namespace {

constexpr std::int64_t page_tokens = tensor::kv_page_tokens;

}  // namespace

Drafter::Drafter(model::Weights weights, std::int64_t page_count, std::int64_t context_length,
                 std::int64_t max_step_tokens, std::int64_t vocab_size, tensor::DType cache_type)
    : decoder_(std::move(weights), page_count, context_length, max_step_tokens, cache_type),
      vocab_size_(vocab_size),
      valid_(static_cast<std::size_t>(page_count)) {}

void Drafter::run(std::span<DraftTask> tasks) {
    std::vector<DraftTask*> active;
    for (DraftTask& task : tasks) {
        task.state->count = 0;
        task.state->probabilities.clear();
        if (task.read > 0) active.push_back(&task);
    }
    while (!active.empty()) {
        step(active);
        std::erase_if(active, [](const DraftTask* task) { return task->state->count >= task->propose; });
        for (DraftTask* task : active) task->read = 1;
    }
}

// One step of the model, and a proposal for each task that wants another.
void Drafter::step(std::span<DraftTask* const> tasks) {
    const auto vocab = static_cast<std::int32_t>(decoder_.config().vocab_size);
    known_tokens_.clear();
    for (const DraftTask* task : tasks) {
        for (std::int64_t i = 0; i < task->read; ++i) {
            const std::int32_t token = (*task->tokens)[static_cast<std::size_t>(task->state->computed + i)];
            known_tokens_.push_back(token < vocab ? token : 0);
        }
    }
    std::vector<Segment> segments;
    std::size_t at = 0;
    for (const DraftTask* task : tasks) {
        const auto count = static_cast<std::size_t>(task->read);
        segments.push_back({std::span(known_tokens_).subspan(at, count), task->state->computed, task->pages,
                            task->propose > 0 ? 1 : 0});
        at += count;
    }
    const std::span<float> logits = decoder_.step(segments);
    std::int64_t index = 0;
    for (DraftTask* task : tasks) {
        DraftState& state = *task->state;
        note_computed(*task, state.computed, state.computed + task->read);
        state.computed += task->read;
        if (task->propose == 0) continue;
        assert(state.computed == static_cast<std::int64_t>(task->tokens->size()));
        std::vector<float> probabilities;
        const std::optional<std::int32_t> token =
            task->sampler->propose(std::span(*task->tokens).last(static_cast<std::size_t>(state.count)),
                                   row(logits, index++), probabilities);
        if (!token) {  // damaged weights: the large model goes on alone
            task->propose = state.count;
            continue;
        }
        task->tokens->push_back(*token);
        state.probabilities.push_back(std::move(probabilities));
        ++state.count;
    }
}

// Logits as wide as the large model's: tokens that this one lacks are never proposed.
std::span<float> Drafter::row(std::span<float> logits, std::int64_t index) {
    const std::int64_t own = decoder_.config().vocab_size;
    const auto all = logits.subspan(static_cast<std::size_t>(index * own), static_cast<std::size_t>(own));
    if (own >= vocab_size_) return all.first(static_cast<std::size_t>(vocab_size_));
    padded_.assign(static_cast<std::size_t>(vocab_size_), -std::numeric_limits<float>::infinity());
    std::copy(all.begin(), all.end(), padded_.begin());
    return padded_;
}

void Drafter::note_computed(const DraftTask& task, std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from / page_tokens; i * page_tokens < to; ++i) {
        std::int32_t& known = valid(task.pages[static_cast<std::size_t>(i)]);
        known = std::max(known, static_cast<std::int32_t>(std::min(page_tokens, to - i * page_tokens)));
    }
}

void Drafter::keep(DraftState& state, std::span<const std::int32_t> pages, std::int64_t count) {
    state.count = 0;
    state.probabilities.clear();
    if (state.computed <= count) return;
    state.computed = count;
    for (auto i = static_cast<std::size_t>(count / page_tokens); i < pages.size(); ++i) {
        const std::int64_t stay = count - static_cast<std::int64_t>(i) * page_tokens;
        valid(pages[i]) =
            std::min(valid(pages[i]), static_cast<std::int32_t>(std::max<std::int64_t>(0, stay)));
    }
}

void Drafter::page_copied(std::int32_t from, std::int32_t to, std::int64_t valid_tokens) {
    if (from != to) decoder_.copy_page(from, to);
    valid(to) = static_cast<std::int32_t>(valid_tokens);
}

void Drafter::page_replaced(std::int32_t own, std::int32_t twin) {
    if (valid(own) <= valid(twin)) return;
    decoder_.copy_page(own, twin);
    valid(twin) = valid(own);
}

std::int64_t Drafter::computed_of(std::span<const std::int32_t> pages) const {
    std::int64_t tokens = 0;
    for (const std::int32_t page : pages) {
        tokens += valid_tokens(page);
        if (valid_tokens(page) < page_tokens) break;
    }
    return tokens;
}

}  // namespace retort::generate
