// The sampler against its definition written out densely in double precision, and the frequencies of its
// draws.
#include "generate/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/random.h"
#include "generate/vocabulary.h"

namespace retort::generate {
namespace {

std::vector<float> random_logits(std::size_t count, std::uint64_t seed, double deviation = 3.0) {
    base::RandomStream random(seed, 9);
    std::vector<float> logits(count);
    for (float& logit : logits) logit = static_cast<float>(random.normal() * deviation);
    return logits;
}

struct Entry {
    std::int32_t token;
    double weight;
};

// docs/engine-generation.md, step by step, with no thought of speed.
std::vector<Entry> reference(const SamplingParameters& parameters, const std::vector<std::int32_t>& prompt,
                             const std::vector<std::int32_t>& answer, const std::vector<float>& logits) {
    std::vector<double> changed(logits.begin(), logits.end());
    std::map<std::int32_t, int> counts;
    for (const auto token : prompt) counts[token] += 0;
    for (const auto token : answer) counts[token] += 1;
    for (const auto& [token, count] : counts) {
        double& logit = changed[static_cast<std::size_t>(token)];
        const auto repetition = static_cast<double>(parameters.repetition_penalty);
        logit = logit > 0 ? logit / repetition : logit * repetition;
        logit -= static_cast<double>(parameters.frequency_penalty) * count;
        if (count > 0) logit -= static_cast<double>(parameters.presence_penalty);
    }
    for (const auto& [token, bias] : parameters.logit_bias) {
        changed[static_cast<std::size_t>(token)] += static_cast<double>(bias);
    }
    std::vector<Entry> list;
    const double largest = *std::max_element(changed.begin(), changed.end());
    for (std::size_t i = 0; i < changed.size(); ++i) {
        list.push_back({static_cast<std::int32_t>(i),
                        std::exp((changed[i] - largest) / static_cast<double>(parameters.temperature))});
    }
    std::stable_sort(list.begin(), list.end(),
                     [](const Entry& a, const Entry& b) { return a.weight > b.weight; });
    if (parameters.top_k > 0) list.resize(std::min(list.size(), static_cast<std::size_t>(parameters.top_k)));
    double total = 0;
    for (const Entry& entry : list) total += entry.weight;
    if (parameters.top_p < 1) {
        double sum = 0;
        std::size_t kept = 0;
        while (kept < list.size() && sum < static_cast<double>(parameters.top_p) * total)
            sum += list[kept++].weight;
        list.resize(std::max<std::size_t>(1, kept));
    }
    while (list.size() > 1 &&
           list.back().weight < static_cast<double>(parameters.min_p) * list.front().weight) {
        list.pop_back();
    }
    total = 0;
    for (const Entry& entry : list) total += entry.weight;
    for (Entry& entry : list) entry.weight /= total;
    return list;
}

std::vector<SamplingParameters> settings() {
    std::vector<SamplingParameters> list;
    for (const float temperature : {0.3F, 1.0F, 1.7F}) {
        for (const std::int32_t top_k : {0, 1, 5, 40, 900}) {
            for (const float top_p : {1.0F, 0.95F, 0.5F, 0.01F}) {
                for (const float min_p : {0.0F, 0.05F, 0.6F}) {
                    SamplingParameters parameters;
                    parameters.temperature = temperature;
                    parameters.top_k = top_k;
                    parameters.top_p = top_p;
                    parameters.min_p = min_p;
                    list.push_back(parameters);
                }
            }
        }
    }
    return list;
}

// f32 weights carry some ε each, and exp multiplies the error of logit/temperature, up to 60·ε: 2e-5
// relatively. A cut by top-p or min-p that falls within that of a boundary may keep one token more or less.
void expect_distribution(const SamplingParameters& parameters, const std::vector<std::int32_t>& prompt,
                         const std::vector<std::int32_t>& answer, const std::vector<float>& logits) {
    Sampler sampler(parameters, -1, {}, prompt, 1);
    // The sampler learns the answer by having drawn it: a bias so large that each is certain.
    std::vector<std::int32_t> context = prompt;
    for (const std::int32_t token : answer) {
        std::vector<float> certain(logits.size(), -1e4F);
        certain[static_cast<std::size_t>(token)] = 1e6F;
        const auto event = sampler.sample(context, certain);
        ASSERT_TRUE(event) << event.error().message;
        ASSERT_EQ(event->token, token);
        context.push_back(token);
    }
    auto scratch = logits;
    const auto got = sampler.distribution(context, scratch);
    const auto expected = reference(parameters, prompt, answer, logits);
    ASSERT_NEAR(static_cast<double>(got.size()), static_cast<double>(expected.size()), 1.0)
        << "top_k " << parameters.top_k << " top_p " << parameters.top_p << " min_p " << parameters.min_p;
    double sum = 0;
    for (std::size_t i = 0; i < std::min(got.size(), expected.size()); ++i) {
        ASSERT_NEAR(got[i].probability, expected[i].weight, 2e-5 * expected[i].weight + 1e-9) << i;
        if (got.size() == expected.size() && got[i].token != expected[i].token) {
            ASSERT_NEAR(got[i].probability, expected[i].weight, 2e-5 * expected[i].weight);
        }
        sum += static_cast<double>(got[i].probability);
    }
    EXPECT_NEAR(sum, 1.0, 1e-4);
}

TEST(Sampler, keeps_what_its_definition_keeps) {
    for (const std::size_t vocab : {7U, 130U, 1000U, 5003U}) {
        const auto logits = random_logits(vocab, vocab);
        for (const SamplingParameters& parameters : settings())
            expect_distribution(parameters, {}, {}, logits);
    }
}

TEST(Sampler, penalises_and_biases_as_defined) {
    SamplingParameters parameters;
    parameters.repetition_penalty = 1.3F;
    parameters.frequency_penalty = 0.4F;
    parameters.presence_penalty = 0.7F;
    parameters.logit_bias = {{5, 2.5F}, {6, -100.0F}};
    const auto logits = random_logits(60, 3);
    for (const std::int32_t top_k : {0, 20}) {
        parameters.top_k = top_k;
        parameters.top_p = top_k == 0 ? 0.99999F : 1.0F;
        expect_distribution(parameters, {1, 2, 2, 9}, {}, logits);
        expect_distribution(parameters, {1, 2, 2, 9}, {4, 4, 4, 2, 30}, logits);
    }
    parameters.repetition_penalty = 1.0F;
    expect_distribution(parameters, {1, 2}, {4, 4, 2}, logits);
}

TEST(Sampler, breaks_ties_by_the_lower_token) {
    std::vector<float> logits(200, 1.0F);
    SamplingParameters parameters;
    parameters.top_k = 3;
    Sampler sampler(parameters, -1, {}, {}, 1);
    const auto kept = sampler.distribution({}, logits);
    ASSERT_EQ(kept.size(), 3U);
    for (std::int32_t i = 0; i < 3; ++i) EXPECT_EQ(kept[static_cast<std::size_t>(i)].token, i);
    parameters.temperature = 0;
    Sampler greedy(parameters, -1, {}, {}, 1);
    EXPECT_EQ(greedy.sample({}, logits)->token, 0);
}

// Pearson's statistic over `draws` draws is chi-squared with n − 1 degrees of freedom: mean n − 1, variance
// 2(n − 1). Five deviations; the seed is fixed.
void expect_frequencies(const SamplingParameters& parameters, const std::vector<float>& logits) {
    constexpr int draws = 20000;
    Sampler sampler(parameters, -1, {}, {}, 12345);
    std::map<std::int32_t, int> counts;
    for (int i = 0; i < draws; ++i) {
        auto scratch = logits;
        const auto event = sampler.sample({}, scratch);
        ASSERT_TRUE(event);
        ++counts[event->token];
    }
    double statistic = 0;
    double rest = 1;
    int rest_count = draws;
    int cells = 0;
    for (const Entry& entry : reference(parameters, {}, {}, logits)) {
        if (entry.weight * draws < 10) break;
        const double expected = entry.weight * draws;
        statistic += (counts[entry.token] - expected) * (counts[entry.token] - expected) / expected;
        rest -= entry.weight;
        rest_count -= counts[entry.token];
        ++cells;
    }
    if (rest * draws >= 10) {
        statistic += (rest_count - rest * draws) * (rest_count - rest * draws) / (rest * draws);
        ++cells;
    } else {
        EXPECT_LE(rest_count, 30);
    }
    EXPECT_LE(statistic, cells - 1 + 5 * std::sqrt(2.0 * (cells - 1)));
}

TEST(Sampler, draws_with_the_right_frequencies) {
    const auto logits = random_logits(600, 6, 1.5);
    SamplingParameters parameters;
    expect_frequencies(parameters, logits);
    parameters.temperature = 0.7F;
    parameters.top_p = 0.9F;
    expect_frequencies(parameters, logits);
    parameters.top_k = 8;
    expect_frequencies(parameters, logits);
    parameters = {};
    parameters.min_p = 0.1F;
    expect_frequencies(parameters, logits);
}

TEST(Sampler, same_seed_same_tokens) {
    SamplingParameters parameters;
    parameters.seed = 99;
    const auto logits = random_logits(300, 7, 1.0);
    const auto draw_many = [&](std::uint64_t default_seed) {
        Sampler sampler(parameters, -1, {}, {}, default_seed);
        std::vector<std::int32_t> tokens;
        for (int i = 0; i < 50; ++i) {
            auto scratch = logits;
            tokens.push_back(sampler.sample({}, scratch)->token);
        }
        return tokens;
    };
    EXPECT_EQ(draw_many(1), draw_many(2));
    parameters.seed.reset();
    EXPECT_NE(draw_many(1), draw_many(2));
    EXPECT_EQ(draw_many(1), draw_many(1));
}

TEST(Sampler, logprobs_are_of_the_unmodified_distribution) {
    const auto logits = random_logits(3000, 8);
    double total = 0;
    for (const float logit : logits) total += std::exp(static_cast<double>(logit));
    SamplingParameters parameters;
    parameters.temperature = 0.5F;
    parameters.logit_bias = {{17, 50.0F}};
    for (const std::int32_t top : {0, 1, 5, 20}) {
        Sampler sampler(parameters, top, {}, {}, 1);
        auto scratch = logits;
        const auto event = sampler.sample({}, scratch);
        ASSERT_TRUE(event);
        EXPECT_EQ(event->token, 17);
        EXPECT_NEAR(event->logprob, static_cast<double>(logits[17]) - std::log(total), 1e-5);
        ASSERT_EQ(event->top.size(), static_cast<std::size_t>(top));
        auto sorted = logits;
        std::sort(sorted.rbegin(), sorted.rend());
        for (std::size_t i = 0; i < event->top.size(); ++i) {
            EXPECT_EQ(logits[static_cast<std::size_t>(event->top[i].token)], sorted[i]);
            EXPECT_NEAR(event->top[i].logprob, static_cast<double>(sorted[i]) - std::log(total), 1e-5);
        }
    }
}

TEST(Sampler, a_hook_changes_logits_and_chooses) {
    SamplingParameters parameters;
    parameters.top_k = 4;
    SamplingHook hook;
    std::size_t seen_context = 0;
    hook.change_logits = [&](std::span<const std::int32_t> context, std::span<float> logits) {
        seen_context = context.size();
        logits[3] = 1000.0F;
    };
    std::vector<TokenProbability> seen;
    std::optional<std::int32_t> answer;
    hook.choose = [&](std::span<const std::int32_t>, std::span<const TokenProbability> candidates) {
        seen.assign(candidates.begin(), candidates.end());
        return answer;
    };
    Sampler sampler(parameters, -1, hook, {}, 1);
    const std::vector<std::int32_t> context = {1, 2, 3};
    const auto logits = random_logits(50, 9);
    auto scratch = logits;
    EXPECT_EQ(sampler.sample(context, scratch)->token, 3);  // no choice made: all the weight is on 3
    EXPECT_EQ(seen_context, 3U);
    EXPECT_GE(seen.size(), 1U);
    EXPECT_EQ(seen.front().token, 3);
    answer = 7;
    scratch = logits;
    EXPECT_EQ(sampler.sample(context, scratch)->token, 7);
    answer = 50;
    scratch = logits;
    EXPECT_FALSE(sampler.sample(context, scratch));
}

TEST(Sampler, says_when_logits_are_not_numbers) {
    for (const std::size_t at : {0U, 8U, 49U}) {
        auto logits = random_logits(50, 10);
        logits[at] = std::numeric_limits<float>::quiet_NaN();
        Sampler sampler({}, -1, {}, {}, 1);
        EXPECT_FALSE(sampler.sample({}, logits)) << at;
    }
    auto logits = random_logits(50, 11);
    for (std::size_t i = 0; i < 50; ++i) {
        if (i != 4) logits[i] = -std::numeric_limits<float>::infinity();
    }
    Sampler sampler({}, -1, {}, {}, 1);
    const auto event = sampler.sample({}, logits);  // forbidden tokens are no fault
    ASSERT_TRUE(event) << event.error().message;
    EXPECT_EQ(event->token, 4);
}

TEST(Vocabulary, bounds_the_largest_from_below) {
    for (const std::size_t size : {3U, 64U, 1000U, 1009U}) {
        const auto values = random_logits(size, size);
        auto sorted = values;
        std::sort(sorted.rbegin(), sorted.rend());
        for (const std::int64_t count : {1, 2, 15, 16, 500}) {
            const float bound = lower_bound_of_largest(values, count);
            const auto index = static_cast<std::size_t>(count) - 1;
            if (index < size) {
                EXPECT_LE(bound, sorted[index]);
            }
            if (size >= 1000 && count <= 2) {
                EXPECT_GT(bound, sorted[200]);  // and not by much
            }
        }
    }
}

TEST(Vocabulary, draws_by_the_inverse_of_the_distribution) {
    const std::vector<float> weights = {0.0F, 2.0F, 0.0F, 1.0F, 1.0F, 0.0F};
    EXPECT_EQ(draw(weights, 0.0), 1);
    EXPECT_EQ(draw(weights, 0.49), 1);
    EXPECT_EQ(draw(weights, 0.51), 3);
    EXPECT_EQ(draw(weights, 0.76), 4);
    EXPECT_EQ(draw(weights, 0.9999999999999999), 4);
    std::vector<float> many(1000, 0.0F);
    many[777] = 1.0F;
    EXPECT_EQ(draw(many, 0.5), 777);
}

}  // namespace
}  // namespace retort::generate
