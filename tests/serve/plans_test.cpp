// What a plan's limits, its terms and its word on reasoning mean to a client.
#include <gtest/gtest.h>

#include "accounts_fixture.h"
#include "base/clock.h"

namespace retort::serve {
namespace {

TEST_F(AccountsTest, TokensPerMinuteRefuseAndTellWhatIsLeft) {
    const std::string key = make_key(R"({"limits":{"tokens_per_minute":100}})");
    start();
    const auto first = chat(key, R"("max_tokens":10)");
    EXPECT_EQ(first.status, 200);
    EXPECT_EQ(first.headers.get("x-ratelimit-limit-tokens"), "100");
    // Reserved: ten for the answer, and a third of the body's bytes.
    const std::string body =
        R"({"model":"fake","messages":[{"role":"user","content":"hello"}],"max_tokens":10})";
    const auto reserved = 10 + static_cast<std::int64_t>(body.size()) / 3 + 1;
    EXPECT_EQ(first.headers.get("x-ratelimit-remaining-tokens"), std::to_string(100 - reserved));
    EXPECT_EQ(first.headers.get("x-ratelimit-limit-requests"), "");
    EXPECT_TRUE(eventually([&] { return used(store::Unit::tokens) == 11; }));
    const auto refused = chat(key, R"("max_tokens":70)");
    expect_refusal(refused, 429, "rate_limit_exceeded");
    const std::string left = std::to_string(60 - clock_ % 60);
    EXPECT_EQ(refused.headers.get("Retry-After"), left);
    EXPECT_EQ(refused.headers.get("x-ratelimit-reset-tokens"), left + "s");
    EXPECT_EQ(refused.headers.get("x-ratelimit-remaining-tokens"), "89");
    EXPECT_EQ(refused.headers.get("x-should-retry"), "");
}

TEST_F(AccountsTest, AResetIsToldInHoursMinutesAndSeconds) {
    clock_ = 1'700'006'400 - 360;  // midnight is six minutes away
    const std::string key = make_key(R"({"limits":{"tokens_per_day":1000}})");
    start();
    EXPECT_EQ(chat(key).headers.get("x-ratelimit-reset-tokens"), "6m0s");
    clock_ -= 7205;
    EXPECT_EQ(chat(key).headers.get("x-ratelimit-reset-tokens"), "2h6m5s");
}

TEST_F(AccountsTest, AMonthsMoneyRefuses) {
    // A dollar a token, and 40 of them.
    const std::string key = make_key(
        R"({"prompt_price":1000000000000,"completion_price":1000000000000,"limits":{"money_per_month":40000000}})");
    start();
    EXPECT_EQ(chat(key, R"("max_tokens":10)").status, 200);
    EXPECT_TRUE(eventually([&] { return used(store::Unit::money, 2) == 11'000'000; }));
    const auto refused = chat(key, R"("max_tokens":10)");
    expect_refusal(refused, 429, "insufficient_quota");
    EXPECT_EQ(refused.headers.get("x-should-retry"), "false");
    EXPECT_FALSE(refused.headers.get("Retry-After").empty());
    EXPECT_FALSE(refused.headers.get("retry-after-ms").empty());
    EXPECT_NE(refused.body.find("$40.000000 per month"), std::string::npos) << refused.body;
}

TEST_F(AccountsTest, AnAdminsKeyReadsBeforeTermsAreAccepted) {
    const std::string key = make_key("{}", "admin");
    start();
    EXPECT_EQ(chat(key).status, 200);
    ASSERT_TRUE(accounts_->publish_terms("v1", "text"));
    EXPECT_TRUE(eventually([&] { return chat(key).status == 403; }));
    expect_refusal(chat(key), 403, "terms_not_accepted");
    EXPECT_EQ(send("GET", "/metrics", key).status, 200);
    EXPECT_EQ(
        send("POST", "/admin/accounts/" + account_ + "/accept", key, R"({"version":"v1","by":"me"})").status,
        200);
    EXPECT_EQ(chat(key).status, 200);
}

TEST_F(AccountsTest, ARotatedKeyEndsWithItsGrace) {
    const std::string key = make_key();
    start();
    const auto later = accounts_->rotate_key(key_id_, 3600);
    ASSERT_TRUE(later);
    EXPECT_TRUE(eventually([&] { return chat(later->text).status == 200; }));
    EXPECT_EQ(chat(key).status, 200);
    const auto now = accounts_->rotate_key(later->id, 0);
    ASSERT_TRUE(now);
    EXPECT_TRUE(eventually([&] { return chat(later->text).status == 401; }));
    EXPECT_EQ(chat(now->text).status, 200);
}

// Where a sender writes the prompt himself, the model's reasoning would stand in the plain text.
TEST_F(AccountsTest, CompletionsShowNoReasoningThatThePlanHides) {
    const std::string full = make_key(R"({"reasoning":"full","logprobs":true})");
    start({}, true);
    const auto complete = [&](const std::string& key, const std::string& prompt,
                              const std::string& fields = "") {
        return send("POST", "/v1/completions", key,
                    R"({"model":"fake","max_tokens":50,"prompt":)" + prompt + fields + "}");
    };
    const std::string asked = R"("x\n<think>A plan.</think>yes")";
    EXPECT_NE(complete(full, asked).body.find("A plan."), std::string::npos);
    for (const char* reasoning : {"summarised", "withheld"}) {
        // One plan: the account is on it.
        auto plan = *store::plan_from_json(Json::parse(R"({"logprobs":true})"), store::Plan{});
        plan.name = "plan";
        plan.reasoning = reasoning;
        ASSERT_TRUE(accounts_->set_plan(plan));
        ASSERT_TRUE(
            eventually([&] { return complete(full, asked).body.find("A plan.") == std::string::npos; }));
        const auto whole = complete(full, asked, R"(,"logprobs":1)");
        EXPECT_NE(whole.body.find(R"("text":"yes")"), std::string::npos) << whole.body;
        EXPECT_EQ(whole.body.find("\"A\""), std::string::npos) << whole.body;
        EXPECT_EQ(whole.body.find(R"("reasoning_tokens":0)"), std::string::npos) << whole.body;
        const auto streamed = complete(full, asked, R"(,"stream":true)");
        EXPECT_EQ(streamed.body.find("plan"), std::string::npos) << streamed.body;
        // Begun in the prompt, as text and as tokens.
        for (const char* begun : {R"("<think>\nIt is.")", R"([257,72,109,10,73,116,32,105,115,46])"}) {
            const auto answered = complete(full, begun);
            EXPECT_NE(answered.body.find(R"("text":"")"), std::string::npos) << answered.body;
            EXPECT_EQ(answered.body.find("It is."), std::string::npos) << answered.body;
        }
        EXPECT_NE(complete(full, R"("<think>a</think>\nIt is.")").body.find("It is."), std::string::npos);
    }
}

TEST_F(AccountsTest, EmbeddingsThatAreLeftCountWhatIsDone) {
    const std::string key = make_key();
    start({std::chrono::milliseconds(150)});
    http::ClientRequest request;
    request.method = "POST";
    request.url = "http://127.0.0.1:" + std::to_string(server_->port()) + "/v1/embeddings";
    request.headers.add("Authorization", "Bearer " + key);
    request.body = R"({"model":"fake","input":["abc","de","f","g","h","i"]})";
    const double start = base::monotonic_seconds();
    request.cancelled = [&] { return base::monotonic_seconds() - start > 0.4; };
    EXPECT_FALSE(client_.send(request));
    EXPECT_TRUE(eventually([&] { return !events().empty(); }));
    ASSERT_FALSE(events().empty());
    EXPECT_EQ(events()[0].end, "aborted");
    EXPECT_GE(events()[0].prompt_tokens, 3);
    EXPECT_LT(events()[0].prompt_tokens, 9);
    EXPECT_TRUE(eventually([&] { return used(store::Unit::tokens) == events()[0].prompt_tokens; }));
}

TEST_F(AccountsTest, WhatPaysIsForgottenWithItsTime) {
    const std::string key = make_key();
    ASSERT_TRUE(accounts_->set_payment(account_, "customer 4711"));
    options_.directory.identity_retention_seconds = 3600;
    const auto seen = [&] {
        const auto rows = database_->query("SELECT last_seen FROM identities WHERE kind = 'payment'", {});
        return rows->empty() ? 0 : rows->at(0).integer(0);
    };
    const std::int64_t said = seen() - 1000;
    ASSERT_TRUE(database_->execute("UPDATE identities SET last_seen = $1", {said}));
    start();
    EXPECT_EQ(chat(key).status, 200);
    EXPECT_TRUE(eventually([&] { return seen() > said; })) << "use does not count as seen";
    server_.reset();
    EXPECT_NE(accounts_->accounts()->at(0).payment, "");
    ASSERT_TRUE(database_->execute("UPDATE identities SET last_seen = 5", {}));
    start();
    EXPECT_TRUE(eventually([&] { return accounts_->accounts()->at(0).payment.empty(); }));
    EXPECT_EQ(seen(), 0);
}

}  // namespace
}  // namespace retort::serve
