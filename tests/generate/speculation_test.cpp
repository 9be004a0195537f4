// Speculative decoding changes how long an answer takes, never what it is: the distribution by counting draws
// against exact probabilities, greedy answers token for token, and pages that both models keep in step.
#include "generate/speculation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "driver.h"
#include "tiny_model.h"

namespace retort::generate {
namespace {

using tensor::DType;
using test::Driver;
using test::Outcome;
using test::request_for;
using test::Tokens;

// Above it by chance once in a million draws of the test: Wilson and Hilferty's approximation of the
// quantile.
double chi_square_limit(double freedom) {
    const double z = 4.7534;
    const double part = 2.0 / (9.0 * freedom);
    return freedom * std::pow(1.0 - part + z * std::sqrt(part), 3);
}

// Cells of fewer than five expected draws are put together.
void expect_distribution(const std::map<Tokens, double>& expected, const std::map<Tokens, double>& counts,
                         double draws) {
    double statistic = 0;
    double cells = 0;
    double rare_expected = 0;
    double rare_seen = 0;
    double all_seen = 0;
    for (const auto& [key, probability] : expected) {
        const auto found = counts.find(key);
        const double seen = found == counts.end() ? 0 : found->second;
        all_seen += seen;
        if (probability * draws < 5) {
            rare_expected += probability * draws;
            rare_seen += seen;
            continue;
        }
        statistic += (seen - probability * draws) * (seen - probability * draws) / (probability * draws);
        ++cells;
    }
    EXPECT_EQ(all_seen, draws) << "something was drawn that cannot be";
    if (rare_expected >= 5) {
        statistic += (rare_seen - rare_expected) * (rare_seen - rare_expected) / rare_expected;
        ++cells;
    }
    ASSERT_GT(cells, 3);
    EXPECT_LT(statistic, chi_square_limit(cells - 1)) << cells << " cells";
}

TEST(Speculation, what_is_kept_or_replaced_is_distributed_as_the_target) {
    constexpr std::size_t vocab = 24;
    base::RandomStream random(3);
    std::vector<float> target(vocab);
    std::vector<float> draft(vocab);
    const auto fill = [&](std::vector<float>& values, double zeros) {
        double total = 0;
        for (float& value : values) {
            value = random.uniform() < zeros ? 0.0F : static_cast<float>(std::exp(2 * random.normal()));
            total += static_cast<double>(value);
        }
        for (float& value : values) value = static_cast<float>(static_cast<double>(value) / total);
    };
    fill(target, 0.3);
    fill(draft, 0.3);
    std::map<Tokens, double> expected;
    for (std::size_t i = 0; i < vocab; ++i) {
        if (target[i] > 0.0F) {
            expected[{static_cast<std::int32_t>(i)}] = static_cast<double>(target[i]);
        }
    }
    constexpr int draws = 200000;
    std::map<Tokens, double> counts;
    double kept = 0;
    for (int i = 0; i < draws; ++i) {
        double left = random.uniform();
        std::int32_t guess = 0;
        while (guess + 1 < static_cast<std::int32_t>(vocab) &&
               left >= static_cast<double>(draft[static_cast<std::size_t>(guess)])) {
            left -= static_cast<double>(draft[static_cast<std::size_t>(guess++)]);
        }
        const std::int32_t token = accept_or_replace(guess, draft, target, random);
        kept += token == guess ? 1 : 0;
        ++counts[{token}];
    }
    expect_distribution(expected, counts, draws);
    // Kept as often as is possible: the sum of the lesser of both.
    double overlap = 0;
    for (std::size_t i = 0; i < vocab; ++i) {
        overlap += static_cast<double>(std::min(target[i], draft[i]));
    }
    EXPECT_NEAR(kept / draws, overlap, 5 * std::sqrt(overlap * (1 - overlap) / draws));
}

// The probability of each answer of three tokens, from the model alone and steps written out here.
class ExactAnswers {
  public:
    ExactAnswers(model::Weights weights, const Request& request)
        : decoder_(std::move(weights), 8, 64, 64), request_(request) {
        extend({}, 1.0);
    }
    [[nodiscard]] const std::map<Tokens, double>& probabilities() const { return probabilities_; }

