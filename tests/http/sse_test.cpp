#include "http/sse.h"

#include <gtest/gtest.h>

#include <vector>

namespace retort::http {
namespace {

struct Heard {
    std::vector<std::string> events;  // "event|data|id"
    Status status;
    bool partial = false;
};

Heard hear(std::string_view stream, std::size_t piece) {
    Heard heard;
    SseReader reader;
    for (std::size_t at = 0; at < stream.size() && heard.status; at += piece) {
        heard.status = reader.feed(stream.substr(at, piece), [&](const SseEvent& event) -> Status {
            heard.events.push_back(event.event + "|" + event.data + "|" + event.id);
            return {};
        });
    }
    heard.partial = reader.has_partial_event();
    return heard;
}

TEST(Sse, any_chunking_gives_the_same_events) {
    const std::string stream =
        "\xef\xbb\xbf: a comment\n\ndata: one\n\ndata:two\r\ndata:  lines\r\n\r\nevent: done\rid: 7\rdata\r\r"
        "retry: 10\nunknown: x\n\nid: 8\n\ndata: {\"caf\xc3\xa9\":1}\n\ndata: [DONE]\n\n";
    const std::vector<std::string> expected = {"message|one|", "message|two\n lines|", "done||7",
                                               "message|{\"caf\xc3\xa9\":1}|8", "message|[DONE]|8"};
    for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
        const Heard heard = hear(stream, piece);
        ASSERT_TRUE(heard.status);
        EXPECT_EQ(heard.events, expected) << "in pieces of " << piece;
        EXPECT_FALSE(heard.partial);
    }
}

TEST(Sse, an_unfinished_event_is_not_reported_but_known) {
    const Heard heard = hear("data: one\n\ndata: tw", 3);
    EXPECT_EQ(heard.events, std::vector<std::string>{"message|one|"});
    EXPECT_TRUE(heard.partial);
    EXPECT_TRUE(hear("data: two\n", 100).partial);
}

TEST(Sse, refuses_an_endless_event) {
    SseReader reader(1000);
    Status status;
    for (int i = 0; i < 200 && status; ++i) {
        status = reader.feed("data: 0123456789\n", [](const SseEvent&) -> Status { return {}; });
    }
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::format);
    SseReader lines(1000);
    EXPECT_FALSE(lines.feed(std::string(2000, 'x'), [](const SseEvent&) -> Status { return {}; }));
}

TEST(Sse, what_is_framed_is_read_back) {
    for (const std::string data : {"", "x", "a\nb", "\n", "trailing\n", " leading space"}) {
        SseReader reader;
        std::vector<std::string> got;
        ASSERT_TRUE(reader.feed(sse_frame(data), [&](const SseEvent& event) -> Status {
            got.push_back(event.data);
            return {};
        }));
        EXPECT_EQ(got, std::vector<std::string>{data});
    }
}

TEST(Sse, an_error_of_the_listener_ends_the_reading) {
    SseReader reader;
    int calls = 0;
    const Status status = reader.feed("data: a\n\ndata: b\n\n", [&](const SseEvent&) -> Status {
        ++calls;
        return fail(ErrorCode::cancelled, "enough");
    });
    EXPECT_FALSE(status);
    EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace retort::http
