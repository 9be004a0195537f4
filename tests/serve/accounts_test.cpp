// The server with accounts, in process: what keys, terms, plans and limits let through, and what is counted.
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "accounts_fixture.h"
#include "serve/reasoning_filter.h"
#include "serve/request_facts.h"

namespace retort::serve {
namespace {

TEST_F(AccountsTest, EveryRouteButHealthNeedsAKey) {
    const std::string key = make_key();
    start();
    EXPECT_EQ(send("GET", "/health", "").status, 200);
    for (const char* path : {"/v1/models", "/v1/models/fake", "/metrics"}) {
        expect_refusal(send("GET", path, ""), 401, "invalid_api_key");
        expect_refusal(send("GET", path, key + "x"), 401, "invalid_api_key");
        EXPECT_EQ(send("GET", path, key).status, 200) << path;
    }
    expect_refusal(chat(""), 401, "invalid_api_key");
    EXPECT_EQ(chat(key).status, 200);
    EXPECT_NE(
        send("GET", "/metrics", key).body.find("account_requests_refused_total{code=\"invalid_api_key\"} 7"),
        std::string::npos);
}

TEST_F(AccountsTest, ARevokedKeyStopsWithinAMoment) {
    const std::string key = make_key();
    start();
    EXPECT_EQ(chat(key).status, 200);
    // By another connection, as another server or the command line would.
    ASSERT_TRUE(accounts_->revoke_key(key_id_));
    EXPECT_TRUE(eventually([&] { return chat(key).status == 401; }));
}

TEST_F(AccountsTest, TermsAndSuspensionsAndPlansRefuse) {
    const std::string key = make_key(R"({"models":["fake"]})");
    start();
    ASSERT_TRUE(accounts_->publish_terms("v1", "text"));
    EXPECT_TRUE(eventually([&] { return chat(key).status == 403; }));
    expect_refusal(chat(key), 403, "terms_not_accepted");
    ASSERT_TRUE(accounts_->accept_terms(account_, "v1", "me"));
    EXPECT_TRUE(eventually([&] { return chat(key).status == 200; }));
    expect_refusal(send("POST", "/v1/chat/completions", key, R"({"model":"other","messages":[]})"), 403,
                   "model_not_allowed");
    // A second reader might take the other one.
    expect_refusal(
        send("POST", "/v1/chat/completions", key, R"({"model":"fake","model":"other","messages":[]})"), 400,
        "invalid_value");
    expect_refusal(chat(key, R"("logprobs":true)"), 403, "terms_not_accepted");
    ASSERT_TRUE(accounts_->suspend(account_, "unpaid"));
    EXPECT_TRUE(eventually([&] { return chat(key).status == 403; }));
    const auto suspended = chat(key);
    EXPECT_EQ(suspended.headers.get("x-should-retry"), "false");
    EXPECT_NE(suspended.body.find("unpaid"), std::string::npos);
}

TEST_F(AccountsTest, TheGuardsMarksTakeAwayAndGiveBack) {
    const std::string key = make_key(R"({"logprobs":true,"limits":{"requests_per_minute":100}})");
    start();
    ASSERT_TRUE(accounts_->set_payment(account_, "customer 4711"));
    EXPECT_EQ(chat(key, R"("logprobs":true)").status, 200);
    store::Marks marks(*database_, *secret_);
    store::Mark mark;
    mark.level = "throttle";
    mark.no_logprobs = true;
    ASSERT_TRUE(marks.change({0, 1, "verdict", 0, "{}", ""}, {{account_, mark}}));
    EXPECT_TRUE(eventually([&] { return chat(key, R"("logprobs":true)").status == 403; }));
    expect_refusal(chat(key, R"("logit_bias":{"5":1})"), 403, "terms_not_accepted");
    EXPECT_EQ(chat(key).headers.get("x-ratelimit-limit-requests"), "100");
    mark.requests_per_minute = 6;
    ASSERT_TRUE(marks.change({0, 1, "policy", -1, "{}", ""}, {{account_, mark}}));
    EXPECT_TRUE(eventually([&] { return chat(key).headers.get("x-ratelimit-limit-requests") == "6"; }));
    ASSERT_TRUE(marks.change({0, 1, "allow", -1, "{}", ""}, {{account_, store::Mark{}}}));
    EXPECT_TRUE(eventually([&] { return chat(key, R"("logprobs":true)").status == 200; }));
    EXPECT_EQ(chat(key).headers.get("x-ratelimit-limit-requests"), "100");
    EXPECT_TRUE(eventually([&] { return !events().empty(); }));
    EXPECT_NE(events().back().payment, store::ShortHash{});
}

TEST_F(AccountsTest, RequestsPerMinuteAreCountedAndRenewed) {
    const std::string key = make_key(R"({"limits":{"requests_per_minute":3}})");
    start();
    for (int i = 0; i < 3; ++i) {
        const auto response = chat(key);
        EXPECT_EQ(response.status, 200);
        EXPECT_EQ(response.headers.get("x-ratelimit-limit-requests"), "3");
        EXPECT_EQ(response.headers.get("x-ratelimit-remaining-requests"), std::to_string(2 - i));
    }
    const auto refused = chat(key);
    expect_refusal(refused, 429, "rate_limit_exceeded");
    const std::int64_t left = 60 - clock_ % 60;
    EXPECT_EQ(refused.headers.get("Retry-After"), std::to_string(left));
    EXPECT_EQ(refused.headers.get("retry-after-ms"), std::to_string(left * 1000));
    EXPECT_EQ(refused.headers.get("x-ratelimit-reset-requests"), std::to_string(left) + "s");
    EXPECT_EQ(refused.headers.get("x-should-retry"), "");
    clock_ += left;
    EXPECT_EQ(chat(key).status, 200);
    EXPECT_TRUE(eventually([&] { return used(store::Unit::requests) == 4; }));
}

TEST_F(AccountsTest, TokensAreReservedAndThenSettled) {
    const std::string key = make_key(R"({"limits":{"tokens_per_day":300}})");
    start();
    for (int i = 0; i < 6; ++i) EXPECT_EQ(chat(key, R"("max_tokens":200)").status, 200) << i;
    EXPECT_TRUE(eventually([&] { return used(store::Unit::tokens, 1) == 6 * 11; }))
        << used(store::Unit::tokens, 1);
    // 234 are left, and that many cannot be reserved.
    const auto refused = chat(key, R"("max_tokens":250)");
    expect_refusal(refused, 429, "insufficient_quota");
    EXPECT_EQ(refused.headers.get("x-should-retry"), "false");
    expect_refusal(chat(key, R"("max_tokens":1000)"), 429, "rate_limit_exceeded");
    EXPECT_EQ(chat(key, R"("max_tokens":100)").status, 200);
}

TEST_F(AccountsTest, MoneyIsCountedByPrice) {
    // 1 dollar for a million prompt tokens, 2 for completion.
    const std::string key =
        make_key(R"({"prompt_price":1000000,"completion_price":2000000,"limits":{"money_per_month":1000}})");
    start();
    for (int i = 0; i < 3; ++i) EXPECT_EQ(chat(key).status, 200);
    EXPECT_TRUE(eventually([&] { return used(store::Unit::money, 2) == 3 * (6 + 2 * 5); }))
        << used(store::Unit::money, 2);
}

TEST_F(AccountsTest, AnAbortedStreamIsCountedByWhatItUsed) {
    const std::string key = make_key(R"({"limits":{"tokens_per_minute":100000}})");
    start({std::chrono::microseconds(20000)});
    http::ClientRequest request;
    request.method = "POST";
    request.url = "http://127.0.0.1:" + std::to_string(server_->port()) + "/v1/chat/completions";
    request.headers.add("Authorization", "Bearer " + key);
    request.body =
        R"({"model":"fake","stream":true,"max_tokens":200,"messages":[{"role":"user","content":")" +
        std::string(200, 'x') + R"("}]})";
    http::StreamHandlers handlers;
    int pieces = 0;
    handlers.on_body = [&](std::string_view) -> Status {
        if (++pieces < 5) return {};
        return fail(ErrorCode::cancelled, "enough");
    };
    EXPECT_FALSE(client_.send(request, handlers));
    EXPECT_TRUE(eventually([&] { return used(store::Unit::tokens) > 0; }));
    const std::int64_t tokens = used(store::Unit::tokens);
    EXPECT_GE(tokens, 200 + 3);
    EXPECT_LT(tokens, 200 + 100);
    EXPECT_TRUE(eventually([&] { return !events().empty(); }));
    ASSERT_FALSE(events().empty());
    EXPECT_EQ(events()[0].end, "aborted");
    EXPECT_EQ(events()[0].prompt_tokens + events()[0].completion_tokens, tokens);
}

