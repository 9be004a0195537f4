// The pieces that need no network: terms, pressure on an endpoint, budget, reading of responses.
#include <gtest/gtest.h>

#include "base/clock.h"
#include "collect/ask.h"
#include "collect/budget.h"
#include "collect/endpoint.h"
#include "collect/terms.h"
#include "data/spdx.h"

namespace retort::collect {
namespace {

constexpr std::string_view good_terms = R"(
permitted_by = "the licensor"
licence = "Apache-2.0"
allows_training_on_outputs = true
scope = "answers of teacher-1"
date = 2026-01-31
models = ["Teacher-*"]
)";

std::string with(std::string_view from, std::string_view to) {
    std::string text(good_terms);
    text.replace(text.find(from), from.size(), to);
    return text;
}

TEST(Terms, a_file_is_read_and_hashed) {
    const auto terms = parse_terms(good_terms, "t.toml");
    ASSERT_TRUE(terms) << terms.error().message;
    EXPECT_EQ(terms->id, "Apache-2.0@2026-01-31");
    EXPECT_EQ(terms->date, "2026-01-31");
    EXPECT_EQ(terms->sha256.size(), 64U);
    EXPECT_TRUE(check_terms(*terms, "127.0.0.1", "teacher-1"));
    const auto json = parse_terms(
        R"({"permitted_by":"x","statement":"You may.","allows_training_on_outputs":true,"scope":"all","date":"2026-01-31"})",
        "t.json");
    ASSERT_TRUE(json) << json.error().message;
    EXPECT_EQ(json->extension, ".json");
}

TEST(Terms, faults_are_named) {
    const auto message = [](const std::string& text) {
        const auto terms = parse_terms(text, "t.toml");
        return terms ? std::string() : terms.error().message;
    };
    EXPECT_NE(message(with("2026-01-31", "\"yesterday\"")).find("YYYY-MM-DD"), std::string::npos);
    EXPECT_NE(message(with("licence = \"Apache-2.0\"", "")).find("licence"), std::string::npos);
    EXPECT_NE(message(with("Apache-2.0", "do what you like!")).find("SPDX"), std::string::npos);
    EXPECT_NE(message(with("permitted_by", "permited_by")).find("permited_by"), std::string::npos);
    EXPECT_NE(message(with("scope = \"answers of teacher-1\"", "")).find("scope"), std::string::npos);
    EXPECT_NE(message("x = [").find("t.toml:1"), std::string::npos);
}

TEST(Terms, the_gate) {
    const auto none = check_terms(std::nullopt, "127.0.0.1", "unheard-of");
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, ErrorCode::refused);
    for (const char* what : {"permitted_by", "licence", "statement", "allows_training_on_outputs = true",
                             "scope", "date", "--terms", "ask whoever offers it"}) {
        EXPECT_NE(none.error().message.find(what), std::string::npos) << what;
    }
    EXPECT_NE(
        check_terms(std::nullopt, "localhost", "SmolLM2-135M-Instruct").error().message.find("Apache-2.0"),
        std::string::npos);

    const auto terms = parse_terms(with("true", "false"), "t");
    ASSERT_TRUE(terms);
    EXPECT_EQ(check_terms(*terms, "localhost", "teacher-1").error().code, ErrorCode::refused);
    const auto other = parse_terms(good_terms, "t");
    EXPECT_EQ(check_terms(*other, "localhost", "professor").error().code, ErrorCode::refused);

    // A licence of the user's own does not override what a provider publishes; the provider's words do.
    const auto any = parse_terms(with("models = [\"Teacher-*\"]", ""), "t");
    EXPECT_EQ(check_terms(*any, "api.openai.com", "gpt-x").error().code, ErrorCode::refused);
    EXPECT_EQ(check_terms(*any, "eu.openai.azure.com", "gpt-x").error().code, ErrorCode::refused);
    EXPECT_EQ(check_terms(*any, "localhost", "meta-llama/Meta-Llama-3-8B-Instruct").error().code,
              ErrorCode::refused);
    EXPECT_TRUE(check_terms(*any, "localhost", "meta-llama/Llama-3.1-8B-Instruct"));
    const auto letter =
        parse_terms(with("licence = \"Apache-2.0\"\n", "statement = \"Yes, you may.\"\n"), "t");
    ASSERT_TRUE(letter);
    EXPECT_TRUE(check_terms(*letter, "localhost", "teacher-2"));
}

