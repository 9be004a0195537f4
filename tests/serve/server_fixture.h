// A server over an engine that says what it is asked to, in process, and a client.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "api/chat_response.h"
#include "fake_engine.h"
#include "http/client.h"
#include "http/sse.h"
#include "serve/server.h"

namespace retort::serve {

using test::FakeEngine;

inline std::vector<std::int32_t> echo_words(const generate::Request& request) {
    // The last line of the prompt: what a test wants said, it asks for.
    const auto line = std::find(request.prompt.rbegin(), request.prompt.rend(), '\n').base();
    return {line, request.prompt.end()};
}

inline Result<std::string> render_last(const api::ChatRequest& request) {
    if (request.messages.back().role == "assistant") return fail(ErrorCode::format, "roles must alternate");
    return "system\n" + request.messages.back().content;
}

class ServerTest : public ::testing::Test {
  protected:
    void start(ServerOptions options = {}, FakeEngine::Options engine_options = {}, bool think = false,
               ToolStyle tools = ToolStyle::none) {
        engine_ = std::make_unique<FakeEngine>(echo_words, engine_options);
        options.model_id = "org/fake";
        ServedModel model{engine_.get(), test::byte_tokenizer(), render_last, {test::end_token}, think,
                          tools};
        auto server = Server::create(std::move(options), std::move(model));
        ASSERT_TRUE(server) << server.error().message;
        server_ = std::move(*server);
    }

    http::ClientRequest request(std::string method, const std::string& path, std::string body = {}) const {
        http::ClientRequest out;
        out.method = std::move(method);
        out.url = "http://127.0.0.1:" + std::to_string(server_->port()) + path;
        out.body = std::move(body);
        out.read_seconds = 10;
        return out;
    }
    http::ClientResponse get(const std::string& path) { return take(client_.send(request("GET", path))); }
    http::ClientResponse post(const std::string& path, std::string body) {
        return take(client_.send(request("POST", path, std::move(body))));
    }
    http::ClientResponse chat(const std::string& fields, const std::string& say = "hello") {
        return post("/v1/chat/completions", chat_body(fields, say));
    }
    static std::string chat_body(const std::string& fields, const std::string& say = "hello") {
        return R"({"model":"org/fake","messages":[{"role":"user","content":")" + say + R"("}])" +
               (fields.empty() ? "" : "," + fields) + "}";
    }
    static http::ClientResponse take(Result<http::ClientResponse> response) {
        if (response) return std::move(*response);
        ADD_FAILURE() << response.error().message;
        return {};
    }
    static api::ChatResponse answer(const http::ClientResponse& response) {
        EXPECT_EQ(response.status, 200) << response.body;
        auto parsed = api::parse_chat_response(response.body);
        if (parsed) return std::move(*parsed);
        ADD_FAILURE() << parsed.error().message;
        return {};
    }
    static void expect_error(const http::ClientResponse& response, int status, std::string_view code,
                             std::string_view param = {}) {
        EXPECT_EQ(response.status, status) << response.body;
        const api::ApiError error = api::parse_error(response.status, response.body);
        EXPECT_FALSE(error.message.empty());
        EXPECT_EQ(error.code.value_or(""), code) << response.body;
        EXPECT_EQ(error.param.value_or(""), param) << response.body;
        EXPECT_FALSE(response.headers.get("x-request-id").empty());
    }

    // The chunks of a streamed answer; checks the frame around them.
    std::vector<api::ChatChunk> stream(const std::string& fields, const std::string& say = "hello") {
        std::vector<std::string> events;
        http::SseReader reader;
        http::StreamHandlers handlers;
        handlers.on_body = [&](std::string_view bytes) {
            return reader.feed(bytes, [&](const http::SseEvent& event) -> Status {
                events.push_back(event.data);
                return {};
            });
        };
        const auto response =
            client_.send(request("POST", "/v1/chat/completions",
                                 chat_body("\"stream\":true" + (fields.empty() ? "" : "," + fields), say)),
                         handlers);
        EXPECT_TRUE(response) << response.error().message;
        if (!response) return {};
        EXPECT_EQ(response->status, 200) << response->body;
        EXPECT_EQ(response->headers.get("content-type"), "text/event-stream");
        EXPECT_EQ(response->headers.get("cache-control"), "no-cache");
        EXPECT_EQ(response->headers.get("x-accel-buffering"), "no");
        std::vector<api::ChatChunk> chunks;
        raw_events_ = events;
        if (events.empty() || events.back() != "[DONE]") {
            ADD_FAILURE() << "the stream does not end with [DONE]";
            return chunks;
        }
        events.pop_back();
        for (const std::string& event : events) {
            auto chunk = api::parse_chat_chunk(event);
            EXPECT_TRUE(chunk) << chunk.error().message;
            if (chunk) chunks.push_back(std::move(*chunk));
        }
        return chunks;
    }

    static bool eventually(const std::function<bool()>& condition) {
        for (int i = 0; i < 500 && !condition(); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        return condition();
    }

    std::unique_ptr<FakeEngine> engine_;
    std::unique_ptr<Server> server_;
    http::Client client_;
    std::vector<std::string> raw_events_;
};

}  // namespace retort::serve
