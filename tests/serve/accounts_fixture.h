// A server with accounts over an engine that says what it is asked to, in process, and a client.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "api/chat_response.h"
#include "fake_engine.h"
#include "http/client.h"
#include "serve/accounts_admin.h"
#include "serve/accounts_admission.h"
#include "serve/server.h"
#include "store/ledger.h"

namespace retort::serve {

using Json = nlohmann::json;

inline std::vector<std::int32_t> last_line(const generate::Request& request) {
    const auto line = std::find(request.prompt.rbegin(), request.prompt.rend(), '\n').base();
    return {line, request.prompt.end()};
}

class AccountsTest : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string pattern = "/tmp/retort-accounts-XXXXXX";
        folder_ = mkdtemp(pattern.data());
        options_.location = (folder_ / "store.db").string();
        options_.event_folder = (folder_ / "events").string();
        options_.directory.poll_seconds = 0.02;
        options_.quota.flush_seconds = 0.02;
        options_.quota.clock = [this] { return clock_.load(); };
        secret_ = std::make_unique<store::Secret>(*store_secret(options_.location, ""));
        database_ = std::move(*store::open_database(options_.location));
        accounts_ = std::make_unique<store::Accounts>(*store::Accounts::open(*database_, *secret_));
    }
    void TearDown() override {
        server_.reset();
        accounts_.reset();
        database_.reset();
        std::filesystem::remove_all(folder_);
    }

    void start(test::FakeEngine::Options engine_options = {}, bool think = false) {
        engine_ = std::make_unique<test::FakeEngine>(last_line, engine_options);
        ServerOptions options;
        options.model_id = "fake";
        auto admission = AccountAdmission::open(options_);
        ASSERT_TRUE(admission) << admission.error().message;
        auto admin = open_admin_routes(options_, *admission);
        ASSERT_TRUE(admin) << admin.error().message;
        options.admission = *admission;
        options.admin = *admin;
        ServedModel model{engine_.get(),
                          test::byte_tokenizer(),
                          [](const api::ChatRequest& request) -> Result<std::string> {
                              return "\n" + request.messages.back().content;
                          },
                          {test::end_token},
                          think};
        auto server = Server::create(std::move(options), std::move(model));
        ASSERT_TRUE(server) << server.error().message;
        server_ = std::move(*server);
    }

    std::string make_key(const std::string& plan_fields = "{}", const std::string& role = "user") {
        auto plan = store::plan_from_json(Json::parse(plan_fields), store::Plan{});
        plan->name = "plan";
        EXPECT_TRUE(accounts_->set_plan(*plan));
        account_ = accounts_->create_account("somebody", "plan")->id;
        const auto key = accounts_->create_key(account_, "k", role, 0);
        key_id_ = key->id;
        return key->text;
    }

    http::ClientResponse send(const std::string& method, const std::string& path, const std::string& key,
                              std::string body = {}) {
        http::ClientRequest request;
        request.method = method;
        request.url = "http://127.0.0.1:" + std::to_string(server_->port()) + path;
        if (!key.empty()) request.headers.add("Authorization", "Bearer " + key);
        request.body = std::move(body);
        request.read_seconds = 10;
        auto response = client_.send(request);
        EXPECT_TRUE(response) << response.error().message;
        return response ? *response : http::ClientResponse{};
    }
    http::ClientResponse chat(const std::string& key, const std::string& fields = R"("max_tokens":10)",
                              const std::string& say = "hello") {
        return send(
            "POST", "/v1/chat/completions", key,
            R"({"model":"fake","messages":[{"role":"user","content":")" + say + R"("}],)" + fields + "}");
    }
    static void expect_refusal(const http::ClientResponse& response, int status, const std::string& code) {
        EXPECT_EQ(response.status, status) << response.body;
        EXPECT_EQ(api::parse_error(response.status, response.body).code.value_or(""), code) << response.body;
    }
    static api::Usage usage_of(const http::ClientResponse& response) {
        EXPECT_EQ(response.status, 200) << response.body;
        const auto parsed = api::parse_chat_response(response.body);
        EXPECT_TRUE(parsed && parsed->usage);
        return parsed && parsed->usage ? *parsed->usage : api::Usage{};
    }
    std::int64_t used(store::Unit unit, std::size_t span = 0) {
        store::Ledger ledger(*database_, "reader");
        std::int64_t sum = 0;
        for (const auto& row : *ledger.usage(account_, span, 0)) {
            if (row.unit == static_cast<std::size_t>(unit)) sum += row.used;
        }
        return sum;
    }
    bool eventually(const std::function<bool()>& condition) {
        for (int i = 0; i < 500; ++i) {
            if (condition()) return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        return false;
    }
    std::vector<store::Event> events() {
        std::vector<store::Event> out;
        EXPECT_TRUE(store::read_events(options_.event_folder, [&](const store::Event& event) -> Status {
            out.push_back(event);
            return {};
        }));
        return out;
    }

    std::atomic<std::int64_t> clock_{1'700'000'000};
    std::filesystem::path folder_;
    AccountsOptions options_;
    std::unique_ptr<store::Secret> secret_;
    std::unique_ptr<store::Database> database_;
    std::unique_ptr<store::Accounts> accounts_;
    std::unique_ptr<test::FakeEngine> engine_;
    std::unique_ptr<Server> server_;
    http::Client client_;
    std::string account_;
    std::string key_id_;
};

}  // namespace retort::serve