TEST_F(AccountsTest, TwoServersAndManyClientsShareOneBudget) {
    constexpr int budget = 50;
    const std::string key = make_key(R"({"limits":{"requests_per_day":50}})");
    start();
    auto other = AccountAdmission::open(options_);
    ASSERT_TRUE(other) << other.error().message;
    std::atomic<int> admitted{0};
    std::vector<std::thread> clients;
    for (int i = 0; i < 16; ++i) {
        clients.emplace_back([&, i] {
            http::ServerRequest request;
            request.method = "POST";
            request.path = "/v1/chat/completions";
            request.headers.add("X-Api-Key", key);
            request.body = R"({"model":"fake","max_tokens":1})";
            for (int n = 0; n < 10; ++n) {
                if (i % 2 == 0) {
                    if (chat(key).status == 200) ++admitted;
                    continue;
                }
                std::mutex mutex;
                std::condition_variable wake;
                bool done = false;
                (*other)->admit(request, [&](Admitted answer) {
                    if (answer.ticket) {
                        ++admitted;
                        answer.ticket->end(RequestEnd::finished, 200);
                    }
                    const std::lock_guard lock(mutex);
                    done = true;
                    wake.notify_one();
                });
                std::unique_lock lock(mutex);
                wake.wait(lock, [&] { return done; });
            }
        });
    }
    for (std::thread& client : clients) client.join();
    EXPECT_LE(admitted.load(), budget);
    EXPECT_GE(admitted.load(), budget - 10);  // what one server holds ahead may stand unused for a moment
    (*other)->stop();
    server_.reset();
    EXPECT_EQ(used(store::Unit::requests, 1), admitted.load());
}

