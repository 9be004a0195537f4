#include "http/client.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "http/sse.h"
#include "scripted_server.h"

namespace retort::http {
namespace {

using Server = ScriptedServer;

ClientRequest get(std::string url) {
    ClientRequest request;
    request.url = std::move(url);
    request.read_seconds = 5;
    return request;
}

std::string answer(std::string_view body, std::string_view more = {}) {
    return "HTTP/1.1 200 OK\r\n" + std::string(more) + "Content-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + std::string(body);
}

TEST(Client, sends_what_is_asked_and_reads_the_answer) {
    std::string seen;
    Server server([&](int socket, int) {
        seen = Server::read_request(socket);
        Server::say(socket, "HTTP/1.1 100 Continue\r\n\r\n");
        Server::say(socket, answer("hello", "X-Request-Id: r1\r\n"));
    });
    ClientRequest request = get(server.url("/v1/chat?x=1"));
    request.method = "POST";
    request.headers.add("Authorization", "Bearer k");
    request.body = "{\"a\":1}";
    Client client;
    const auto response = client.send(request);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, 200);
    EXPECT_EQ(response->body, "hello");
    EXPECT_EQ(response->headers.get("x-request-id"), "r1");
    EXPECT_GT(response->seconds, 0);
    EXPECT_TRUE(seen.starts_with("POST /v1/chat?x=1 HTTP/1.1\r\n")) << seen;
    EXPECT_NE(seen.find("Host: 127.0.0.1:" + std::to_string(server.port()) + "\r\n"), std::string::npos)
        << seen;
    EXPECT_NE(seen.find("Authorization: Bearer k\r\n"), std::string::npos) << seen;
    EXPECT_TRUE(seen.ends_with("\r\n\r\n{\"a\":1}")) << seen;
}

TEST(Client, keeps_connections_and_opens_another_when_one_was_closed) {
    Server server([&](int socket, int number) {
        while (!Server::read_request(socket).empty()) {
            Server::say(socket, answer("n" + std::to_string(number)));
            if (number == 0) continue;
            return;  // closes without a word
        }
    });
    Client client;
    for (int i = 0; i < 5; ++i) EXPECT_EQ(client.send(get(server.url()))->body, "n0");
    EXPECT_EQ(server.connections(), 1);

    Client other;  // connection 1 is closed by the server after one answer
    EXPECT_EQ(other.send(get(server.url()))->body, "n1");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(other.send(get(server.url()))->body, "n2");
}

TEST(Client, a_last_chunk_may_come_in_pieces) {
    const Server server([&](int socket, int) {
        Server::read_request(socket);
        Server::say(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
        for (const char* piece : {"0", "\r", "\n", "\r", "\n"}) {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            Server::say(socket, piece);
        }
    });
    Client client;
    const auto response = client.send(get(server.url()));
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->body, "hi");
}

TEST(Client, a_get_is_asked_again_when_a_kept_connection_dies_under_it_but_a_post_is_not) {
    Server server([&](int socket, int number) {
        (void)Server::read_request(socket);
        Server::say(socket, answer("first"));
        if (number % 2 == 0) (void)Server::read_request(socket);  // takes the request and closes
    });
    Client client;
    EXPECT_EQ(client.send(get(server.url()))->body, "first");
    EXPECT_EQ(client.send(get(server.url()))->body, "first");
    EXPECT_EQ(server.connections(), 2);
    Client poster;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(poster.send(get(server.url()))->body, "first");
    ClientRequest post = get(server.url());
    post.method = "POST";
    const auto lost = poster.send(post);
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.error().code, ErrorCode::network);
    EXPECT_NE(lost.error().message.find("closed the connection early"), std::string::npos)
        << lost.error().message;
}

