#include "http/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "http/client.h"

namespace retort::http {
namespace {

// A connection that can misbehave.
class Raw {
  public:
    explicit Raw(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    }
    ~Raw() { ::close(socket_); }
    Raw(const Raw&) = delete;
    Raw& operator=(const Raw&) = delete;

    [[nodiscard]] bool connected() const { return connected_; }
    // False when the peer has reset the connection.
    bool say(std::string_view text) const {
        return ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
    }
    // Until `end` has come, the peer closes, or some seconds have passed.
    std::string hear(std::string_view end = {}, int milliseconds = 5000) const {
        std::string text;
        const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
        while (end.empty() || text.find(end) == std::string::npos) {
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                until - std::chrono::steady_clock::now());
            pollfd descriptor{socket_, POLLIN, 0};
            char buffer[4096];
            if (left.count() <= 0 || ::poll(&descriptor, 1, static_cast<int>(left.count())) != 1) {
                return text + "<timeout>";
            }
            const ssize_t count = ::recv(socket_, buffer, sizeof buffer, 0);
            if (count <= 0) return text + (count == 0 ? "<closed>" : "<reset>");
            text.append(buffer, static_cast<std::size_t>(count));
        }
        return text;
    }

  private:
    int socket_;
    bool connected_ = false;
};

bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 500 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return condition();
}

void answer_plainly(const ServerRequest& request, const std::shared_ptr<ResponseWriter>& writer) {
    writer->send(200, {{"Content-Type", "text/plain"}, {"X-Path", request.path}},
                 request.method + " " + request.path + " " + request.query + " " + request.body);
}

std::unique_ptr<Server> start(Server::Handler handler, ServerOptions options = {}) {
    auto server = Server::start(std::move(options), std::move(handler));
    EXPECT_TRUE(server) << server.error().message;
    return std::move(*server);
}

std::string url_of(const Server& server, std::string_view target = "/") {
    return "http://127.0.0.1:" + std::to_string(server.port()) + std::string(target);
}

ClientRequest post(const Server& server, std::string body) {
    ClientRequest request;
    request.method = "POST";
    request.url = url_of(server, "/p?q=1");
    request.body = std::move(body);
    request.read_seconds = 10;
    return request;
}

TEST(Server, answers_over_one_kept_connection) {
    const auto server = start(answer_plainly);
    Client client;
    for (int i = 0; i < 20; ++i) {
        const auto response = client.send(post(*server, std::to_string(i)));
        ASSERT_TRUE(response) << response.error().message;
        EXPECT_EQ(response->body, "POST /p q=1 " + std::to_string(i));
        EXPECT_EQ(response->headers.get("x-path"), "/p");
    }
    EXPECT_EQ(server->connections(), 1U);
}

// Answers that leave at once must not call each other deeper and deeper.
TEST(Server, answers_thousands_of_pipelined_requests) {
    std::atomic<int> deepest{0};
    const auto server =
        start([&](const ServerRequest& request, const std::shared_ptr<ResponseWriter>& writer) {
            thread_local int depth = 0;
            deepest = std::max(deepest.load(), ++depth);
            answer_plainly(request, writer);
            --depth;
        });
    const Raw raw(server->port());
    constexpr int count = 5000;
    std::string all;
    for (int i = 0; i < count; ++i) all += "GET /" + std::to_string(i) + " HTTP/1.1\r\n\r\n";
    std::thread speaker(
        [&] { EXPECT_TRUE(raw.say(all + "GET /last HTTP/1.1\r\nConnection: close\r\n\r\n")); });
    const std::string heard = raw.hear();
    speaker.join();
    std::size_t at = 0;
    for (int i = 0; i < count; ++i) {
        at = heard.find("X-Path: /" + std::to_string(i) + "\r\n", at);
        ASSERT_NE(at, std::string::npos) << i;
    }
    EXPECT_TRUE(heard.ends_with("GET /last  <closed>")) << heard.substr(heard.size() - 100);
    EXPECT_EQ(deepest, 1);
}