TEST(Terms, the_shipped_table_is_sound) {
    EXPECT_GE(known_terms().size(), 4U);
    for (const KnownTerms& known : known_terms()) {
        EXPECT_TRUE(known.source.starts_with("https://")) << known.name;
        EXPECT_FALSE(known.hosts.empty() && known.models.empty()) << known.name;
        EXPECT_FALSE(known.note.empty()) << known.name;
        EXPECT_NE(standing_of(known).find("checked"), std::string::npos) << known.name;
        // What it says of a licence is what the licence's own table says, and that must know it.
        if (known.licence.empty()) continue;
        const auto expression = data::parse_spdx(known.licence);
        ASSERT_TRUE(expression) << known.name;
        EXPECT_EQ(data::licence_objection(*expression, data::Use::train), "") << known.name;
    }
    EXPECT_EQ(known_host("api.deepseek.com")->training, "allowed");
    EXPECT_EQ(known_model("deepseek-ai/DeepSeek-V3")->licence, "LicenseRef-DeepSeek");
    EXPECT_EQ(known_model("deepseek-ai/DeepSeek-V3-0324"), nullptr) << "of another licence";
    EXPECT_EQ(known_model("deepseek-ai/DeepSeek-R1-Distill-Llama-8B")->training, "conditional");
    EXPECT_EQ(known_model("Qwen/Qwen2.5-3B-Instruct")->training, "conditional");
    EXPECT_NE(data::licence_objection(*data::parse_spdx("LicenseRef-Qwen-Research"), data::Use::commercial),
              "");
    EXPECT_EQ(known_host("api.openai.com.evil.example"), nullptr);
    EXPECT_TRUE(matches_wildcard("a*b*c", "aXXbYYc"));
    EXPECT_FALSE(matches_wildcard("a*b*c", "aXXbYY"));
    EXPECT_TRUE(matches_wildcard("*", ""));
}

TEST(Endpoint, grows_by_one_a_round_and_is_halved_once_a_round) {
    EndpointHealth health({.initial_concurrency = 4, .max_concurrency = 6}, 1);
    double now = 0;
    const auto fill = [&] {
        int started = 0;
        while (health.may_start(now)) {
            health.started();
            ++started;
        }
        return started;
    };
    EXPECT_EQ(fill(), 4);
    for (int i = 0; i < 4; ++i) health.succeeded(now);
    EXPECT_EQ(health.concurrency(), 5);
    for (int round = 0; round < 10; ++round) {
        const int started = fill();
        for (int i = 0; i < started; ++i) health.succeeded(now);
    }
    EXPECT_EQ(health.concurrency(), 6);
    now = 10;
    EXPECT_EQ(fill(), 6);
    now = 11;
    for (int i = 0; i < 6; ++i) health.overloaded(now + 0.01 * i, 10, 2.0);
    EXPECT_EQ(health.concurrency(), 3);
    EXPECT_EQ(health.in_flight(), 0);
    EXPECT_FALSE(health.may_start(12.9));  // Retry-After is a floor
    EXPECT_GE(health.ready_at(), 13.05);
    EXPECT_LE(health.ready_at(), 13.05 + 0.2);
    EXPECT_TRUE(health.may_start(14));
    EXPECT_EQ(health.failures_in_a_row(), 0);  // overload is a sign of life
}

TEST(Endpoint, breaker_leaves_one_probe) {
    EndpointHealth health({.initial_concurrency = 8, .max_concurrency = 8, .breaker_failures = 3}, 2);
    double now = 0;
    for (int round = 0; round < 3; ++round) {
        now = health.ready_at() + 0.001;
        health.started();
        health.started();
        health.failed(now + 0.1, now, -1);
        health.failed(now + 0.2, now, -1);  // of the same round: counts once
        EXPECT_EQ(health.failures_in_a_row(), round + 1);
    }
    EXPECT_TRUE(health.breaker_open());
    now = health.ready_at() + 0.001;
    ASSERT_TRUE(health.may_start(now));
    health.started();
    EXPECT_FALSE(health.may_start(now));
    health.succeeded(now);
    EXPECT_FALSE(health.breaker_open());
}