TEST_F(AccountsTest, TheAdminApiNeedsItsRole) {
    const std::string user = make_key();
    const std::string admin = accounts_->create_key(account_, "boss", "admin", 0)->text;
    start();
    expect_refusal(send("GET", "/admin/accounts", ""), 401, "invalid_api_key");
    expect_refusal(send("GET", "/admin/accounts", user), 403, "terms_not_accepted");
    const auto list = Json::parse(send("GET", "/admin/accounts", admin).body);
    EXPECT_EQ(list["data"][0]["id"], account_);
    auto response = send("POST", "/admin/keys", admin, R"({"account":")" + account_ + R"(","name":"new"})");
    ASSERT_EQ(response.status, 201) << response.body;
    const Json made = Json::parse(response.body);
    EXPECT_EQ(chat(made["key"]).status, 200);
    EXPECT_EQ(send("GET", "/admin/keys?account=" + account_, admin).body.find(std::string(made["key"])),
              std::string::npos);
    // Here at once, not within a moment.
    EXPECT_EQ(send("POST", "/admin/keys/" + std::string(made["id"]) + "/revoke", admin).status, 200);
    EXPECT_EQ(chat(made["key"]).status, 401);
    EXPECT_EQ(send("POST", "/admin/plans", admin, R"({"name":"p","colour":1})").status, 400);
    EXPECT_EQ(send("POST", "/admin/nothing", admin, "{}").status, 404);
    EXPECT_EQ(send("GET", "/admin/usage?per=minute", admin).status, 200);
}

TEST_F(AccountsTest, AnUnreadableEntryOfTheTrailIsShownAsOneAndCounted) {
    const std::string admin = make_key("{}", "admin");
    store::Marks marks(*database_, *secret_);
    const Json large = {{"level", "review"}, {"accounts", std::vector<std::string>(300, "a")}, {"p", 0.5}};
    for (const std::string& body :
         {large.dump(), std::string("[1"), std::string(R"({"level":"a\"} 9\n"})"), std::string("\xff")})
        ASSERT_TRUE(marks.change({0, 1, "verdict", 0, body, ""}, {}));
    start();
    const auto answer = Json::parse(send("GET", "/admin/guard", admin).body);
    ASSERT_EQ(answer["data"].size(), 4U);  // the newest first
    EXPECT_EQ(answer["data"][3]["entry"]["level"], "review");
    EXPECT_EQ(answer["data"][3]["entry"]["accounts"].size(), 200U);
    EXPECT_FALSE(answer["data"][3].contains("unreadable"));
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(answer["data"][i]["entry"].is_null());
        EXPECT_NE(answer["data"][i]["unreadable"].get<std::string>().find("entry " + std::to_string(3 - i)),
                  std::string::npos);
    }
    const std::string metrics = send("GET", "/metrics", admin).body;
    EXPECT_NE(metrics.find("retort:guard_verdicts_total{verdict=\"review\"} 1\n"), std::string::npos);
    EXPECT_NE(metrics.find("retort:guard_verdicts_total{verdict=\"unreadable\"} 3\n"), std::string::npos);
}

