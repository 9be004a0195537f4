#include "guard/account.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace retort::guard {

void GramTable::add(std::uint32_t gram) {
    if (gram == PromptSketch::no_gram) return;
    std::size_t smallest = 0;
    for (std::size_t i = 0; i < size; ++i) {
        if (grams[i] == gram) {
            if (counts[i] < UINT16_MAX) ++counts[i];
            return;
        }
        if (counts[i] < counts[smallest]) smallest = i;
    }
    // What is thrown out hands its count on, so that what comes often enough gets in and stays.
    grams[smallest] = gram;
    if (counts[smallest] < UINT16_MAX) ++counts[smallest];
}

std::uint64_t first_bytes(const store::ShortHash& hash) {
    std::uint64_t value = 0;
    std::memcpy(&value, hash.data(), sizeof value);
    return value;
}

namespace {

// Boyer and Moore's majority vote.
void vote(std::uint64_t& candidate, std::uint32_t& lead, std::uint64_t value) {
    if (candidate == value) {
        ++lead;
    } else if (lead == 0) {
        candidate = value;
        lead = 1;
    } else {
        --lead;
    }
}

void add_sketch(WindowStats& window, const PromptSketch& sketch, bool logprobs) {
    if (!sketch.follow_up) ++window.single;
    if (sketch.elicits_reasoning) ++window.elicits;
    for (std::size_t i = 0; i < sketch.grams.size(); ++i) {
        // A short text's head is its tail.
        const auto* const earlier = sketch.grams.begin() + static_cast<std::ptrdiff_t>(i);
        if (std::find(sketch.grams.begin(), earlier, sketch.grams[i]) == earlier)
            window.grams.add(sketch.grams[i]);
        if (sketch.grams[i] != PromptSketch::no_gram) window.sample.add(sketch.grams[i]);
    }
    window.pool.add(static_cast<std::uint32_t>(sketch.content >> 32U));
    if (sketch.topic[0] != 0) window.topics |= std::uint64_t{1} << (sketch.topic[0] % 64U);
    if (sketch.bias == 0) return;
    ++window.biased;
    if (logprobs) ++window.biased_logprobs;
    const std::uint64_t before = window.biased_prompt;
    vote(window.biased_prompt, window.biased_lead, sketch.conversation);
    if (window.biased_prompt != before) window.bias_maps = {};
    if (window.biased_prompt == sketch.conversation)
        window.bias_maps.add(static_cast<std::uint32_t>(sketch.bias >> 32U));
}

}  // namespace

void add_event(AccountState& account, const store::Event& event, const PromptSketch* sketch,
               std::size_t hour) {
    WindowStats& window = account.window;
    if (account.first_ms == 0) account.first_ms = event.time_ms;
    if (event.address != store::ShortHash{}) account.address = first_bytes(event.address);
    if (event.user_agent != store::ShortHash{}) account.client = first_bytes(event.user_agent);
    if (event.payment != store::ShortHash{}) account.payment = first_bytes(event.payment);
    if (event.end == "refused") {
        ++window.refused;
        return;
    }
    ++window.requests;
    account.in_window = 1;
    if (event.logprobs) ++window.logprobs;
    window.completion_tokens +=
        static_cast<std::uint64_t>(std::max<std::int64_t>(event.completion_tokens, 0));
    vote(window.parameters, window.parameters_lead, event.parameters);
    if (hour < 168) window.hours[hour / 64] |= std::uint64_t{1} << (hour % 64);
    if (window.last_ms != 0) {
        const double gap =
            static_cast<double>(std::max<std::int64_t>(event.time_ms - window.last_ms, 0)) / 1000;
        const auto logarithm = static_cast<float>(std::log1p(gap));
        window.gap_sum += logarithm;
        window.gap_squares += logarithm * logarithm;
    }
    window.last_ms = event.time_ms;
    if (sketch != nullptr) add_sketch(window, *sketch, event.logprobs);
}

double distinct_texts(const WindowStats& window) {
    return std::min(window.pool.distinct(), static_cast<double>(window.requests));
}

AccountFacts facts_of(const WindowStats& window) {
    AccountFacts facts;
    facts.requests = window.requests;
    if (window.requests == 0) return facts;
    facts.distinct = distinct_texts(window);
    facts.distinct_share = facts.distinct / facts.requests;
    facts.single_share = window.single / facts.requests;
    facts.elicits_share = window.elicits / facts.requests;
    const std::uint16_t most = *std::max_element(window.grams.counts.begin(), window.grams.counts.end());
    facts.coverage = std::min(1.0, most / std::min(facts.requests, 65535.0));
    const int topics = std::popcount(window.topics);
    const double counted = topics == 64 ? 64.0 * std::log(64.0) : -64.0 * std::log(1.0 - topics / 64.0);
    facts.topics = facts.distinct > 0 ? std::min(1.0, counted / std::min(facts.distinct, 128.0)) : 0;
    facts.constancy = window.parameters_lead / facts.requests;
    const double gaps = facts.requests - 1;
    if (gaps >= 4) {
        const double mean = window.gap_sum / gaps;
        facts.regularity = 1 / (1 + std::max(0.0, window.gap_squares / gaps - mean * mean));
    }
    return facts;
}

// How much was asked with one template, in doublings, as far as it looks like harvesting: each text once,
// no follow-up.
double account_score(const AccountFacts& facts) {
    return std::log2(1 + facts.distinct * facts.coverage * facts.single_share) *
           (1 + 0.5 * facts.constancy + 0.5 * facts.regularity + 0.5 * facts.elicits_share) / 2.5;
}

// Many maps on one prompt; with logprobs each tells something.
double logits_score(const WindowStats& window) {
    if (window.biased == 0) return 0;
    const double maps = std::min(window.bias_maps.distinct(), static_cast<double>(window.biased));
    return std::log2(maps) + std::log2(1.0 + window.biased_logprobs);
}

}  // namespace retort::guard
