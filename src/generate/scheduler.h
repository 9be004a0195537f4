// Decides, step by step, which tokens of which requests run together: continuous batching, prompts in chunks,
// beginnings shared. Runs on one thread; generate/engine.cpp gives it that thread and a door for the others.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "generate/decoder.h"
#include "generate/drafter.h"
#include "generate/engine.h"
#include "generate/page_cache.h"
#include "generate/sampler.h"
#include "generate/scheduler_plan.h"

namespace retort::generate {

struct ScheduledRequest {
    std::uint64_t id = 0;
    Request request;
    Engine::OnToken on_token;
    Engine::OnDone on_done;
    double arrived = 0;  // base::monotonic_seconds()
};

class Scheduler {
  public:
    Scheduler(model::Weights weights, const SchedulerPlan& plan, std::uint64_t default_seed,
              std::optional<model::Weights> draft = std::nullopt);

    // The request passed check_request().
    void add(ScheduledRequest request);
    void cancel(std::uint64_t id);
    void cancel_all();
    [[nodiscard]] bool idle() const { return waiting_.empty() && running_.empty(); }

    // Admits what fits, runs one step of the model, samples, and calls back.
    void step();

    [[nodiscard]] EngineStatistics statistics() const;
    [[nodiscard]] const model::ModelConfig& config() const { return decoder_.config(); }

  private:
    struct Sequence {
        explicit Sequence(ScheduledRequest from, std::uint64_t default_seed);
        ScheduledRequest scheduled;
        Sampler sampler;
        std::vector<std::int32_t> tokens;  // prompt, then answer
        std::int64_t prompt_size = 0;
        std::int64_t cached = 0;     // of the prompt, found in the cache
        std::int64_t computed = 0;   // tokens whose keys and values are in the pages
        std::size_t published = 0;   // whole pages made known to the cache
        std::int64_t page_need = 0;  // pages that the longest answer comes to
        std::vector<std::int32_t> pages;
        std::int64_t taking = 0;  // tokens of the step under way
        DraftState draft;
        // Of the step under way: the draft's proposals that stand, and one token of the model's own.
        std::vector<TokenEvent> sampled;
        Status sampling;                 // why there are fewer
        std::optional<TokenEvent> stop;  // that ended the answer
        std::int64_t steps = 0;
        std::int64_t drafted_tokens = 0;
        std::int64_t draft_hits = 0;
        bool finished = false;
        double queue_seconds = 0;
        std::vector<TokenEvent> prompt_events;  // one a token of the prompt but the first, when asked for
        std::vector<float> hidden_sum;          // (hidden), when an embedding is asked for

        [[nodiscard]] std::int64_t pending() const {
            return static_cast<std::int64_t>(tokens.size()) - computed;
        }
        [[nodiscard]] bool ends_prompt_or_decodes() const { return taking > 0 && taking == pending(); }
        [[nodiscard]] bool samples_after_step() const {
            return ends_prompt_or_decodes() && scheduled.request.max_tokens > 0;
        }
        // Rows of logits that say what comes next: after the last known token, and after each proposal.
        [[nodiscard]] std::int64_t sampled_rows() const { return samples_after_step() ? 1 + draft.count : 0; }
        // Rows of logits that the step must give.
        [[nodiscard]] std::int64_t logit_rows() const;
    };

    void admit();
    bool try_start(ScheduledRequest& request);
    [[nodiscard]] bool worth_waiting(const Request& request) const;
    void choose_tokens();
    void choose_drafts();
    [[nodiscard]] DraftTask draft_task(Sequence& sequence, std::int64_t& budget) const;
    [[nodiscard]] bool drafts_now(const Sequence& sequence) const;
    void provide_pages(Sequence& sequence);
    void run_model();
    void read_rows(Sequence& sequence, std::span<float> rows) const;
    void sample_rows(Sequence& sequence, std::span<float> rows) const;
    void advance(Sequence& sequence);
    void take_token(Sequence& sequence, const TokenEvent& event);
    void publish(Sequence& sequence);
    std::int32_t take_page();
    void finish(Sequence& sequence, Result<Completion> result);
    void finish(Sequence& sequence, FinishReason reason);
    void finish_prompt(Sequence& sequence);

    SchedulerPlan plan_;
    std::uint64_t default_seed_;
    Decoder decoder_;
    PageCache cache_;
    std::unique_ptr<Drafter> drafter_;  // null: every token by the model alone
    std::deque<ScheduledRequest> waiting_;
    std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
    std::uint64_t prompt_tokens_ = 0;
    std::uint64_t generated_tokens_ = 0;
    std::uint64_t prefix_hits_ = 0;
    std::uint64_t drafted_tokens_ = 0;
    std::uint64_t draft_hits_ = 0;
};

}  // namespace retort::generate