  private:
    void extend(const Tokens& answer, double probability) {
        if (static_cast<std::int64_t>(answer.size()) == request_.max_tokens) {
            probabilities_[answer] = probability;
            return;
        }
        Tokens all = request_.prompt;
        all.insert(all.end(), answer.begin(), answer.end());
        const Segment segment{all, 0, pages_, 1};
        const std::span<float> row = decoder_.step({&segment, 1});
        std::vector<float> logits(row.begin(), row.end());
        const SamplingParameters& given = request_.sampling;
        std::map<std::int32_t, int> said;
        for (const std::int32_t token : answer) ++said[token];
        for (const auto& [token, count] : said) {
            logits[static_cast<std::size_t>(token)] -=
                given.frequency_penalty * static_cast<float>(count) + given.presence_penalty;
        }
        SamplingParameters rest = given;
        rest.frequency_penalty = rest.presence_penalty = 0;
        Sampler sampler(rest, -1, {}, request_.prompt, 1);
        for (const TokenProbability& entry : sampler.distribution(all, logits)) {
            Tokens next = answer;
            next.push_back(entry.token);
            extend(next, probability * static_cast<double>(entry.probability));
        }
    }
    Decoder decoder_;
    Request request_;
    Tokens pages_ = {0, 1, 2, 3, 4, 5, 6, 7};
    std::map<Tokens, double> probabilities_;
};

struct Case {
    const char* name;
    std::uint64_t draft_seed;  // 1: the very model
    SamplingParameters sampling;
};

class SpeculativeAnswers : public ::testing::TestWithParam<Case> {};

TEST_P(SpeculativeAnswers, are_distributed_as_without_a_draft) {
    Request request = request_for(test::random_tokens(5, 131, 8), 3);
    request.sampling = GetParam().sampling;
    const ExactAnswers exact(test::tiny_weights("llama", DType::q4_1), request);
    Driver driver(test::tiny_weights("llama", DType::q4_1),
                  {.context_length = 64, .max_sequences = 16, .draft_tokens = 2, .draft_sequences = 16},
                  test::tiny_weights("llama", DType::q4_1, GetParam().draft_seed));
    constexpr int draws = 12000;
    std::map<Tokens, double> counts;
    for (int i = 0; i < draws; i += 16) {
        std::vector<std::shared_ptr<Outcome>> outcomes;
        for (int j = 0; j < 16; ++j) outcomes.push_back(driver.add(request));
        driver.run();
        for (const auto& outcome : outcomes) ++counts[outcome->tokens];
    }
    expect_distribution(exact.probabilities(), counts, draws);
    const EngineStatistics statistics = driver.scheduler().statistics();
    EXPECT_GT(statistics.drafted_tokens, 0U);
    EXPECT_GT(statistics.draft_hits, 0U);
    if (GetParam().draft_seed != 1) {
        EXPECT_LT(statistics.draft_hits, statistics.drafted_tokens);
    }
}

INSTANTIATE_TEST_SUITE_P(Settings, SpeculativeAnswers,
                         ::testing::Values(Case{"another_model", 2, {.temperature = 1.5F, .top_k = 8}},
                                           Case{"the_same_model", 1, {.temperature = 1.0F, .top_k = 6}},
                                           Case{"penalties_and_bias",
                                                2,
                                                {.temperature = 1.2F,
                                                 .top_k = 7,
                                                 .top_p = 0.97F,
                                                 .min_p = 0.01F,
                                                 .frequency_penalty = 0.8F,
                                                 .presence_penalty = 0.7F,
                                                 .logit_bias = {{3, 6.0F}, {4, 5.5F}, {5, 5.0F}}}}),
                         [](const auto& given) { return std::string(given.param.name); });

std::vector<Request> greedy_requests() {
    std::vector<Request> requests;
    for (std::uint64_t i = 0; i < 8; ++i) {
        requests.push_back(
            request_for(test::random_tokens(3 + static_cast<std::int64_t>(i) * 17 % 60, 131, i),
                        15 + 6 * static_cast<std::int64_t>(i)));
    }
    requests.push_back(request_for(requests[4].prompt, 25));
    requests[5].sampling.frequency_penalty = 1.0F;
    requests[5].sampling.repetition_penalty = 1.3F;
    requests[6].top_logprobs = 2;
    requests[7].sampling.logit_bias = {{9, 3.0F}};
    // A hook that is not the draft's: every other token is forbidden.
    requests[3].hook.change_logits = [](std::span<const std::int32_t> context, std::span<float> logits) {
        for (std::size_t i = context.size() % 2; i < logits.size(); i += 2) {
            logits[i] = -std::numeric_limits<float>::infinity();
        }
    };
    return requests;
}

std::vector<std::shared_ptr<Outcome>> run_all(Driver& driver, const std::vector<Request>& requests) {
    std::vector<std::shared_ptr<Outcome>> outcomes;
    for (const Request& request : requests) outcomes.push_back(driver.add(request));
    driver.run();
    return outcomes;
}

void expect_same_answers(const std::vector<std::shared_ptr<Outcome>>& now,
                         const std::vector<std::shared_ptr<Outcome>>& expected) {
    for (std::size_t i = 0; i < now.size(); ++i) {
        ASSERT_TRUE(now[i]->result && *now[i]->result) << i;
        EXPECT_EQ(now[i]->tokens, expected[i]->tokens) << i;
        EXPECT_EQ((*now[i]->result)->finish_reason, (*expected[i]->result)->finish_reason);
        for (std::size_t t = 0; t < now[i]->events.size(); ++t) {
            EXPECT_EQ(now[i]->events[t].logprob, expected[i]->events[t].logprob);
            EXPECT_EQ(now[i]->events[t].top.size(), expected[i]->events[t].top.size());
        }
    }
}

TEST(SpeculativeDecoding, greedy_answers_are_those_of_the_model_alone) {
    const std::vector<Request> requests = greedy_requests();
    Driver plain(test::tiny_weights("llama", DType::q4_1), {.context_length = 256});
    const auto expected = run_all(plain, requests);
    for (const std::uint64_t draft_seed : {1U, 2U}) {
        for (const EngineOptions options :
             {EngineOptions{.context_length = 256, .draft_sequences = 16},
              EngineOptions{.context_length = 256, .max_sequences = 4, .prefill_chunk = 5, .draft_tokens = 7},
              EngineOptions{.context_length = 256, .draft_tokens = 1, .draft_sequences = 3},
              EngineOptions{.context_length = 128,
              .max_sequences = 16,
              .cache_bytes = 18 * Decoder::page_bytes(test::tiny_config("llama"), DType::bf16),
              .draft_sequences = 16}}) {
            Driver driver(test::tiny_weights("llama", DType::q4_1), options,
                          test::tiny_weights("llama", DType::q4_1, draft_seed));
            expect_same_answers(run_all(driver, requests), expected);
            EXPECT_EQ(driver.scheduler().statistics().kv_cache_usage, 0);
            EXPECT_GT(driver.scheduler().statistics().drafted_tokens, 0U);
            // Again, with all of it in the cache.
            expect_same_answers(run_all(driver, requests), expected);
        }
    }
}

// The very model as its own draft guesses every token, as long as its keys and values are right: whatever is
// shared, copied, thrown out or left behind.
TEST(SpeculativeDecoding, a_perfect_draft_is_never_wrong) {
    Driver driver(test::tiny_weights("llama", DType::q4_1),
                  {.context_length = 256,
                   .max_sequences = 4,
                   .cache_bytes = 70 * Decoder::page_bytes(test::tiny_config("llama"), DType::bf16),
                   .prefill_chunk = 7,
                   .draft_sequences = 4},
                  test::tiny_weights("llama", DType::q4_1));
    const auto expect_perfect = [&] {
        const EngineStatistics statistics = driver.scheduler().statistics();
        EXPECT_GT(statistics.drafted_tokens, 0U);
        EXPECT_EQ(statistics.draft_hits, statistics.drafted_tokens);
        EXPECT_EQ(statistics.kv_cache_usage, 0);
    };
    const Tokens system = test::random_tokens(50, 131, 1);
    Tokens turn = system;
    for (int i = 0; i < 6; ++i) {
        turn.push_back(i);
        // One of a hook that chooses leaves pages that the draft never read.
        const Tokens fresh = test::random_tokens(70, 131, 40 + static_cast<std::uint64_t>(i));
        Request chooser = request_for(i % 2 == 0 ? turn : fresh, 20, 1.0F);
        chooser.hook.choose = [](auto, std::span<const TokenProbability> all) { return all[0].token; };
        driver.add(chooser);
        const auto answer = driver.add(request_for(turn, 21 + i));
        driver.add(request_for(test::random_tokens(30 + i, 131, 90 + static_cast<std::uint64_t>(i)), 30));
        driver.add(request_for(system, 11, 1.0F));
        driver.run();
        driver.add(request_for(fresh, 25));
        driver.run();
        turn.insert(turn.end(), answer->tokens.begin(), answer->tokens.end());
        if (turn.size() > 150) turn.resize(70 + static_cast<std::size_t>(i));
        expect_perfect();
    }
    // 21 tokens: one with the prompt, then four steps of five.
    const auto last = driver.add(request_for({5, 6, 7}, 21));
    driver.run();
    EXPECT_EQ((*last->result)->steps, 4);
    EXPECT_EQ((*last->result)->drafted_tokens, 16);
    EXPECT_EQ((*last->result)->draft_hits, 16);
    expect_perfect();
}

TEST(SpeculativeDecoding, what_was_not_kept_is_forgotten) {
    // The draft is right but where the hook forbids the likeliest token: after that it must be right again.
    Driver driver(test::tiny_weights("llama", DType::q4_1), {.context_length = 256, .draft_tokens = 5},
                  test::tiny_weights("llama", DType::q4_1));
    Request request = request_for({1, 2, 3}, 140);
    int forbidden = 0;
    request.hook.change_logits = [&](std::span<const std::int32_t> context, std::span<float> logits) {
        if (context.size() % 7 != 0) return;
        *std::max_element(logits.begin(), logits.end()) = -std::numeric_limits<float>::infinity();
        ++forbidden;
    };
    const auto outcome = driver.add(request);
    driver.run();
    const Completion& done = **outcome->result;
    EXPECT_EQ(forbidden, 20);
    // Six tokens in one step, and the seventh instead of the first of five guesses.
    EXPECT_LE(done.drafted_tokens - done.draft_hits, 5 * forbidden);
    EXPECT_GE(done.drafted_tokens - done.draft_hits, 5 * (forbidden - 2));
    EXPECT_LE(done.steps, 2 * (139 / 7 + 1) + 1);
    Driver plain(test::tiny_weights("llama", DType::q4_1), {.context_length = 256});
    EXPECT_EQ(run_all(plain, {request})[0]->tokens, outcome->tokens);
}

// Answers cannot tell: the tiny model guesses as well with a few wrong keys. So the count itself.
TEST(Drafter, forgets_what_it_computed_of_rejected_guesses) {
    Drafter drafter(test::tiny_weights("llama", DType::q4_1), 4, 64, 64,
                    test::tiny_config("llama").vocab_size, DType::bf16);
    Tokens tokens = test::random_tokens(30, 131, 3);
    const Tokens pages = {3, 1, 0, 2};
    const Request request = request_for(tokens, 10);
    Sampler sampler(request.sampling, -1, {}, tokens, 1);
    DraftState state{.enabled = true};
    DraftTask task{&state, &sampler, &tokens, pages, 30, 5};
    drafter.run({&task, 1});
    ASSERT_EQ(state.count, 5);
    EXPECT_EQ(state.computed, 34);  // the last guess is not read
    EXPECT_EQ(drafter.valid_tokens(1), 16);
    EXPECT_EQ(drafter.valid_tokens(0), 2);
    EXPECT_EQ(drafter.computed_of(pages), 34);
    drafter.keep(state, pages, 31);
    EXPECT_EQ(state.count, 0);
    EXPECT_EQ(state.computed, 31);
    EXPECT_EQ(drafter.valid_tokens(3), 16);
    EXPECT_EQ(drafter.valid_tokens(1), 15);
    EXPECT_EQ(drafter.valid_tokens(0), 0);
    EXPECT_EQ(drafter.computed_of(pages), 31);
}

TEST(SpeculativeDecoding, a_seed_gives_one_answer_whatever_runs_beside_it) {
    const auto engine = [](std::int64_t chunk) {
        return Driver(test::tiny_weights("llama", DType::q4_1),
                      {.context_length = 128, .prefill_chunk = chunk, .draft_sequences = 2},
                      test::tiny_weights("llama", DType::q4_1, 2));
    };
    const Request request = request_for(test::random_tokens(40, 131, 5), 30, 1.0F);
    Driver alone = engine(256);
    const Tokens expected = run_all(alone, {request})[0]->tokens;
    Driver crowded = engine(9);
    Request chooser = request;  // fills the cache of the large model only
    chooser.hook.choose = [](auto, std::span<const TokenProbability> all) { return all[0].token; };
    run_all(crowded, {chooser});
    std::vector<Request> many(6, request_for(test::random_tokens(20, 131, 6), 50, 1.0F));
    many.push_back(request);
    EXPECT_EQ(run_all(crowded, many).back()->tokens, expected);
}

TEST(SpeculativeDecoding, stops_and_cancels_in_the_midst_of_what_was_proposed) {
    Driver plain(test::tiny_weights("llama", DType::q4_1), {.context_length = 128});
    const Tokens expected = run_all(plain, {request_for({1, 2, 3}, 40)})[0]->tokens;
    Driver driver(test::tiny_weights("llama", DType::q4_1), {.context_length = 128},
                  test::tiny_weights("llama", DType::q4_1));
    for (std::size_t length = 1; length < 24; ++length) {
        Request request = request_for({1, 2, 3}, 40);
        const auto cut = driver.add(request);
        cut->enough = length;
        driver.run();
        EXPECT_EQ(cut->tokens, Tokens(expected.begin(), expected.begin() + static_cast<long>(length)));
        EXPECT_EQ((*cut->result)->finish_reason, FinishReason::cancelled);
        request.stop_tokens = {expected[length]};
        request.top_logprobs = 0;
        const auto stopped = driver.add(request);
        driver.run();
        const auto first = std::find(expected.begin(), expected.end(), expected[length]);
        EXPECT_EQ(stopped->tokens, Tokens(expected.begin(), first));
        ASSERT_TRUE((*stopped->result)->stop);
        EXPECT_EQ((*stopped->result)->stop->token, expected[length]);
        EXPECT_EQ(driver.scheduler().statistics().kv_cache_usage, 0);
    }
    const auto running = driver.add(request_for({4, 5}, 100));
    for (int i = 0; i < 3; ++i) driver.scheduler().step();
    driver.scheduler().cancel(47);
    EXPECT_EQ((*running->result)->finish_reason, FinishReason::cancelled);
    EXPECT_EQ((*running->result)->completion_tokens, 11);
    EXPECT_EQ(driver.scheduler().statistics().kv_cache_usage, 0);
    EXPECT_EQ(driver.scheduler().statistics().draft_hits, driver.scheduler().statistics().drafted_tokens);
}

TEST(SpeculativeDecoding, takes_a_draft_of_another_width_and_one_that_is_damaged) {
    const std::vector<Request> requests = greedy_requests();
    Driver plain(test::tiny_weights("llama", DType::q4_1), {.context_length = 256});
    const auto expected = run_all(plain, requests);
    for (const std::int64_t vocab : {100, 160}) {
        model::ModelConfig config = test::tiny_config("llama");
        config.vocab_size = vocab;
        Driver driver(test::tiny_weights("llama", DType::q4_1),
                      {.context_length = 256, .draft_sequences = 16},
                      test::RandomWeights(config, DType::q4_1, 4).take());
        expect_same_answers(run_all(driver, requests), expected);
    }
    model::Weights damaged = test::tiny_weights("llama", DType::q4_1);
    damaged.final_norm[3] = std::numeric_limits<float>::quiet_NaN();
    Driver driver(test::tiny_weights("llama", DType::q4_1), {.context_length = 256, .draft_sequences = 16},
                  std::move(damaged));
    expect_same_answers(run_all(driver, requests), expected);
    EXPECT_EQ(driver.scheduler().statistics().drafted_tokens, 0U);
}

TEST(SpeculativeDecoding, refuses_a_context_that_the_draft_was_not_made_for) {
    model::Weights small = test::tiny_weights("llama", DType::q4_1);
    small.config.context_length = 64;
    const auto refused =
        Engine::create(test::tiny_weights("llama", DType::q4_1), {.context_length = 128}, small);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("draft model"), std::string::npos);
    const auto fitted = Engine::create(test::tiny_weights("llama", DType::q4_1), {}, small);
    ASSERT_TRUE(fitted);
    EXPECT_EQ((*fitted)->context_length(), 64);
    EXPECT_FALSE(Engine::create(test::tiny_weights("llama", DType::q4_1), {.draft_tokens = 0}, small));
}

}  // namespace
}  // namespace retort::generate