TEST_F(AccountsTest, TheAdminSeesTheNewestRequests) {
    const std::string key = make_key();
    const std::string user_account = account_;
    const std::string user_key_id = key_id_;
    const std::string admin = make_key("{}", "admin");
    start();
    EXPECT_EQ(chat(key).status, 200);
    expect_refusal(chat("wrong"), 401, "invalid_api_key");
    EXPECT_EQ(send("GET", "/v1/models", key).status, 200);
    Json rows;
    EXPECT_TRUE(eventually([&] {
        const auto response = send("GET", "/admin/requests?limit=10", admin);
        rows = Json::parse(response.body)["data"];
        return response.status == 200 && rows.size() == 2;
    })) << rows;
    EXPECT_EQ(rows[0]["code"], "invalid_api_key");
    EXPECT_EQ(rows[1]["account"], user_account);
    EXPECT_EQ(rows[1]["key"], user_key_id);
    EXPECT_FALSE(rows[1]["request_id"].get<std::string>().empty());
    for (const char* hidden : {"address", "user_agent", "body"}) EXPECT_FALSE(rows[1].contains(hidden));
    EXPECT_EQ(Json::parse(send("GET", "/admin/requests?account=" + account_, admin).body)["data"].size(), 0U);
    // After a restart they are there again.
    server_.reset();
    start();
    EXPECT_EQ(Json::parse(send("GET", "/admin/requests", admin).body)["data"].size(), 2U);
    // A browser that tells of another site's page is refused, a key or not.
    http::ClientRequest request;
    request.method = "POST";
    request.url = "http://127.0.0.1:" + std::to_string(server_->port()) + "/admin/accounts";
    request.headers.add("Authorization", "Bearer " + admin);
    request.headers.add("Sec-Fetch-Site", "cross-site");
    request.body = R"({"name":"x","plan":"plan"})";
    EXPECT_EQ(client_.send(request)->status, 403);
}

TEST_F(AccountsTest, EventsNameNobody) {
    const std::string key = make_key();
    start();
    EXPECT_EQ(chat(key, R"("max_tokens":3,"temperature":0.5)", "a secret prompt").status, 200);
    expect_refusal(chat("rk-0123456789abcdef-nonsense"), 401, "invalid_api_key");
    EXPECT_TRUE(eventually([&] { return events().size() == 2; }));
    const auto all = events();
    ASSERT_EQ(all.size(), 2U);
    EXPECT_EQ(all[0].end, "finished");
    EXPECT_EQ(all[0].completion_tokens, 3);
    EXPECT_EQ(all[0].messages, 1);
    EXPECT_NE(all[0].account, store::ShortHash{});
    EXPECT_NE(all[0].address, store::ShortHash{});
    EXPECT_EQ(all[1].code, "invalid_api_key");
    EXPECT_EQ(all[1].account, store::ShortHash{});
    for (const auto& event : all) {
        const std::string line = store::event_json(event);
        for (const std::string& told :
             {std::string("127.0.0.1"), account_, key_id_, std::string("secret prompt")}) {
            EXPECT_EQ(line.find(told), std::string::npos) << line;
        }
    }
}

TEST(RequestFacts, ReadWhatPolicyNeeds) {
    const auto facts = read_facts(
        R"({"mod\u0065l":"m","max_tokens":5,"max_completion_tokens":7,"n":3,"stream":true,"top_logprobs":2,)"
        R"("logit_bias":{"1":2},"messages":[1,2],"stream_options":{"include_usage":true}})");
    ASSERT_TRUE(facts) << facts.error().message;
    EXPECT_EQ(facts->model, "m");
    EXPECT_EQ(facts->max_tokens, 7);
    EXPECT_EQ(facts->choices, 3);
    EXPECT_EQ(facts->messages, 2);
    EXPECT_TRUE(facts->stream && facts->logprobs && facts->logit_bias && facts->include_usage);
    for (const char* bad : {"", "[]", "{", R"({"a":1,"\u0061":2})", R"({"n":NaN})"})
        EXPECT_FALSE(read_facts(bad)) << bad;
    EXPECT_EQ(read_facts(R"({"n":1,"seed":2})")->parameters, read_facts(R"({"seed": 2, "n":1})")->parameters);
    EXPECT_NE(read_facts(R"({"seed":2})")->parameters, read_facts(R"({"seed":3})")->parameters);
}

TEST(ReasoningFilter, PassesSummarisesOrWithholds) {
    ReasoningFilter full;
    EXPECT_EQ(full.pass("abc", false), "abc");
    ReasoningFilter none(ReasoningAccess::withheld);
    EXPECT_EQ(none.pass("abc", true), "");
    ReasoningFilter some(ReasoningAccess::summarised);
    EXPECT_EQ(some.pass("First thought. Second thought.", false), "");
    EXPECT_EQ(some.pass(" So it is 7.", true), "First thought. … So it is 7.");
    EXPECT_EQ(some.pass("", true), "");
    EXPECT_EQ(summarise_reasoning(" one sentence only "), "one sentence only");
    EXPECT_LE(summarise_reasoning(std::string(5000, 'x')).size(), 400U);
    const std::string wide = summarise_reasoning(std::string(159, 'x') + "\u00e9\u00e9\u00e9");
    EXPECT_TRUE(wide.starts_with(std::string(159, 'x')) && wide.find("\xc3 ") == std::string::npos);
}

}  // namespace
}  // namespace retort::serve
