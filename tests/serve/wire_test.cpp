// What every answer carries, and how a stream ends that fails.
#include <gtest/gtest.h>

#include "server_fixture.h"

namespace retort::serve {
namespace {

TEST_F(ServerTest, every_answer_carries_its_id_and_time) {
    ServerOptions options;
    options.max_body_bytes = 1000;
    options.cors_origin = "https://pages.example";
    start(std::move(options));
    const auto check = [](const http::ClientResponse& response, int status) {
        EXPECT_EQ(response.status, status) << response.body;
        EXPECT_FALSE(response.headers.get("x-request-id").empty()) << status;
        EXPECT_FALSE(response.headers.get("openai-processing-ms").empty()) << status;
        EXPECT_EQ(response.headers.get("access-control-allow-origin"), "https://pages.example") << status;
        // Clients in a browser read no header that is not named.
        const std::string_view exposed = response.headers.get("access-control-expose-headers");
        for (const char* name :
             {"x-request-id", "retry-after-ms", "x-should-retry", "x-ratelimit-reset-tokens"})
            EXPECT_NE(exposed.find(name), std::string_view::npos) << name;
    };
    check(chat(""), 200);
    check(get("/v1/nothing"), 404);
    const http::ClientResponse large = chat("", std::string(2000, 'x'));
    check(large, 413);
    expect_error(large, 413, "");
    http::ClientRequest header = request("GET", "/health");
    header.headers.add("x-long", std::string(20'000, 'x'));
    check(take(client_.send(header)), 431);
    engine_->fail_generation = true;
    check(chat(""), 500);
}

TEST_F(ServerTest, an_engine_that_breaks_in_a_stream_ends_it_with_an_error) {
    start({}, {std::chrono::milliseconds(20), 1000});
    http::StreamHandlers handlers;
    std::string body;
    handlers.on_body = [&](std::string_view bytes) -> Status {
        body += bytes;
        engine_->fail_generation = true;  // something has been said by now
        return {};
    };
    const auto response = client_.send(
        request("POST", "/v1/chat/completions", chat_body(R"("stream":true)", std::string(100, 'x'))),
        handlers);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, 200);
    EXPECT_NE(body.find(R"("content":"x")"), std::string::npos) << body;
    EXPECT_NE(body.find("data: {\"error\":{\"message\":\"the engine broke\""), std::string::npos) << body;
    EXPECT_EQ(body.find("[DONE]"), std::string::npos) << body;
}

}  // namespace
}  // namespace retort::serve
