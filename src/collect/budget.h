// What a run may spend, and what it has: requests, tokens, money, time. A request is admitted only if the run
// stays within every limit though the request, and all in flight, cost the most they can. Knows nothing of
// requests.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace retort::collect {

struct Budget {
    // 0: no limit. Counted over all runs in the same folder, but for the time.
    std::int64_t max_requests = 0;
    std::int64_t max_tokens = 0;  // of prompts and answers together
    double max_cost = 0;
    double max_seconds = 0;  // of this run
    // In any currency, per million tokens.
    double prompt_price = 0;
    double completion_price = 0;
};

// Tokens of a request: at most (a token holds at least one byte; 16 for the template's part of each message),
// or expected.
struct Estimate {
    std::int64_t prompt_tokens = 0;
    std::int64_t completion_tokens = 0;
};

struct Spent {
    std::int64_t requests = 0;
    std::int64_t prompt_tokens = 0;
    std::int64_t completion_tokens = 0;
    double cost = 0;
};

// The forecast as a run goes: what its folder will have spent when `missing` more answers have cost what the
// `answered` ones did, which took it from `before` to `now`. Nothing before the first answer.
std::optional<Spent> spent_in_the_end(const Spent& before, const Spent& now, std::int64_t answered,
                                      std::int64_t missing);

class BudgetMeter {
  public:
    BudgetMeter(const Budget& budget, const Spent& already) : budget_(budget), spent_(already) {}

    [[nodiscard]] double price(std::int64_t prompt_tokens, std::int64_t completion_tokens) const;
    // Reserves the most it can cost; false when some limit would be passed.
    bool reserve(const Estimate& most);
    // Ends a reservation with what was used (nothing, for a request that failed), a request always.
    void settle(const Estimate& most, const Estimate& used);
    [[nodiscard]] const Spent& spent() const { return spent_; }
    // Which limit stops `most` though nothing is in flight, in words; nothing when none does.
    [[nodiscard]] std::optional<std::string> stopped_by(const Estimate& most) const;

  private:
    [[nodiscard]] std::optional<std::string> passed_limit(const Spent& would) const;
    Budget budget_;
    Spent spent_;
    Spent reserved_;
};

}  // namespace retort::collect
