#include "collect/budget.h"

#include <fmt/format.h>

#include <cmath>

namespace retort::collect {

std::optional<Spent> spent_in_the_end(const Spent& before, const Spent& now, std::int64_t answered,
                                      std::int64_t missing) {
    if (answered <= 0) return std::nullopt;
    const double more = static_cast<double>(missing) / static_cast<double>(answered);
    const auto on = [more](std::int64_t was, std::int64_t is) {
        return is + std::llround(more * static_cast<double>(is - was));
    };
    return Spent{.requests = on(before.requests, now.requests),
                 .prompt_tokens = on(before.prompt_tokens, now.prompt_tokens),
                 .completion_tokens = on(before.completion_tokens, now.completion_tokens),
                 .cost = now.cost + more * (now.cost - before.cost)};
}

double BudgetMeter::price(std::int64_t prompt_tokens, std::int64_t completion_tokens) const {
    return (static_cast<double>(prompt_tokens) * budget_.prompt_price +
            static_cast<double>(completion_tokens) * budget_.completion_price) /
           1e6;
}

std::optional<std::string> BudgetMeter::passed_limit(const Spent& would) const {
    if (budget_.max_requests > 0 && would.requests > budget_.max_requests) {
        return fmt::format("{} of {} requests used", spent_.requests, budget_.max_requests);
    }
    const std::int64_t tokens = would.prompt_tokens + would.completion_tokens;
    if (budget_.max_tokens > 0 && tokens > budget_.max_tokens) {
        return fmt::format("{} of {} tokens used, and the next request could take {}",
                           spent_.prompt_tokens + spent_.completion_tokens, budget_.max_tokens,
                           tokens - spent_.prompt_tokens - spent_.completion_tokens);
    }
    if (budget_.max_cost > 0 && would.cost > budget_.max_cost) {
        return fmt::format("{:.4f} of {:.4f} spent, and the next request could cost {:.4f}", spent_.cost,
                           budget_.max_cost, would.cost - spent_.cost);
    }
    return std::nullopt;
}

bool BudgetMeter::reserve(const Estimate& most) {
    Spent next = reserved_;
    next.requests += 1;
    next.prompt_tokens += most.prompt_tokens;
    next.completion_tokens += most.completion_tokens;
    next.cost += price(most.prompt_tokens, most.completion_tokens);
    const Spent would{.requests = spent_.requests + next.requests,
                      .prompt_tokens = spent_.prompt_tokens + next.prompt_tokens,
                      .completion_tokens = spent_.completion_tokens + next.completion_tokens,
                      .cost = spent_.cost + next.cost};
    if (passed_limit(would)) return false;
    reserved_ = next;
    return true;
}

void BudgetMeter::settle(const Estimate& most, const Estimate& used) {
    reserved_.requests -= 1;
    reserved_.prompt_tokens -= most.prompt_tokens;
    reserved_.completion_tokens -= most.completion_tokens;
    reserved_.cost -= price(most.prompt_tokens, most.completion_tokens);
    spent_.requests += 1;
    spent_.prompt_tokens += used.prompt_tokens;
    spent_.completion_tokens += used.completion_tokens;
    spent_.cost += price(used.prompt_tokens, used.completion_tokens);
}

std::optional<std::string> BudgetMeter::stopped_by(const Estimate& most) const {
    Spent would = spent_;
    would.requests += 1;
    would.prompt_tokens += most.prompt_tokens;
    would.completion_tokens += most.completion_tokens;
    would.cost += price(most.prompt_tokens, most.completion_tokens);
    return passed_limit(would);
}

}  // namespace retort::collect
