#include "serve/server.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "base/interrupt.h"
#include "server_fixture.h"

namespace retort::serve {
namespace {

TEST_F(ServerTest, answers_a_chat) {
    start();
    const http::ClientResponse response = chat(R"("max_tokens":100)", "say this");
    const api::ChatResponse got = answer(response);
    ASSERT_EQ(got.choices.size(), 1U);
    EXPECT_EQ(got.choices[0].content, "say this");
    EXPECT_EQ(got.choices[0].role, "assistant");
    EXPECT_EQ(got.choices[0].finish_reason, "stop");
    EXPECT_EQ(got.model, "org/fake");
    EXPECT_TRUE(got.id.starts_with("chatcmpl-"));
    ASSERT_TRUE(got.usage);
    EXPECT_EQ(got.usage->prompt_tokens, 15);  // "system\nsay this"
    EXPECT_EQ(got.usage->completion_tokens, 8);
    EXPECT_EQ(got.usage->cached_tokens, 3);
    EXPECT_NE(response.body.find(R"("object":"chat.completion")"), std::string::npos);
    EXPECT_NE(response.body.find(R"("logprobs":null)"), std::string::npos);
    EXPECT_FALSE(response.headers.get("openai-processing-ms").empty());
    EXPECT_EQ(answer(chat(R"("max_completion_tokens":3)", "abcdef")).choices[0].finish_reason, "length");
    EXPECT_EQ(answer(chat("", "no limit")).choices[0].content, "no limit");
}

TEST_F(ServerTest, streams_a_chat) {
    start();
    const auto chunks = stream(R"("stream_options":{"include_usage":true})", "caf\u00e9 \U0001F600!");
    ASSERT_GE(chunks.size(), 4U);
    api::ChatResponse whole;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        EXPECT_EQ(chunks[i].id, chunks[0].id);
        EXPECT_EQ(chunks[i].created, chunks[0].created);
        const bool last = i + 1 == chunks.size();
        EXPECT_EQ(chunks[i].choices.empty(), last);
        EXPECT_EQ(chunks[i].usage.has_value(), last);
        EXPECT_NE(raw_events_[i].find(R"("object":"chat.completion.chunk")"), std::string::npos);
        EXPECT_EQ(raw_events_[i].find(R"("usage":null)") == std::string::npos, last) << raw_events_[i];
        api::append_chunk(whole, chunks[i]);
    }
    EXPECT_EQ(chunks[0].choices[0].role, "assistant");
    EXPECT_FALSE(chunks[1].choices[0].role);
    EXPECT_EQ(whole.choices[0].content, "caf\u00e9 \U0001F600!");
    EXPECT_EQ(whole.choices[0].finish_reason, "stop");
    EXPECT_EQ(whole.usage->completion_tokens, 11);
    for (const auto& chunk : stream("")) EXPECT_FALSE(chunk.usage);
    EXPECT_EQ(raw_events_[0].find("usage"), std::string::npos);
}

TEST_F(ServerTest, stops_at_strings_and_reports_logprobs_with_bytes) {
    start();
    const std::string fields = R"("stop":["END"],"logprobs":true,"top_logprobs":2)";
    const api::ChatResponse got = answer(chat(fields, "\u00e9 stop END here"));
    EXPECT_EQ(got.choices[0].content, "\u00e9 stop ");
    EXPECT_EQ(got.choices[0].finish_reason, "stop");
    ASSERT_TRUE(got.choices[0].logprobs);
    const auto& logprobs = *got.choices[0].logprobs;
    ASSERT_EQ(logprobs.size(), 8U);
    EXPECT_EQ(logprobs[0].bytes, (std::vector<std::uint8_t>{0xc3}));
    EXPECT_EQ(logprobs[0].token, "\uFFFD");
    EXPECT_EQ(logprobs[3].token, "s");
    EXPECT_FLOAT_EQ(static_cast<float>(logprobs[3].logprob), -0.5F);
    ASSERT_EQ(logprobs[3].top.size(), 2U);
    EXPECT_EQ(logprobs[3].top[1].token, "t");

    api::ChatResponse streamed;
    for (const auto& chunk : stream(fields, "\u00e9 stop END here")) api::append_chunk(streamed, chunk);
    EXPECT_EQ(streamed.choices[0].content, "\u00e9 stop ");
    ASSERT_TRUE(streamed.choices[0].logprobs);
    EXPECT_EQ(streamed.choices[0].logprobs->size(), 8U);
}

TEST_F(ServerTest, several_choices_have_seeds_of_their_own) {
    start();
    const api::ChatResponse got =
        answer(chat(R"("n":3,"seed":7,"temperature":0.5,"logit_bias":{"5":-100})", "abc"));
    ASSERT_EQ(got.choices.size(), 3U);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(got.choices[static_cast<std::size_t>(i)].index, i);
    EXPECT_EQ(got.usage->prompt_tokens, 10);  // counted once
    EXPECT_EQ(got.usage->completion_tokens, 9);
    ASSERT_EQ(engine_->requests.size(), 3U);
    for (std::uint64_t i = 0; i < 3; ++i) EXPECT_EQ(engine_->requests[i].sampling.seed, 7 + i);
    EXPECT_FLOAT_EQ(engine_->requests[0].sampling.temperature, 0.5F);
    EXPECT_EQ(engine_->requests[0].sampling.logit_bias,
              (std::vector<std::pair<std::int32_t, float>>{{5, -100.0F}}));
    api::ChatResponse streamed;
    for (const auto& chunk : stream(R"("n":3)", "abc")) api::append_chunk(streamed, chunk);
    ASSERT_EQ(streamed.choices.size(), 3U);
    for (const auto& choice : streamed.choices) EXPECT_EQ(choice.content, "abc");
}

TEST_F(ServerTest, reasoning_is_told_apart) {
    start({}, {}, true);
    const api::ChatResponse got = answer(chat("", "<think>hm</think>yes"));
    EXPECT_EQ(got.choices[0].reasoning_content, "hm");
    EXPECT_EQ(got.choices[0].content, "yes");
    EXPECT_GT(got.usage->reasoning_tokens, 0);
    api::ChatResponse streamed;
    for (const auto& chunk : stream("", "<think>hm</think>yes")) api::append_chunk(streamed, chunk);
    EXPECT_EQ(streamed.choices[0].reasoning_content, "hm");
    EXPECT_EQ(streamed.choices[0].content, "yes");
    EXPECT_FALSE(answer(chat("", "plain")).choices[0].reasoning_content);
}

constexpr std::string_view the_work =
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau";

std::shared_ptr<const ProtectedWorks> protect(std::size_t words, std::size_t characters = 0) {
    const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "retort_protected";
    std::filesystem::remove_all(folder);
    auto builder = screen::IndexBuilder::create({.output = folder});
    EXPECT_TRUE(builder && builder->add({"greek", "text", "0", std::string(the_work)}) && builder->commit());
    auto index = screen::Index::open(folder);
    EXPECT_TRUE(index) << index.error().message;
    return std::make_shared<const ProtectedWorks>(
        ProtectedWorks{std::make_shared<const screen::Index>(std::move(*index)), {words, characters}});
}

TEST_F(ServerTest, an_answer_about_to_repeat_a_work_is_cut) {
    ServerOptions options;
    options.protected_works = protect(10);
    start(std::move(options));
    const std::string say = "so: " + std::string(the_work) + " and so on";
    const std::string allowed = "so: alpha beta gamma delta epsilon zeta eta theta iota kappa ";
    const api::ChatResponse whole = answer(chat("", say));
    EXPECT_EQ(whole.choices[0].content, allowed);
    EXPECT_EQ(whole.choices[0].finish_reason, "content_filter");
    std::string streamed;
    std::string reason;
    std::size_t logprobs = 0;
    for (const api::ChatChunk& chunk : stream(R"("logprobs":true)", say)) {
        for (const api::ChunkChoice& choice : chunk.choices) {
            EXPECT_EQ(reason, "") << "something follows the end";
            streamed += choice.content.value_or("");
            if (choice.logprobs) logprobs += choice.logprobs->size();
            if (!choice.finish_reason.empty()) reason = choice.finish_reason;
        }
    }
    EXPECT_EQ(streamed, allowed);
    EXPECT_EQ(reason, "content_filter");
    EXPECT_LE(logprobs, allowed.size());  // a token is a byte: none of what was held back
    EXPECT_GE(logprobs, allowed.size() - 6);
    EXPECT_NE(get("/metrics").body.find("content_filter\"} 2"), std::string::npos) << get("/metrics").body;
    // What repeats nothing comes whole, with all its tokens.
    const api::ChatResponse free = answer(chat(R"("logprobs":true)", "kappa iota theta eta"));
    EXPECT_EQ(free.choices[0].content, "kappa iota theta eta");
    EXPECT_EQ(free.choices[0].finish_reason, "stop");
    EXPECT_EQ(free.choices[0].logprobs->size(), 20U);
}

TEST_F(ServerTest, a_passage_that_goes_on_from_the_reasoning_counts_whole) {
    ServerOptions options;
    options.protected_works = protect(10);
    start(std::move(options), {}, true);
    const api::ChatResponse got = answer(
        chat("", "<think>alpha beta gamma delta epsilon zeta</think>eta theta iota kappa lambda mu nu"));
    EXPECT_EQ(got.choices[0].reasoning_content.value_or(""), "alpha beta gamma delta epsilon zeta");
    EXPECT_EQ(got.choices[0].content, "eta theta iota kappa ");
    EXPECT_EQ(got.choices[0].finish_reason, "content_filter");
}

TEST_F(ServerTest, a_tool_call_that_repeats_a_work_does_not_leave) {
    ServerOptions options;
    options.protected_works = protect(10);
    start(std::move(options), {}, false, ToolStyle::hermes);
    const auto call = [&](std::string_view text) {
        return R"(look <tool_call>{\"name\":\"say\",\"arguments\":{\"text\":\")" + std::string(text) +
               R"(\"}}</tool_call>)";
    };
    const std::string tools = R"("tools":[{"type":"function","function":{"name":"say"}}])";
    const http::ClientResponse cut = chat(tools, call(the_work));
    EXPECT_EQ(cut.body.find("alpha"), std::string::npos) << cut.body;
    EXPECT_NE(cut.body.find("content_filter"), std::string::npos) << cut.body;
    const http::ClientResponse free = chat(tools, call("kappa iota theta"));
    EXPECT_NE(free.body.find("kappa"), std::string::npos) << free.body;
    EXPECT_NE(free.body.find("\"tool_calls\""), std::string::npos) << free.body;
}

TEST_F(ServerTest, errors_have_the_contract_s_status_code_and_param) {
    ServerOptions options;
    start(options, {std::chrono::microseconds(0), 50});
    expect_error(chat(R"("temperature":"hot")"), 400, "invalid_value", "temperature");
    expect_error(chat(R"("temperature":3)"), 400, "invalid_value", "temperature");
    expect_error(chat(R"("tools":[{"type":"function","function":{"name":"f"}}])"), 400,
                 "unsupported_parameter", "tools");
    expect_error(chat(R"("response_format":{"type":"xml"})"), 400, "invalid_value", "response_format.type");
    expect_error(chat(R"("logit_bias":{"99999":1})"), 400, "invalid_value", "logit_bias");
    expect_error(chat("", std::string(60, 'x')), 400, "context_length_exceeded", "messages");
    expect_error(post("/v1/chat/completions", "{"), 400, "invalid_value");
    expect_error(
        post("/v1/chat/completions", R"({"model":"other","messages":[{"role":"user","content":"x"}]})"), 404,
        "model_not_found", "model");
    expect_error(post("/v1/chat/completions",
                      R"({"model":"org/fake","messages":[{"role":"assistant","content":"x"}]})"),
                 400, "invalid_value", "messages");
    expect_error(get("/v1/nothing"), 404, "");
    expect_error(get("/v1/chat/completions"), 405, "");
    EXPECT_EQ(get("/v1/chat/completions").headers.get("allow"), "POST, OPTIONS");
    engine_->fail_submit = true;
    expect_error(chat(""), 400, "invalid_value", "messages");
    engine_->fail_submit = false;
    engine_->waiting = 1000;
    const http::ClientResponse busy = chat("");
    expect_error(busy, 503, "unavailable");
    EXPECT_FALSE(busy.headers.get("retry-after").empty());
    engine_->waiting = 0;
    engine_->fail_generation = true;
    expect_error(chat(""), 500, "");
    engine_->fail_generation = false;
    EXPECT_EQ(chat("").status, 200);
}

TEST_F(ServerTest, models_health_and_metrics) {
    start();
    const auto models = api::parse_models(get("/v1/models").body);
    ASSERT_TRUE(models);
    ASSERT_EQ(models->size(), 1U);
    EXPECT_EQ((*models)[0].id, "org/fake");
    EXPECT_EQ((*models)[0].max_model_len, 1000);
    EXPECT_EQ(get("/v1/models/org/fake").status, 200);
    EXPECT_EQ(get("/v1/models/org%2Ffake").status, 200);
    expect_error(get("/v1/models/other"), 404, "model_not_found", "model");
    EXPECT_EQ(get("/health").status, 200);
    (void)chat("");
    const std::string metrics = get("/metrics").body;
    for (const char* line :
         {"retort:num_requests_running ", "retort:num_requests_waiting ", "retort:kv_cache_usage_perc ",
          "retort:prefix_cache_hits_total ", "retort:prompt_tokens_total ", "retort:generation_tokens_total ",
          "retort:request_success_total{finished_reason=\"stop\"} 1\n",
          "retort:time_to_first_token_seconds_count 1\n", "retort:inter_token_latency_seconds_count 4\n",
          "retort:e2e_request_latency_seconds_bucket{le=\"+Inf\"} 1\n",
          "retort:request_queue_time_seconds_count 1\n"}) {
        EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics;
    }
    const auto head = client_.send(request("HEAD", "/health"));
    ASSERT_TRUE(head) << head.error().message;
    EXPECT_EQ(head->status, 200);
    EXPECT_TRUE(head->body.empty());
    const auto options = client_.send(request("OPTIONS", "/v1/chat/completions"));
    EXPECT_EQ(options->status, 204);
    EXPECT_EQ(options->headers.get("allow"), "POST, OPTIONS");
    EXPECT_FALSE(options->headers.find("access-control-allow-origin"));
}

TEST_F(ServerTest, without_a_model_it_is_not_healthy) {
    auto server = Server::create({});
    ASSERT_TRUE(server);
    server_ = std::move(*server);
    EXPECT_EQ(get("/health").status, 503);
    expect_error(get("/v1/models"), 503, "unavailable");
    expect_error(chat(""), 503, "unavailable");
    EXPECT_EQ(get("/metrics").status, 200);
    engine_ = std::make_unique<FakeEngine>(echo_words, FakeEngine::Options{});
    server_->set_model({engine_.get(), test::byte_tokenizer(), render_last, {test::end_token}});
    EXPECT_EQ(get("/health").status, 200);
    server_.reset();
}

TEST_F(ServerTest, keys_open_everything_but_health) {
    ServerOptions options;
    options.api_keys = {"first-key", "second-key"};
    start(options);
    EXPECT_EQ(get("/health").status, 200);
    for (const char* path : {"/v1/models", "/metrics", "/v1/models/org/fake"}) {
        expect_error(get(path), 401, "invalid_api_key");
    }
    expect_error(chat(""), 401, "invalid_api_key");
    const auto with = [&](const char* name, const char* value) {
        http::ClientRequest asked = request("GET", "/v1/models");
        asked.headers.add(name, value);
        return client_.send(asked)->status;
    };
    EXPECT_EQ(with("Authorization", "Bearer first-key"), 200);
    EXPECT_EQ(with("Authorization", "bearer second-key"), 200);
    EXPECT_EQ(with("X-Api-Key", "second-key"), 200);
    EXPECT_EQ(with("Authorization", "Bearer second-ke"), 401);
    EXPECT_EQ(with("Authorization", "Bearer "), 401);
    EXPECT_EQ(with("Authorization", "first-key"), 401);
    EXPECT_EQ(with("X-Api-Key", ""), 401);
}

TEST_F(ServerTest, an_id_of_the_client_is_kept) {
    start();
    http::ClientRequest asked = request("GET", "/v1/models");
    asked.headers.add("X-Request-Id", "mine-1");
    EXPECT_EQ(client_.send(asked)->headers.get("x-request-id"), "mine-1");
    EXPECT_TRUE(get("/v1/models").headers.get("x-request-id").starts_with("req_"));
}

TEST_F(ServerTest, completes_texts_and_token_ids) {
    start();
    const http::ClientResponse one =
        post("/v1/completions", R"({"model":"org/fake","prompt":"x\nsay","max_tokens":10})");
    EXPECT_EQ(one.status, 200) << one.body;
    EXPECT_NE(one.body.find(R"("object":"text_completion")"), std::string::npos);
    EXPECT_NE(one.body.find(R"("text":"say")"), std::string::npos) << one.body;
    const http::ClientResponse two =
        post("/v1/completions", R"({"model":"org/fake","prompt":[[10,65],[10,66]],"n":2,"logprobs":1})");
    EXPECT_NE(two.body.find(R"("index":3,"text":"B")"), std::string::npos) << two.body;
    EXPECT_NE(two.body.find(R"("tokens":["B"])"), std::string::npos) << two.body;
    EXPECT_NE(two.body.find(R"("prompt_tokens":4)"), std::string::npos) << two.body;
    expect_error(post("/v1/completions", R"({"model":"org/fake","prompt":[1,70000]})"), 400, "invalid_value",
                 "prompt");
}

TEST_F(ServerTest, a_client_that_goes_frees_its_slot) {
    start({}, {std::chrono::milliseconds(5), 100'000});
    for (const bool streamed : {true, false}) {
        std::atomic<bool> stop{false};
        http::ClientRequest asked =
            request("POST", "/v1/chat/completions",
                    chat_body(streamed ? R"("stream":true,"n":2)" : R"("n":2)", std::string(10'000, 'x')));
        asked.cancelled = [&] { return stop.load(); };
        std::thread watcher([&] {
            eventually([&] { return engine_->running() > 0; });
            stop = true;
        });
        const auto gone = client_.send(asked);
        watcher.join();
        ASSERT_FALSE(gone);
        EXPECT_EQ(gone.error().code, ErrorCode::cancelled);
        EXPECT_TRUE(eventually([&] { return engine_->running() == 0; })) << "the engine goes on for nobody";
    }
    EXPECT_TRUE(eventually(
        [&] { return get("/metrics").body.find("finished_reason=\"abort\"} 2\n") != std::string::npos; }));
    EXPECT_EQ(answer(chat("", "still here")).choices[0].content, "still here");
}

TEST_F(ServerTest, a_client_that_goes_before_the_first_token_frees_its_slot) {
    start({}, {std::chrono::minutes(1), 1000});
    std::atomic<bool> stop{false};
    http::ClientRequest asked = request("POST", "/v1/chat/completions", chat_body(""));
    asked.cancelled = [&] { return stop.load(); };
    std::thread watcher([&] {
        eventually([&] { return engine_->running() > 0; });
        stop = true;
    });
    EXPECT_FALSE(client_.send(asked));
    watcher.join();
    EXPECT_TRUE(eventually([&] { return engine_->running() == 0; })) << "the engine waits for nobody";
}

TEST_F(ServerTest, a_stopping_server_lets_answers_end) {
    start({}, {std::chrono::milliseconds(10), 1000});
    Result<http::ClientResponse> response;
    std::thread asking([&] {
        http::Client client;
        response = client.send(request("POST", "/v1/chat/completions", chat_body("", std::string(30, 'x'))));
    });
    ASSERT_TRUE(eventually([&] { return engine_->running() > 0; }));
    server_->stop();
    server_->join();
    asking.join();
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(answer(*response).choices[0].content, std::string(30, 'x'));
    http::Client client;
    EXPECT_FALSE(client.send(request("GET", "/health")));
}

TEST_F(ServerTest, a_server_that_cannot_wait_cuts_answers_off) {
    ServerOptions options;
    options.drain_seconds = 0.1;
    start(options, {std::chrono::milliseconds(10), 100'000});
    Result<http::ClientResponse> response;
    std::thread asking([&] {
        http::Client client;
        response =
            client.send(request("POST", "/v1/chat/completions", chat_body("", std::string(10'000, 'x'))));
    });
    ASSERT_TRUE(eventually([&] { return engine_->running() > 0; }));
    base::set_interrupted(true);
    server_->join();
    base::set_interrupted(false);
    asking.join();
    EXPECT_FALSE(response);
    // The cancelled request leaves the engine on its own thread, a moment after the answer was cut.
    for (int wait = 0; wait < 500 && engine_->running() > 0; ++wait) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_EQ(engine_->running(), 0U);
}

TEST_F(ServerTest, a_storm_of_clients) {
    start({}, {std::chrono::microseconds(20), 1000});
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 16; ++t) {
        threads.emplace_back([&, t] {
            http::Client client;
            for (int i = 0; i < 10; ++i) {
                const std::string say = "thread " + std::to_string(t) + " call " + std::to_string(i);
                const auto response =
                    client.send(request("POST", "/v1/chat/completions", chat_body("", say)));
                if (response && response->status == 200 &&
                    api::parse_chat_response(response->body)->choices[0].content == say) {
                    ++right;
                }
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(right, 160);
}

TEST(Server, a_port_in_use_is_an_error_that_names_it) {
    auto first = Server::create({});
    ASSERT_TRUE(first);
    ServerOptions options;
    options.port = (*first)->port();
    const auto second = Server::create(options);
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().message.find(std::to_string(options.port)), std::string::npos)
        << second.error().message;
    options.host = "no-such-host.invalid";
    EXPECT_FALSE(Server::create(options));
}

}  // namespace
}  // namespace retort::serve
