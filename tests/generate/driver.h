// A scheduler that a test drives itself, and what its requests got.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "generate/scheduler.h"

namespace retort::generate::test {

using Tokens = std::vector<std::int32_t>;

struct Outcome {
    Tokens tokens;
    std::vector<TokenEvent> events;
    std::optional<Result<Completion>> result;
    std::size_t enough = 0;  // tokens after which the caller cancels
};

inline Request request_for(Tokens prompt, std::int64_t max_tokens, float temperature = 0) {
    Request request;
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.sampling.temperature = temperature;
    request.sampling.seed = 5;
    return request;
}

// A scheduler driven by the test itself.
class Driver {
  public:
    Driver(model::Weights weights, const EngineOptions& options,
           std::optional<model::Weights> draft = std::nullopt)
        : config_(weights.config),
          scheduler_(std::move(weights), plan(options, draft ? &draft->config : nullptr), 1,
                     std::move(draft)) {}

    std::shared_ptr<Outcome> add(Request request) {
        auto outcome = std::make_shared<Outcome>();
        EXPECT_TRUE(check_request(request, config_, plan_.context_length));
        scheduler_.add({next_++, std::move(request),
                        [outcome](const TokenEvent& event) {
                            outcome->tokens.push_back(event.token);
                            outcome->events.push_back(event);
                            return outcome->tokens.size() != outcome->enough;
                        },
                        [outcome](Result<Completion> result) { outcome->result = std::move(result); }});
        return outcome;
    }
    void run() {
        for (int steps = 0; !scheduler_.idle(); ++steps) {
            ASSERT_LT(steps, 1000000);
            scheduler_.step();
        }
    }
    Scheduler& scheduler() { return scheduler_; }

  private:
    const SchedulerPlan& plan(const EngineOptions& options, const model::ModelConfig* draft) {
        plan_ = *plan_scheduler(config_, options, draft);
        return plan_;
    }
    model::ModelConfig config_;
    SchedulerPlan plan_;
    Scheduler scheduler_;
    std::uint64_t next_ = 1;
};

}  // namespace retort::generate::test