TEST(Client, errors_name_the_host_and_what_happened) {
    Client client;
    int free_port = 0;
    {
        Server gone([](int, int) {});
        free_port = gone.port();
    }
    const auto refused = client.send(get("http://127.0.0.1:" + std::to_string(free_port) + "/"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::network);
    EXPECT_EQ(refused.error().message,
              "http://127.0.0.1:" + std::to_string(free_port) + ": connection refused");

    const auto unknown = client.send(get("http://no-such-host.invalid/"));
    ASSERT_FALSE(unknown);
    EXPECT_NE(unknown.error().message.find("cannot find host no-such-host.invalid"), std::string::npos)
        << unknown.error().message;

    Server short_body([](int socket, int) {
        (void)Server::read_request(socket);
        Server::say(socket, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    });
    const auto cut = client.send(get(short_body.url()));
    ASSERT_FALSE(cut);
    EXPECT_EQ(cut.error().code, ErrorCode::network);
    EXPECT_NE(cut.error().message.find("closed the connection early"), std::string::npos)
        << cut.error().message;

    Server babble([](int socket, int) {
        (void)Server::read_request(socket);
        Server::say(socket, "SSH-2.0-OpenSSH_9.2\r\n");
    });
    const auto not_http = client.send(get(babble.url()));
    ASSERT_FALSE(not_http);
    EXPECT_EQ(not_http.error().code, ErrorCode::format);

    EXPECT_EQ(client.send(get("nonsense")).error().code, ErrorCode::invalid_argument);
    ClientRequest split = get(short_body.url());
    split.headers.add("X", "a\r\nInjected: b");
    EXPECT_EQ(client.send(split).error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(client.send(get("http://user:pw@127.0.0.1/")).error().code, ErrorCode::invalid_argument);
}

TEST(Client, waits_as_long_as_it_was_told_and_no_longer) {
    Server silent([](int socket, int) {
        (void)Server::read_request(socket);
        Server::peer_closes(socket);
    });
    Client client;
    ClientRequest request = get(silent.url());
    request.read_seconds = 0.2;
    const auto start = std::chrono::steady_clock::now();
    const auto late = client.send(request);
    const double waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ASSERT_FALSE(late);
    EXPECT_NE(late.error().message.find("timed out"), std::string::npos) << late.error().message;
    EXPECT_GE(waited, 0.2);
    EXPECT_LT(waited, 2.0);  // 0.2 s and one poll of 50 ms, with room for a busy machine

    // A byte now and then keeps read_seconds content, but not total_seconds.
    Server trickle([](int socket, int) {
        (void)Server::read_request(socket);
        Server::say(socket, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        for (int i = 0; i < 1000 && !Server::peer_closes(socket, 20); ++i) Server::say(socket, "x");
    });
    request = get(trickle.url());
    request.total_seconds = 0.3;
    const auto total = client.send(request);
    ASSERT_FALSE(total);
    EXPECT_NE(total.error().message.find("timed out"), std::string::npos) << total.error().message;
}

TEST(Client, a_flood_does_not_outlast_the_deadline) {
    Server flood([](int socket, int) {
        (void)Server::read_request(socket);
        Server::say(socket, "HTTP/1.1 200 OK\r\n\r\n");
        const std::string piece(100'000, 'x');
        while (!Server::peer_closes(socket, 0)) Server::say(socket, piece);
    });
    Client client;
    ClientRequest request = get(flood.url());
    request.total_seconds = 0.2;
    StreamHandlers handlers;
    const auto start = std::chrono::steady_clock::now();
    handlers.on_body = [&](std::string_view) -> Status {
        if (std::chrono::steady_clock::now() - start < std::chrono::seconds(5)) return {};
        return fail(ErrorCode::internal, "the flood goes on");
    };
    const auto ended = client.send(request, handlers);
    ASSERT_FALSE(ended);
    EXPECT_NE(ended.error().message.find("timed out"), std::string::npos) << ended.error().message;
}

TEST(Client, ends_when_cancelled) {
    std::atomic<bool> closed{false};
    Server silent([&](int socket, int) {
        (void)Server::read_request(socket);
        closed = Server::peer_closes(socket);
    });
    Client client;
    std::atomic<bool> stop{false};
    ClientRequest request = get(silent.url());
    request.cancelled = [&] { return stop.load(); };
    std::thread canceller([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        stop = true;
    });
    const auto cancelled = client.send(request);
    canceller.join();
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().code, ErrorCode::cancelled);
    for (int i = 0; i < 100 && !closed; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(closed) << "the server does not see that the client has gone";
}

TEST(Client, limits_what_it_keeps_in_memory) {
    Server server([](int socket, int) {
        (void)Server::read_request(socket);
        Server::say(socket, answer(std::string(100'000, 'x')));
    });
    Client client;
    ClientRequest request = get(server.url());
    request.max_body_bytes = 99'999;
    EXPECT_EQ(client.send(request).error().code, ErrorCode::format);
    request.max_body_bytes = 100'000;
    EXPECT_EQ(client.send(request)->body.size(), 100'000U);
    Server long_header([](int socket, int) {
        (void)Server::read_request(socket);
        Server::say(socket, "HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x'));
    });
    EXPECT_EQ(client.send(get(long_header.url())).error().code, ErrorCode::format);
}

TEST(Client, streams_a_body_as_it_comes_but_keeps_an_error) {
    Server server([](int socket, int number) {
        (void)Server::read_request(socket);
        if (number == 1) {
            Server::say(socket,
                        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow");
            return;
        }
        Server::say(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        const std::string events = "data: one\n\ndata: two\n\n";
        for (const char c : events) {  // each byte a chunk and a packet of its own
            Server::say(socket, std::string("1\r\n") + c + "\r\n");
        }
        Server::say(socket, "0\r\n\r\n");
    });
    Client client;
    SseReader reader;
    std::vector<std::string> events;
    int status_first = 0;
    StreamHandlers handlers;
    handlers.on_header = [&](const ClientResponse& response) -> Status {
        status_first = response.status;
        return {};
    };
    handlers.on_body = [&](std::string_view bytes) {
        return reader.feed(bytes, [&](const SseEvent& event) -> Status {
            events.push_back(event.data);
            return {};
        });
    };
    const auto response = client.send(get(server.url()), handlers);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(status_first, 200);
    EXPECT_EQ(events, (std::vector<std::string>{"one", "two"}));
    EXPECT_TRUE(response->body.empty());
    EXPECT_EQ(response->body_bytes, 22U);

    Client second;
    const auto refused = second.send(get(server.url()), handlers);
    ASSERT_TRUE(refused) << refused.error().message;
    EXPECT_EQ(refused->status, 429);
    EXPECT_EQ(refused->body, "slow");
    EXPECT_EQ(refused->headers.get("retry-after"), "7");
    EXPECT_EQ(events.size(), 2U);

    handlers.on_body = [](std::string_view) -> Status { return fail(ErrorCode::io, "disk full"); };
    Client third;
    EXPECT_EQ(third.send(get(server.url()), handlers).error().code, ErrorCode::io);
}

TEST(Client, an_event_reaches_the_caller_before_the_next_is_sent) {
    std::atomic<bool> first_heard{false};
    Server server([&](int socket, int) {
        (void)Server::read_request(socket);
        Server::say(socket, "HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n");
        for (int i = 0; i < 500 && !first_heard; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        Server::say(socket, "data: 2\n\n");  // the end of the connection ends the body
    });
    Client client;
    StreamHandlers handlers;
    std::string body;
    handlers.on_body = [&](std::string_view bytes) -> Status {
        body += bytes;
        first_heard = true;
        return {};
    };
    const auto response = client.send(get(server.url()), handlers);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_TRUE(first_heard);
    EXPECT_EQ(body, "data: 1\n\ndata: 2\n\n");
}

TEST(Client, follows_redirects_of_get_without_carrying_keys_elsewhere) {
    std::string at_other;
    Server other([&](int socket, int) {
        at_other = Server::read_request(socket);
        Server::say(socket, answer("there"));
    });
    std::string at_second;
    Server server([&](int socket, int) {
        while (true) {
            const std::string request = Server::read_request(socket);
            if (request.empty()) return;
            std::string location = request.find(" /loop ") != std::string::npos     ? "/loop"
                                   : request.find(" /second ") != std::string::npos ? other.url("/third")
                                                                                    : "second";
            if (location != "second") at_second = request;
            Server::say(socket,
                        "HTTP/1.1 302 Found\r\nLocation: " + location + "\r\nContent-Length: 4\r\n\r\nmove");
        }
    });
    Client client;
    ClientRequest request = get(server.url("/first"));
    request.headers.add("Authorization", "Bearer secret");
    request.headers.add("X-Other", "kept");
    const auto response = client.send(request);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->body, "there");
    EXPECT_EQ(response->url, other.url("/third"));
    EXPECT_NE(at_second.find("secret"), std::string::npos);
    EXPECT_EQ(at_other.find("secret"), std::string::npos) << at_other;
    EXPECT_NE(at_other.find("X-Other: kept"), std::string::npos) << at_other;

    const auto loop = client.send(get(server.url("/loop")));
    ASSERT_FALSE(loop);
    EXPECT_NE(loop.error().message.find("redirects"), std::string::npos);
    request.method = "POST";
    EXPECT_EQ(client.send(request)->status, 302);
}

TEST(Client, asks_an_http_proxy_for_the_whole_url) {
    std::string seen;
    Server proxy([&](int socket, int) {
        seen = Server::read_request(socket);
        if (seen.starts_with("CONNECT")) {
            Server::say(socket, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        } else {
            Server::say(socket, answer("by proxy"));
        }
    });
    const std::string url = "http://user:pw@127.0.0.1:" + std::to_string(proxy.port());
    ::setenv("http_proxy", url.c_str(), 1);
    ::setenv("https_proxy", url.c_str(), 1);
    Client client;
    ::unsetenv("http_proxy");
    ::unsetenv("https_proxy");
    const auto response = client.send(get("http://teacher.invalid/v1"));
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->body, "by proxy");
    EXPECT_TRUE(seen.starts_with("GET http://teacher.invalid/v1 HTTP/1.1\r\n")) << seen;
    EXPECT_NE(seen.find("Proxy-Authorization: Basic dXNlcjpwdw==\r\n"), std::string::npos) << seen;

    const auto refused = client.send(get("https://teacher.invalid/v1"));
    ASSERT_FALSE(refused);
    EXPECT_TRUE(seen.starts_with("CONNECT teacher.invalid:443 HTTP/1.1\r\n")) << seen;
    EXPECT_NE(refused.error().message.find("refused the tunnel with status 403"), std::string::npos)
        << refused.error().message;
}

TEST(Client, many_threads_share_one_client) {
    Server server([&](int socket, int) {
        while (true) {
            const std::string request = Server::read_request(socket);
            if (request.empty()) return;
            Server::say(socket, answer(request.substr(request.find("\r\n\r\n") + 4)));
        }
    });
    {
        Client client;
        std::atomic<int> right{0};
        std::vector<std::thread> threads;
        for (int t = 0; t < 8; ++t) {
            threads.emplace_back([&, t] {
                for (int i = 0; i < 25; ++i) {
                    ClientRequest request = get(server.url());
                    request.method = "POST";
                    request.body = std::to_string(t * 1000 + i);
                    const auto response = client.send(request);
                    if (response && response->body == request.body) ++right;
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(right, 200);
        EXPECT_LE(server.connections(), 8);
    }
}

}  // namespace
}  // namespace retort::http