TEST(Server, answers_pipelined_requests_in_order_and_obeys_connection_close) {
    const auto server = start(answer_plainly);
    const Raw raw(server->port());
    raw.say(
        "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
        "GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const std::string heard = raw.hear();
    EXPECT_TRUE(heard.ends_with("<closed>")) << heard;
    const std::size_t one = heard.find("GET /1");
    const std::size_t two = heard.find("GET /2");
    const std::size_t three = heard.find("GET /3");
    EXPECT_TRUE(one < two && two < three && three != std::string::npos) << heard;
    EXPECT_NE(heard.find("Connection: close\r\n", two), std::string::npos) << heard;

    const Raw old(server->port());
    old.say("GET /old HTTP/1.0\r\n\r\n");
    EXPECT_TRUE(old.hear().ends_with("GET /old  <closed>"));
}

TEST(Server, a_head_answer_has_no_body_but_its_length) {
    const auto server = start(answer_plainly);
    const Raw raw(server->port());
    raw.say("HEAD /h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const std::string heard = raw.hear();
    EXPECT_NE(heard.find("Content-Length: 9\r\n"), std::string::npos) << heard;
    EXPECT_TRUE(heard.ends_with("\r\n\r\n<closed>")) << heard;
}

TEST(Server, refuses_what_is_too_large_and_what_is_no_http) {
    ServerOptions options;
    options.max_body_bytes = 1000;
    options.error_body = [](int status, std::string_view message) {
        return std::to_string(status) + ": " + std::string(message);
    };
    const auto server = start(answer_plainly, options);
    Client client;
    EXPECT_EQ(client.send(post(*server, std::string(1000, 'x')))->status, 200);
    // Far more than a socket buffers: the answer must arrive although the server never reads it all.
    const auto large = client.send(post(*server, std::string(4'000'000, 'x')));
    ASSERT_TRUE(large) << large.error().message;
    EXPECT_EQ(large->status, 413);
    EXPECT_EQ(large->body, "413: The request's body is longer than 1000 bytes.");

    const Raw chunked(server->port());
    chunked.say("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" +
                std::string(0x800, 'x') + "\r\n0\r\n\r\n");
    EXPECT_TRUE(chunked.hear("1000 bytes").starts_with("HTTP/1.1 413 "));
    // A reset might overtake the answer, so the server goes on reading for a while.
    const Raw unread(server->port());
    unread.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + std::string(50'000, 'x'));
    EXPECT_TRUE(unread.hear().ends_with("1000 bytes.<closed>"));
    for (int i = 0; i < 5; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        EXPECT_TRUE(unread.say("more")) << "the connection was reset";
    }
    const Raw header(server->port());
    header.say("GET / HTTP/1.1\r\nX: " + std::string(20'000, 'x'));
    EXPECT_TRUE(header.hear("bytes").starts_with("HTTP/1.1 431 "));
    const Raw babble(server->port());
    babble.say("hello there\r\n\r\n");
    EXPECT_TRUE(babble.hear("400: ").starts_with("HTTP/1.1 400 "));
    EXPECT_EQ(client.send(post(*server, "x"))->status, 200);
}

// Beast asserted that such a chunk has five bytes, and the program ended.
TEST(Server, a_last_chunk_may_come_in_pieces) {
    const auto server = start(answer_plainly);
    const Raw raw(server->port());
    raw.say("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    for (const char* piece : {"0", "\r", "\n", "\r", "\n"}) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        raw.say(piece);
    }
    EXPECT_TRUE(raw.hear().ends_with("POST /c  <closed>"));
}

TEST(Server, a_client_that_asks_first_is_told_to_go_on) {
    const auto server = start(answer_plainly);
    const Raw raw(server->port());
    raw.say("POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_EQ(raw.hear("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    raw.say("ok");
    EXPECT_TRUE(raw.hear("POST /c  ok").starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST(Server, slow_clients_are_let_go) {
    ServerOptions options;
    options.idle_seconds = 0.3;
    options.body_seconds = 0.3;
    const auto server = start(answer_plainly, options);
    const Raw silent(server->port());
    const Raw slow_header(server->port());
    slow_header.say("GET / HT");
    const Raw slow_body(server->port());
    slow_body.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    EXPECT_EQ(silent.hear(), "<closed>");
    EXPECT_EQ(slow_header.hear(), "<closed>");
    EXPECT_EQ(slow_body.hear(), "<closed>");
    EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

TEST(Server, streams_from_another_thread_piece_by_piece) {
    std::vector<std::thread> threads;
    std::mutex mutex;
    std::atomic<bool> first_heard{false};
    const auto server = start([&](const ServerRequest&, const std::shared_ptr<ResponseWriter>& writer) {
        const std::lock_guard lock(mutex);
        threads.emplace_back([writer, &first_heard] {
            writer->begin_stream(200, {{"Content-Type", "text/event-stream"}});
            EXPECT_TRUE(writer->write("first"));
            eventually([&] { return first_heard.load(); });
            EXPECT_TRUE(writer->write(""));  // must not end the stream
            EXPECT_TRUE(writer->write(" second"));
            writer->end();
        });
    });
    Client client;
    std::string body;
    StreamHandlers handlers;
    handlers.on_body = [&](std::string_view bytes) -> Status {
        body += bytes;
        first_heard = true;
        return {};
    };
    const auto response = client.send(post(*server, "x"), handlers);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(body, "first second");
    const Raw old(server->port());
    old.say("GET / HTTP/1.0\r\n\r\n");
    const std::string heard = old.hear();
    EXPECT_TRUE(heard.ends_with("\r\n\r\nfirst second<closed>")) << heard;
    for (std::thread& thread : threads) thread.join();
}

TEST(Server, notices_a_client_that_goes) {
    std::atomic<int> gone{0};
    std::mutex mutex;
    std::vector<std::shared_ptr<ResponseWriter>> writers;
    const auto server = start([&](const ServerRequest&, const std::shared_ptr<ResponseWriter>& writer) {
        writer->on_gone([&] { ++gone; });
        const std::lock_guard lock(mutex);
        writers.push_back(writer);
    });
    {
        const Raw raw(server->port());
        raw.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        EXPECT_TRUE(eventually([&] {
            const std::lock_guard lock(mutex);
            return writers.size() == 1;
        }));
        EXPECT_EQ(gone, 0);
    }
    EXPECT_TRUE(eventually([&] { return gone == 1; }));
    EXPECT_TRUE(writers[0]->is_gone());
    EXPECT_FALSE(writers[0]->write("x"));
    writers[0]->send(200, {}, "into the void");
    std::atomic<bool> late{false};
    writers[0]->on_gone([&] { late = true; });
    EXPECT_TRUE(late);
    EXPECT_TRUE(eventually([&] { return server->connections() == 1 || writers.size() == 1; }));
    writers.clear();
    EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

TEST(Server, a_client_that_does_not_read_is_let_go) {
    ServerOptions options;
    options.max_queued_bytes = 100'000;
    std::atomic<bool> ended{false};
    std::thread writing;
    const auto server = start(
        [&](const ServerRequest&, const std::shared_ptr<ResponseWriter>& writer) {
            writing = std::thread([writer, &ended] {
                writer->begin_stream(200, {});
                const std::string piece(10'000, 'x');
                while (writer->write(piece)) std::this_thread::sleep_for(std::chrono::microseconds(100));
                ended = true;
            });
        },
        options);
    const Raw raw(server->port());
    raw.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(eventually([&] { return ended.load(); }));
    writing.join();
}

TEST(Server, a_writer_that_is_dropped_and_a_handler_that_throws_close_the_connection) {
    const auto server = start([](const ServerRequest& request, const std::shared_ptr<ResponseWriter>&) {
        if (request.path == "/throw") throw std::runtime_error("on purpose");
    });
    for (const char* path : {"/drop", "/throw"}) {
        const Raw raw(server->port());
        raw.say(std::string("GET ") + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
        EXPECT_EQ(raw.hear(), "<closed>") << path;
    }
}

TEST(Server, a_header_of_the_handler_cannot_split_the_answer) {
    const auto server = start([](const ServerRequest&, const std::shared_ptr<ResponseWriter>& writer) {
        writer->send(200, {{"X", "a\r\nInjected: b"}}, "");
    });
    Client client;
    const auto response = client.send(post(*server, ""));
    ASSERT_TRUE(response);
    EXPECT_FALSE(response->headers.find("injected"));
}

TEST(Server, stops_when_answers_have_ended) {
    std::shared_ptr<ResponseWriter> held;
    std::atomic<bool> holding{false};
    auto server = start([&](const ServerRequest&, std::shared_ptr<ResponseWriter> writer) {
        held = std::move(writer);
        holding = true;
    });
    const Raw idle(server->port());
    const Raw busy(server->port());
    busy.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    ASSERT_TRUE(eventually([&] { return holding.load(); }));
    server->stop();
    server->stop();
    EXPECT_EQ(idle.hear(), "<closed>");
    EXPECT_FALSE(Raw(server->port()).connected());
    std::thread joining([&] { server->join(); });
    held->send(200, {}, "the end");
    held.reset();
    EXPECT_TRUE(busy.hear().ends_with("the end<closed>"));
    joining.join();
}

TEST(Server, many_connections_at_once) {
    const auto server = start(answer_plainly);
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 16; ++t) {
        threads.emplace_back([&] {
            Client client;
            for (int i = 0; i < 50; ++i) {
                const auto response = client.send(post(*server, std::to_string(i)));
                if (response && response->body.ends_with(" " + std::to_string(i))) ++right;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(right, 800);
    EXPECT_TRUE(eventually([&] { return server->connections() == 0; }));
}

TEST(Server, a_storm_of_429_reaches_each_client_whole) {
    std::atomic<int> count{0};
    const auto server = start([&](const ServerRequest&, const std::shared_ptr<ResponseWriter>& writer) {
        ++count;
        writer->send(429, {{"Retry-After", "3"}, {"retry-after-ms", "2500"}}, "slow down");
    });
    Client client;
    std::atomic<int> told{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 50; ++i) {
                const auto response = client.send(post(*server, "x"));
                if (response && response->status == 429 &&
                    response->headers.get("Retry-After-Ms") == "2500" && response->body == "slow down") {
                    ++told;
                }
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(told, 400);
    EXPECT_EQ(count, 400);
}

}  // namespace
}  // namespace retort::http
