// The engine with many requests at once: each gets what it would have got alone, whatever runs beside it, is
// cached before it or is cancelled next to it.
#include "generate/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <future>
#include <thread>

#include "driver.h"
#include "tiny_model.h"

namespace retort::generate {
namespace {

using tensor::DType;
using Tokens = std::vector<std::int32_t>;

using test::Driver;
using test::Outcome;
using test::request_for;

Tokens alone(const char* shape, const Request& request) {
    Driver driver(test::tiny_weights(shape, DType::q4_1), {.context_length = 256, .max_sequences = 1});
    const auto outcome = driver.add(request);
    driver.run();
    return outcome->tokens;
}

class EngineShapes : public ::testing::TestWithParam<const char*> {};

TEST_P(EngineShapes, each_of_many_requests_gets_what_it_gets_alone) {
    const std::int64_t vocab = test::tiny_config(GetParam()).vocab_size;
    std::vector<Request> requests;
    for (std::uint64_t i = 0; i < 9; ++i) {
        requests.push_back(
            request_for(test::random_tokens(3 + static_cast<std::int64_t>(i) * 13 % 60, vocab, i), 20,
                        i % 2 == 0 ? 0.0F : 1.0F));
    }
    requests.push_back(request_for(requests[4].prompt, 25, 1.0F));  // a prompt that another has
    std::vector<Tokens> expected;
    for (const Request& request : requests) expected.push_back(alone(GetParam(), request));
    // Whole prompts, prompts in small pieces, and a cache so small that they wait for each other.
    for (const EngineOptions options :
         {EngineOptions{.context_length = 256, .max_sequences = 16},
          EngineOptions{.context_length = 256, .max_sequences = 4, .prefill_chunk = 5},
          EngineOptions{.context_length = 96,
          .max_sequences = 16,
          .cache_bytes = 9 * Decoder::page_bytes(test::tiny_config(GetParam()), DType::bf16)}}) {
        Driver driver(test::tiny_weights(GetParam(), DType::q4_1), options);
        std::vector<std::shared_ptr<Outcome>> outcomes;
        for (const Request& request : requests) outcomes.push_back(driver.add(request));
        driver.run();
        for (std::size_t i = 0; i < requests.size(); ++i) {
            ASSERT_TRUE(outcomes[i]->result && *outcomes[i]->result);
            EXPECT_EQ(outcomes[i]->tokens, expected[i]) << i;
            EXPECT_EQ((*outcomes[i]->result)->finish_reason, FinishReason::length);
            EXPECT_EQ((*outcomes[i]->result)->completion_tokens, requests[i].max_tokens);
        }
        EXPECT_EQ(driver.scheduler().statistics().kv_cache_usage, 0);
        EXPECT_EQ(driver.scheduler().statistics().generated_tokens, 9U * 20 + 25);
    }
}

TEST_P(EngineShapes, a_known_beginning_is_not_computed_again_and_changes_nothing) {
    const std::int64_t vocab = test::tiny_config(GetParam()).vocab_size;
    const Tokens system = test::random_tokens(50, vocab, 1);
    Tokens first = system;
    first.push_back(3);
    Tokens second = system;
    second.push_back(4);
    Driver driver(test::tiny_weights(GetParam(), DType::q4_1), {.context_length = 256, .max_sequences = 4});
    // Together: the second waits for the pages that the first is about to compute, then shares three of them.
    const auto a = driver.add(request_for(first, 10));
    const auto b = driver.add(request_for(second, 10));
    driver.run();
    EXPECT_EQ((*a->result)->cached_tokens, 0);
    EXPECT_EQ((*b->result)->cached_tokens, 48);
    EXPECT_EQ(a->tokens, alone(GetParam(), request_for(first, 10)));
    EXPECT_EQ(b->tokens, alone(GetParam(), request_for(second, 10)));
    // The next turn of a conversation: all of the last but its final token, which was never run.
    Tokens turn = first;
    turn.insert(turn.end(), a->tokens.begin(), a->tokens.end());
    turn.insert(turn.end(), {7, 8, 9});
    const auto c = driver.add(request_for(turn, 10));
    driver.run();
    EXPECT_EQ((*c->result)->cached_tokens, 51 + 10 - 1);
    EXPECT_EQ((*c->result)->prompt_tokens, 64);
    EXPECT_EQ(c->tokens, alone(GetParam(), request_for(turn, 10)));
    EXPECT_EQ(driver.scheduler().statistics().prefix_cache_hits, 48U + 60U);
    // The same prompt: all but its last token, whose logits are wanted.
    const auto d = driver.add(request_for(turn, 10));
    driver.run();
    EXPECT_EQ((*d->result)->cached_tokens, 63);
    EXPECT_EQ(d->tokens, c->tokens);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EngineShapes, ::testing::Values("llama", "qwen2"));

TEST(Scheduler, stops_at_a_stop_token_and_does_not_report_it) {
    const Request request = request_for({1, 2, 3}, 30, 1.0F);
    const Tokens tokens = alone("llama", request);
    Request stopped = request;
    stopped.stop_tokens = {tokens[7]};
    const auto first = std::find(tokens.begin(), tokens.end(), tokens[7]) - tokens.begin();
    Driver driver(test::tiny_weights("llama", DType::q4_1), {.context_length = 64});
    const auto outcome = driver.add(stopped);
    driver.run();
    EXPECT_EQ(outcome->tokens, Tokens(tokens.begin(), tokens.begin() + first));
    EXPECT_EQ((*outcome->result)->finish_reason, FinishReason::stop);
    EXPECT_EQ((*outcome->result)->completion_tokens, first);
}

TEST(Scheduler, ends_at_the_context) {
    Driver driver(test::tiny_weights("llama", DType::q4_1), {.context_length = 20});
    const auto outcome = driver.add(request_for(test::random_tokens(15, 131, 1), 1000));
    driver.run();
    EXPECT_EQ(outcome->tokens.size(), 5U);
    EXPECT_EQ((*outcome->result)->finish_reason, FinishReason::length);
}

TEST(Scheduler, cancels_what_runs_and_what_waits) {
    Driver driver(test::tiny_weights("llama", DType::q4_1), {.context_length = 64, .max_sequences = 1});
    const auto running = driver.add(request_for({1, 2}, 50));
    const auto waiting = driver.add(request_for({3, 4}, 50));
    const auto last = driver.add(request_for({5, 6}, 4));
    for (int i = 0; i < 3; ++i) driver.scheduler().step();
    driver.scheduler().cancel(1);
    driver.scheduler().cancel(2);
    driver.scheduler().cancel(77);
    driver.run();
    EXPECT_EQ((*running->result)->finish_reason, FinishReason::cancelled);
    EXPECT_EQ((*running->result)->completion_tokens, 3);
    EXPECT_EQ((*waiting->result)->finish_reason, FinishReason::cancelled);
    EXPECT_EQ((*waiting->result)->completion_tokens, 0);
    EXPECT_EQ((*last->result)->finish_reason, FinishReason::length);
    EXPECT_EQ(last->tokens.size(), 4U);
    EXPECT_EQ(driver.scheduler().statistics().kv_cache_usage, 0);
}

TEST(Scheduler, reports_logprobs_of_the_token_it_chose) {
    Driver driver(test::tiny_weights("llama", DType::q4_1), {.context_length = 64});
    Request request = request_for({1, 2, 3}, 5);
    request.top_logprobs = 3;
    const auto outcome = driver.add(request);
    driver.run();
    ASSERT_EQ(outcome->events.size(), 5U);
    for (const TokenEvent& event : outcome->events) {
        ASSERT_EQ(event.top.size(), 3U);
        EXPECT_EQ(event.top[0].token, event.token);  // greedy
        EXPECT_EQ(event.top[0].logprob, event.logprob);
        EXPECT_LE(event.logprob, 0);
        EXPECT_GE(event.top[1].logprob, event.top[2].logprob);
    }
}

Request scoring(Tokens prompt, std::int64_t max_tokens, std::int32_t top = 2) {
    Request request = request_for(std::move(prompt), max_tokens);
    request.prompt_logprobs = true;
    request.top_logprobs = top;
    return request;
}

// What generating said of each token, scoring says of it as a part of a prompt: whole or in chunks, alone or
// beside others, whether the cache knows it or not.
TEST(Scheduler, scores_a_prompt_as_it_would_have_generated_it) {
    for (const std::int64_t chunk : {256, 7}) {
        Driver driver(test::tiny_weights("llama", DType::q4_1),
                      {.context_length = 128, .max_sequences = 4, .prefill_chunk = chunk});
        const Tokens prompt = test::random_tokens(20, 131, 3);
        Request first = request_for(prompt, 30);
        first.top_logprobs = 2;
        const auto generated = driver.add(first);
        driver.run();
        Tokens all = prompt;
        all.insert(all.end(), generated->tokens.begin(), generated->tokens.end());
        const auto beside = driver.add(request_for(test::random_tokens(9, 131, 4), 10));
        const auto alone_in_it = driver.add(scoring(all, 0));
        const auto with_answer = driver.add(scoring(all, 1));
        driver.run();
        for (const auto& outcome : {alone_in_it, with_answer}) {
            ASSERT_TRUE(outcome->result && *outcome->result);
            const std::vector<TokenEvent>& scored = (*outcome->result)->prompt;
            ASSERT_EQ(scored.size(), all.size() - 1);
            EXPECT_EQ((*outcome->result)->cached_tokens, 0);
            for (std::size_t i = 0; i < generated->events.size(); ++i) {
                const TokenEvent& now = scored[prompt.size() - 1 + i];
                EXPECT_EQ(now.token, generated->events[i].token);
                EXPECT_EQ(now.logprob, generated->events[i].logprob);
                ASSERT_EQ(now.top.size(), 2U);
                EXPECT_EQ(now.top[1].token, generated->events[i].top[1].token);
            }
        }
        EXPECT_EQ(alone_in_it->tokens.size(), 0U);
        EXPECT_EQ(with_answer->tokens.size(), 1U);
        EXPECT_EQ(beside->tokens.size(), 10U);
        EXPECT_EQ(driver.scheduler().statistics().kv_cache_usage, 0);
    }
}

TEST(Scheduler, the_stop_token_comes_with_the_completion) {
    Driver driver(test::tiny_weights("llama", DType::q4_1), {.context_length = 64});
    Request request = request_for({1, 2, 3}, 5);
    const auto first = driver.add(request);
    driver.run();
    request.stop_tokens = {first->tokens[0]};
    request.top_logprobs = 1;
    const auto stopped = driver.add(request);
    driver.run();
    ASSERT_TRUE((*stopped->result)->stop);
    EXPECT_EQ((*stopped->result)->stop->token, first->tokens[0]);
    EXPECT_EQ((*stopped->result)->stop->top[0].token, first->tokens[0]);
    EXPECT_FALSE((*first->result)->stop);
}

// The head applied to the embedding of one token gives the logits after it.
TEST(Scheduler, an_embedding_is_the_mean_of_what_the_head_sees) {
    model::Weights weights = test::tiny_weights("llama", DType::f32);
    const auto* head = reinterpret_cast<const float*>(weights.embedding.data);
    const std::vector<std::shared_ptr<const void>> owners(weights.owners.begin(), weights.owners.end());
    Driver driver(std::move(weights), {.context_length = 64, .max_sequences = 4, .prefill_chunk = 4});
    const auto embed = [&](Tokens prompt) {
        Request request = request_for(std::move(prompt), 0);
        request.embed = true;
        return driver.add(request);
    };
    Request after = request_for({7}, 1);
    after.top_logprobs = 20;
    const auto generated = driver.add(after);
    const auto single = embed({7});
    const auto several = embed({7, 9, 20, 3, 5, 6});
    const auto shorter = embed({7, 9, 20, 3, 5});
    driver.run();
    const std::vector<float>& hidden = (*single->result)->embedding;
    ASSERT_EQ(hidden.size(), 64U);
    const auto logit = [&](std::int32_t token) {
        double sum = 0;
        for (std::size_t i = 0; i < 64; ++i) {
            sum += static_cast<double>(hidden[i]) *
                   static_cast<double>(head[static_cast<std::size_t>(token) * 64 + i]);
        }
        return sum;
    };
    const std::vector<TokenLogprob>& top = generated->events[0].top;
    for (const TokenLogprob& entry : top) {
        EXPECT_NEAR(logit(entry.token) - logit(top[0].token),
                    static_cast<double>(entry.logprob - top[0].logprob), 1e-4);
    }
    // Causal: the sixth token adds its own part, and changes nothing of those before it.
    EXPECT_EQ(several->tokens.size(), 0U);
    EXPECT_NE((*several->result)->embedding, (*shorter->result)->embedding);
    const auto whole = embed({7, 9, 20, 3, 5, 6});
    driver.run();
    EXPECT_EQ((*whole->result)->embedding, (*several->result)->embedding);
    EXPECT_EQ(driver.scheduler().statistics().kv_cache_usage, 0);
}

TEST(Scheduler, a_model_of_damaged_weights_fails_its_request_only) {
    model::Weights weights = test::tiny_weights("llama", DType::q4_1);
    weights.final_norm[3] = std::numeric_limits<float>::quiet_NaN();
    Driver driver(std::move(weights), {.context_length = 64});
    const auto outcome = driver.add(request_for({1, 2, 3}, 5));
    driver.run();
    ASSERT_TRUE(outcome->result);
    EXPECT_FALSE(*outcome->result);
    Request embedding = request_for({1, 2, 3}, 0);
    embedding.embed = true;
    const auto embedded = driver.add(embedding);
    driver.run();
    EXPECT_FALSE(*embedded->result);
    EXPECT_EQ(driver.scheduler().statistics().kv_cache_usage, 0);
}

TEST(Engine, refuses_what_cannot_work_at_the_door) {
    auto engine = Engine::create(test::tiny_weights("llama", DType::q4_1), {.context_length = 32});
    ASSERT_TRUE(engine) << engine.error().message;
    const auto refuses = [&](const Request& request) {
        const auto id = (*engine)->submit(
            request, [](const TokenEvent&) { return true; }, [](const auto&) {});
        return !id && id.error().code == ErrorCode::invalid_argument && !id.error().message.empty();
    };
    EXPECT_TRUE(refuses(request_for({}, 5)));
    EXPECT_TRUE(refuses(request_for({1, 131}, 5)));
    EXPECT_TRUE(refuses(request_for({-1}, 5)));
    EXPECT_TRUE(refuses(request_for({1}, 0)));
    EXPECT_TRUE(refuses(request_for(Tokens(32, 1), 5)));
    EXPECT_FALSE(refuses(request_for(Tokens(31, 1), 5)));
    EXPECT_FALSE(refuses(scoring(Tokens(32, 1), 0)));
    EXPECT_TRUE(refuses(scoring(Tokens(33, 1), 0)));
    EXPECT_TRUE(refuses(scoring(Tokens(32, 1), 1)));
    Request request = request_for({1}, 5);
    request.sampling.top_p = 0;
    EXPECT_TRUE(refuses(request));
    request = request_for({1}, 5, -1);
    EXPECT_TRUE(refuses(request));
    request = request_for({1}, 5);
    request.sampling.logit_bias = {{131, 1.0F}};
    EXPECT_TRUE(refuses(request));
    request = request_for({1}, 5);
    request.top_logprobs = 21;
    EXPECT_TRUE(refuses(request));
    request = request_for({1}, 5);
    request.sampling.repetition_penalty = 0;
    EXPECT_TRUE(refuses(request));

    EXPECT_FALSE(Engine::create(test::tiny_weights("llama", DType::q4_1), {.max_sequences = 0}));
    EXPECT_FALSE(Engine::create(test::tiny_weights("llama", DType::q4_1), {.context_length = 1000}));
    const auto small = Engine::create(test::tiny_weights("llama", DType::q4_1),
                                      {.context_length = 500, .cache_bytes = 20000});
    ASSERT_FALSE(small);
    EXPECT_NE(small.error().message.find("500"), std::string::npos);
}

TEST(Engine, serves_several_threads_and_lets_them_cancel) {
    auto engine =
        Engine::create(test::tiny_weights("llama", DType::q4_1), {.context_length = 128, .max_sequences = 4});
    ASSERT_TRUE(engine);
    const Tokens expected = alone("llama", request_for({9, 8, 7}, 12));
    std::vector<std::thread> threads;
    std::atomic<int> right = 0;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 5; ++i) {
                Tokens tokens;
                const auto completion =
                    (*engine)->generate(request_for({9, 8, 7}, 12), [&](const TokenEvent& event) {
                        tokens.push_back(event.token);
                        return true;
                    });
                if (completion && tokens == expected) ++right;
                int seen = 0;
                const auto cut = (*engine)->generate(request_for({1, 2}, 100, 1.0F),
                                                     [&](const TokenEvent&) { return ++seen < 3; });
                if (cut && cut->finish_reason == FinishReason::cancelled && cut->completion_tokens == 3)
                    ++right;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(right.load(), 40);
    std::promise<Result<Completion>> promise;
    const auto id = (*engine)->submit(
        request_for({1}, 100), [](const TokenEvent&) { return true; },
        [&](Result<Completion> result) { promise.set_value(std::move(result)); });
    ASSERT_TRUE(id);
    (*engine)->cancel(*id);
    EXPECT_TRUE(promise.get_future().get());
}

TEST(Engine, tells_those_who_wait_when_it_is_destroyed) {
    auto engine =
        Engine::create(test::tiny_weights("llama", DType::q4_1), {.context_length = 512, .max_sequences = 1});
    ASSERT_TRUE(engine);
    std::atomic<int> told = 0;
    for (int i = 0; i < 5; ++i) {
        ASSERT_TRUE((*engine)->submit(
            request_for({1, 2, 3}, 500), [](const TokenEvent&) { return true; },
            [&](const auto&) { ++told; }));
    }
    engine->reset();
    EXPECT_EQ(told.load(), 5);
}

}  // namespace
}  // namespace retort::generate