TEST(Endpoint, jitter_is_full_and_capped) {
    base::RandomStream random(3);
    double sum = 0;
    for (int i = 0; i < 4000; ++i) {
        const double wait = full_jitter(random, 2, 0.5, 30);
        EXPECT_GE(wait, 0);
        EXPECT_LT(wait, 2);
        sum += wait;
        EXPECT_LT(full_jitter(random, 100, 0.5, 30), 30);
    }
    // Mean of uniform [0, 2): 1, standard error 0.577 / sqrt(4000) = 0.009; five of them.
    EXPECT_NEAR(sum / 4000, 1, 0.046);
}

TEST(Budget, never_passes_a_limit_even_at_worst) {
    BudgetMeter meter({.max_tokens = 1000, .max_cost = 1, .prompt_price = 10, .completion_price = 1000}, {});
    int flying = 0;
    while (meter.reserve({100, 200})) ++flying;
    EXPECT_EQ(flying, 3);  // 4 · 300 > 1000
    for (int i = 0; i < flying; ++i) meter.settle({100, 200}, {50, 20});
    EXPECT_EQ(meter.spent().prompt_tokens, 150);
    EXPECT_EQ(meter.spent().completion_tokens, 60);
    EXPECT_NEAR(meter.spent().cost, (150 * 10 + 60 * 1000) / 1e6, 1e-12);
    EXPECT_EQ(meter.spent().requests, 3);
    EXPECT_FALSE(meter.stopped_by({100, 200}));
    EXPECT_NE(meter.stopped_by({100, 691})->find("tokens"), std::string::npos);
    // 940 completion tokens at 1000 a million cost 0.94, and 0.06 is spent.
    BudgetMeter money({.max_cost = 1, .completion_price = 1000}, {.cost = 0.06});
    EXPECT_TRUE(money.reserve({0, 939}));
    EXPECT_FALSE(money.reserve({0, 2}));
    EXPECT_NE(money.stopped_by({0, 941})->find("spent"), std::string::npos);
    BudgetMeter requests({.max_requests = 2}, {.requests = 1});
    EXPECT_TRUE(requests.reserve({}));
    EXPECT_FALSE(requests.reserve({}));
}

TEST(Budget, what_a_run_will_have_spent_is_told_as_it_goes) {
    const Spent before{.requests = 10, .prompt_tokens = 100, .completion_tokens = 1000, .cost = 1};
    const Spent now{.requests = 14, .prompt_tokens = 140, .completion_tokens = 1200, .cost = 1.5};
    EXPECT_FALSE(spent_in_the_end(before, now, 0, 8));
    // 4 answers took 4 requests, 40 and 200 tokens and 0.5; 8 more take twice that.
    const auto end = spent_in_the_end(before, now, 4, 8);
    ASSERT_TRUE(end);
    EXPECT_EQ(end->requests, 22);
    EXPECT_EQ(end->prompt_tokens, 220);
    EXPECT_EQ(end->completion_tokens, 1600);
    EXPECT_NEAR(end->cost, 2.5, 1e-12);
    EXPECT_NEAR(spent_in_the_end(before, now, 4, 0)->cost, 1.5, 1e-12);
}

http::ClientResponse response(int status, std::string body, http::Headers headers = {}) {
    http::ClientResponse out;
    out.status = status;
    out.body = std::move(body);
    out.headers = std::move(headers);
    return out;
}

data::RequestShape shape() {
    data::RequestShape request;
    request.messages = {{.role = "user", .content = "hi"}};
    request.model = "m";
    request.max_tokens = 9;
    return request;
}

