#include "generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "generate/speculation.h"
#include "generate/vocabulary.h"

namespace retort::generate {

namespace {

// Ties go to the lower token, so that a choice never depends on the sorting algorithm.
bool before(const TokenProbability& a, const TokenProbability& b) {
    return a.probability > b.probability || (a.probability == b.probability && a.token < b.token);
}

// Keeps the `wanted` first in order of before(), sorted.
void keep_first(std::vector<TokenProbability>& list, std::size_t wanted) {
    if (wanted < list.size()) {
        std::nth_element(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(wanted), list.end(),
                         before);
        list.resize(wanted);
    }
    std::sort(list.begin(), list.end(), before);
}

// Sorts only as far as the cumulative weight asks: nuclei are small, vocabularies large.
std::size_t sort_nucleus(std::vector<TokenProbability>& list, double needed) {
    double sum = 0;
    std::size_t sorted = 0;
    std::size_t step = 64;
    while (sorted < list.size()) {
        const std::size_t end = std::min(list.size(), sorted + step);
        const auto at = [&](std::size_t i) { return list.begin() + static_cast<std::ptrdiff_t>(i); };
        if (end < list.size()) std::nth_element(at(sorted), at(end), list.end(), before);
        std::sort(at(sorted), at(end), before);
        for (; sorted < end; ++sorted) {
            sum += static_cast<double>(list[sorted].probability);
            if (sum >= needed) return sorted + 1;
        }
        step *= 4;
    }
    return list.size();
}

}  // namespace

Sampler::Sampler(const SamplingParameters& parameters, std::int32_t top_logprobs, SamplingHook hook,
                 std::span<const std::int32_t> prompt, std::uint64_t default_seed)
    : parameters_(parameters),
      top_logprobs_(top_logprobs),
      hook_(std::move(hook)),
      random_(parameters.seed.value_or(default_seed)),
      guesses_(parameters.seed.value_or(default_seed), 1) {
    if (parameters_.repetition_penalty != 1.0F) {
        for (const std::int32_t token : prompt) answer_counts_.try_emplace(token, 0);
    }
}

bool Sampler::truncates() const {
    return parameters_.top_k > 0 || parameters_.top_p < 1.0F || parameters_.min_p > 0.0F ||
           hook_.choose != nullptr;
}

void Sampler::modify(std::span<float> logits) {
    const float repetition = parameters_.repetition_penalty;
    for (const auto& [token, count] : answer_counts_) {
        float& logit = logits[static_cast<std::size_t>(token)];
        if (repetition != 1.0F) logit = logit > 0 ? logit / repetition : logit * repetition;
        if (count > 0) {
            logit -= parameters_.frequency_penalty * static_cast<float>(count) + parameters_.presence_penalty;
        }
    }
    for (const auto& [token, bias] : parameters_.logit_bias) logits[static_cast<std::size_t>(token)] += bias;
}

// Fills candidates_ with what top-k, top-p and min-p leave, largest first, probabilities summing to 1.
void Sampler::truncate(std::span<const float> logits, const LargestLogit& largest) {
    const float inverse = 1.0F / parameters_.temperature;
    weights_.resize(logits.size());
    double total = exponentials(logits, largest.value, inverse, weights_);

    // A floor below which nothing can be kept, so that only a few of a large vocabulary are ever sorted.
    float floor = parameters_.min_p;
    if (parameters_.top_k > 0) {
        floor = std::max(0.0F, lower_bound_of_largest(weights_, parameters_.top_k));
    } else if (parameters_.top_p < 1.0F) {
        // All weights below (1 − top_p)/vocab of the total weigh less than 1 − top_p of it together.
        const double nucleus =
            (1.0 - static_cast<double>(parameters_.top_p)) * total / static_cast<double>(logits.size());
        floor = std::max(floor, static_cast<float>(0.999 * nucleus));
    }
    candidates_.clear();
    for (std::size_t i = 0; i < weights_.size(); ++i) {
        if (weights_[i] >= floor && weights_[i] > 0.0F) {
            candidates_.push_back({static_cast<std::int32_t>(i), weights_[i]});
        }
    }
    if (parameters_.top_k > 0) {
        keep_first(candidates_, static_cast<std::size_t>(parameters_.top_k));
        total = 0;
        for (const TokenProbability& candidate : candidates_)
            total += static_cast<double>(candidate.probability);
    }
    if (parameters_.top_p < 1.0F) {
        candidates_.resize(std::max<std::size_t>(
            1, sort_nucleus(candidates_, static_cast<double>(parameters_.top_p) * total)));
    } else if (parameters_.top_k <= 0) {
        std::sort(candidates_.begin(), candidates_.end(), before);
    }
    if (parameters_.min_p > 0.0F) {
        const float least = parameters_.min_p * candidates_.front().probability;
        while (candidates_.size() > 1 && candidates_.back().probability < least) candidates_.pop_back();
    }
    double kept = 0;
    for (const TokenProbability& candidate : candidates_) kept += static_cast<double>(candidate.probability);
    for (TokenProbability& candidate : candidates_) {
        candidate.probability = static_cast<float>(static_cast<double>(candidate.probability) / kept);
    }
}

std::int32_t Sampler::draw_candidate() {
    double total = 0;
    for (const TokenProbability& candidate : candidates_) total += static_cast<double>(candidate.probability);
    double left = random_.uniform() * total;
    for (const TokenProbability& candidate : candidates_) {
        left -= static_cast<double>(candidate.probability);
        if (left < 0) return candidate.token;
    }
    return candidates_.back().token;
}

std::int32_t Sampler::draw_untruncated(std::span<const float> logits, const LargestLogit& largest) {
    weights_.resize(logits.size());
    exponentials(logits, largest.value, 1.0F / parameters_.temperature, weights_);
    return draw(weights_, random_.uniform());
}

TokenEvent describe_token(std::span<const float> logits, std::int32_t token, std::int32_t top) {
    const double normaliser = log_sum_exp(logits, largest_logit(logits).value);
    const auto logprob = [&](std::int32_t id) {
        return static_cast<float>(static_cast<double>(logits[static_cast<std::size_t>(id)]) - normaliser);
    };
    TokenEvent event{token, logprob(token), {}};
    if (top <= 0) return event;
    const float floor = lower_bound_of_largest(logits, top);
    std::vector<TokenProbability> best;  // logits, for now
    for (std::size_t i = 0; i < logits.size(); ++i) {
        if (logits[i] >= floor) best.push_back({static_cast<std::int32_t>(i), logits[i]});
    }
    keep_first(best, static_cast<std::size_t>(top));
    for (const TokenProbability& entry : best) event.top.push_back({entry.token, logprob(entry.token)});
    return event;
}

// Steps 1 to 5 of the order: what is left is to choose.
Result<LargestLogit> Sampler::prepare(std::span<const std::int32_t> context, std::span<float> logits) {
    if (!std::isfinite(largest_logit(logits).value)) {
        return fail(ErrorCode::internal,
                    "the model's logits are not finite numbers: its weights may be damaged");
    }
    if (top_logprobs_ >= 0) raw_.assign(logits.begin(), logits.end());
    modify(logits);
    if (hook_.change_logits) hook_.change_logits(context, logits);
    const LargestLogit largest = largest_logit(logits);
    if (!std::isfinite(largest.value)) {
        return fail(ErrorCode::invalid_argument,
                    "penalties, bias or hook leave no token with a finite logit");
    }
    return largest;
}

TokenEvent Sampler::conclude(std::int32_t token) {
    ++answer_counts_[token];
    return top_logprobs_ >= 0 ? describe_token(raw_, token, top_logprobs_) : TokenEvent{token, 0, {}};
}

Result<TokenEvent> Sampler::sample(std::span<const std::int32_t> context, std::span<float> logits) {
    RETORT_TRY(const LargestLogit largest, prepare(context, logits));
    if (parameters_.temperature <= 0.0F) return conclude(largest.token);
    if (!truncates()) return conclude(draw_untruncated(logits, largest));
    truncate(logits, largest);
    std::optional<std::int32_t> chosen;
    if (hook_.choose) chosen = hook_.choose(context, candidates_);
    const std::int32_t token = chosen ? *chosen : draw_candidate();
    if (token < 0 || static_cast<std::size_t>(token) >= logits.size()) {
        return fail(ErrorCode::invalid_argument,
                    "the sampling hook chose token {}, which is not in the vocabulary", token);
    }
    return conclude(token);
}

// Steps 7 to 10, over the whole vocabulary.
void Sampler::fill_distribution(std::span<const float> logits, const LargestLogit& largest,
                                std::vector<float>& probabilities) {
    if (truncates()) {
        truncate(logits, largest);
        probabilities.assign(logits.size(), 0.0F);
        for (const TokenProbability& candidate : candidates_) {
            probabilities[static_cast<std::size_t>(candidate.token)] = candidate.probability;
        }
        return;
    }
    probabilities.resize(logits.size());
    const double total = exponentials(logits, largest.value, 1.0F / parameters_.temperature, probabilities);
    const auto scale = static_cast<float>(1.0 / total);
    for (float& probability : probabilities) probability *= scale;
}

std::optional<std::int32_t> Sampler::propose(std::span<const std::int32_t> drafted, std::span<float> logits,
                                             std::vector<float>& probabilities) {
    // The guesses before it count as said, until this one is made.
    std::vector<std::int32_t> added;
    for (const std::int32_t token : drafted) {
        const auto [entry, is_new] = answer_counts_.try_emplace(token, 0);
        ++entry->second;
        if (is_new) added.push_back(token);
    }
    modify(logits);
    for (const std::int32_t token : drafted) --answer_counts_[token];
    for (const std::int32_t token : added) answer_counts_.erase(token);
    probabilities.clear();
    const LargestLogit largest = largest_logit(logits);
    if (!std::isfinite(largest.value)) return std::nullopt;
    if (parameters_.temperature <= 0.0F) return largest.token;
    fill_distribution(logits, largest, probabilities);
    return draw(probabilities, guesses_.uniform());
}

Result<TokenEvent> Sampler::verify(std::span<const std::int32_t> context, std::span<float> logits,
                                   std::int32_t drafted, std::span<const float> probabilities) {
    RETORT_TRY(const LargestLogit largest, prepare(context, logits));
    if (parameters_.temperature <= 0.0F) return conclude(largest.token);
    fill_distribution(logits, largest, target_);
    return conclude(accept_or_replace(drafted, probabilities, target_, random_));
}

std::vector<TokenProbability> Sampler::distribution(std::span<const std::int32_t> context,
                                                    std::span<float> logits) {
    modify(logits);
    if (hook_.change_logits) hook_.change_logits(context, logits);
    const LargestLogit largest = largest_logit(logits);
    if (parameters_.temperature <= 0.0F) return {{largest.token, 1.0F}};
    truncate(logits, largest);
    return candidates_;
}

}  // namespace retort::generate