TEST(Ask, body_holds_what_shapes_the_answer) {
    data::RequestShape request = shape();
    request.parameters = {{"temperature", 0.5}, {"seed", 10}};
    request.sample = 3;
    const auto body = formats::parse_json(request_body(request, {}), "body");
    ASSERT_TRUE(body);
    EXPECT_EQ((*body)["max_tokens"], 9);
    EXPECT_EQ((*body)["seed"], 13);
    EXPECT_EQ((*body)["temperature"], 0.5);
    EXPECT_EQ((*body)["messages"][0]["content"], "hi");
    EXPECT_FALSE(body->contains("stream"));
    EXPECT_NE(
        request_body(request, {.max_tokens_field = "max_completion_tokens"}).find("max_completion_tokens"),
        std::string::npos);
}

TEST(Ask, an_answer_is_read_whole) {
    const Outcome outcome = read_response(
        response(
            200,
            R"({"id":"c1","model":"m-2","system_fingerprint":"fp","choices":[{"index":0,"finish_reason":"stop",
            "message":{"role":"assistant","content":"Yes.","reasoning":"Hm"},
            "logprobs":{"content":[{"token":"Y","logprob":-0.1,"bytes":[89],"top_logprobs":[{"token":"N","logprob":-3,"bytes":[78]}]}]}}],
            "usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"completion_tokens_details":{"reasoning_tokens":1}}})",
            {{"x-request-id", "r9"}}),
        shape());
    ASSERT_EQ(outcome.kind, OutcomeKind::answered) << outcome.reason;
    EXPECT_EQ(outcome.record.content, "Yes.");
    EXPECT_EQ(outcome.record.reasoning, "Hm");
    EXPECT_EQ(outcome.record.request_id, "r9");
    EXPECT_EQ(outcome.record.system_fingerprint, "fp");
    EXPECT_EQ(outcome.record.usage, (data::Usage{5, 2, 1}));
    EXPECT_EQ(outcome.record.logprobs[0]["top_logprobs"][0]["bytes"][0], 78);
    EXPECT_TRUE(data::check_seal(outcome.record));
}

TEST(Ask, statuses_mean_what_clients_take_them_for) {
    const auto kind = [](int status, std::string body = "{}", http::Headers headers = {}) {
        return read_response(response(status, std::move(body), std::move(headers)), shape()).kind;
    };
    const auto error = [](std::string_view code) {
        return fmt::format(R"({{"error":{{"message":"no","type":"t","param":null,"code":"{}"}}}})", code);
    };
    EXPECT_EQ(kind(200, "{"), OutcomeKind::failed);
    EXPECT_EQ(kind(200, R"({"choices":[]})"), OutcomeKind::failed);
    EXPECT_EQ(kind(400), OutcomeKind::rejected);
    EXPECT_EQ(kind(400, error("context_length_exceeded")), OutcomeKind::too_long);
    EXPECT_EQ(kind(400, R"({"error":{"message":"the request exceeds the available context size"}})"),
              OutcomeKind::too_long);
    EXPECT_EQ(kind(401), OutcomeKind::fatal);
    EXPECT_EQ(kind(404), OutcomeKind::fatal);
    EXPECT_EQ(kind(408), OutcomeKind::failed);
    EXPECT_EQ(kind(413), OutcomeKind::rejected);
    EXPECT_EQ(kind(429), OutcomeKind::overloaded);
    EXPECT_EQ(kind(429, error("insufficient_quota")), OutcomeKind::fatal);
    EXPECT_EQ(kind(429, "{}", {{"x-should-retry", "false"}}), OutcomeKind::fatal);
    EXPECT_EQ(kind(500), OutcomeKind::failed);
    EXPECT_EQ(kind(502, "<html>"), OutcomeKind::failed);
    EXPECT_EQ(kind(503), OutcomeKind::overloaded);
}

TEST(Ask, retry_after_in_all_its_forms) {
    EXPECT_EQ(retry_after_seconds({{"Retry-After", "7"}, {"retry-after-ms", "250"}}), 0.25);
    EXPECT_EQ(retry_after_seconds({{"Retry-After", "7"}, {"retry-after-ms", "soon"}}), 7);
    EXPECT_EQ(retry_after_seconds({{"Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"}}), 0);
    EXPECT_LT(retry_after_seconds({{"Retry-After", "later"}}), 0);
    EXPECT_LT(retry_after_seconds({{"Retry-After", "-3"}}), 0);
    EXPECT_LT(retry_after_seconds({}), 0);
}

}  // namespace
}  // namespace retort::collect
