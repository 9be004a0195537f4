// What passes through of another server's answer.
#include "serve/upstream.h"

#include <gtest/gtest.h>

#include <string>

#include "serve/upstream_answer.h"

namespace retort::serve {
namespace {

const std::string content = R"(data: {"choices":[{"index":0,"delta":{"content":"a"}}]})"
                            "\n\n";
const std::string usage =
    R"(data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":2}}})"
    "\n\n";

TEST(UpstreamAnswer, PassesWholeFramesWhereverTheBytesAreCut) {
    const std::string all = ": keep-alive\n\n" + content + content + usage + "data: [DONE]\n\n";
    for (std::size_t step = 1; step < all.size(); ++step) {
        UpstreamAnswer answer(ReasoningAccess::full, false, 50);
        std::string out;
        for (std::size_t at = 0; at < all.size(); at += step) {
            const std::string piece = answer.frames(all.substr(at, step));
            EXPECT_TRUE(piece.empty() || piece.ends_with("\n\n"));
            out += piece;
        }
        ASSERT_EQ(out, all);
        ASSERT_TRUE(answer.is_told() && answer.is_done());
        ASSERT_EQ(answer.use().prompt_tokens, 3);
        ASSERT_EQ(answer.use().cached_tokens, 2);
        ASSERT_EQ(answer.use().completion_tokens, 9);
    }
}

TEST(UpstreamAnswer, HidesTheUsageThatOnlyWeAskedFor) {
    UpstreamAnswer answer(ReasoningAccess::full, true, 50);
    EXPECT_EQ(answer.frames(content + usage), content);
    EXPECT_TRUE(answer.is_told());
    EXPECT_EQ(ask_for_usage(R"({"stream":true,"stream_options":{"x":1}})"),
              R"({"stream":true,"stream_options":{"x":1,"include_usage":true}})");
}

TEST(UpstreamAnswer, CountsFramesUntilItIsTold) {
    UpstreamAnswer answer(ReasoningAccess::full, true, 50);
    (void)answer.frames(content + content + "data: {\"cho");
    EXPECT_FALSE(answer.is_told());
    EXPECT_EQ(answer.use().prompt_tokens, 50);
    EXPECT_EQ(answer.use().completion_tokens, 2);
    EXPECT_EQ(answer.rest(), "data: {\"cho");
}

TEST(UpstreamAnswer, ShowsReasoningAsThePlanHasIt) {
    const auto frame = [](const std::string& delta) {
        return R"(data: {"choices":[{"index":0,"delta":)" + delta + "}]}\n\n";
    };
    const std::string stream = frame(R"({"reasoning_content":"One. Two."})") +
                               frame(R"({"reasoning_content":" Three."})") + frame(R"({"content":"x"})");
    UpstreamAnswer withheld(ReasoningAccess::withheld, false, 0);
    const std::string hidden = withheld.frames(stream);
    EXPECT_EQ(hidden.find("One"), std::string::npos);
    EXPECT_NE(hidden.find(R"("content":"x")"), std::string::npos);
    UpstreamAnswer summarised(ReasoningAccess::summarised, false, 0);
    const std::string summary = summarised.frames(stream);
    EXPECT_NE(summary.find("One. … Three."), std::string::npos) << summary;
    EXPECT_EQ(summary.find("Two"), std::string::npos);
    const std::string body =
        R"({"choices":[{"message":{"content":"x","reasoning":"One. Two. Three."}}],"usage":{"completion_tokens":4}})";
    UpstreamAnswer whole(ReasoningAccess::withheld, false, 7);
    EXPECT_EQ(whole.whole(body),
              R"({"choices":[{"message":{"content":"x"}}],"usage":{"completion_tokens":4}})");
    EXPECT_EQ(whole.use().completion_tokens, 4);
    EXPECT_EQ(UpstreamAnswer(ReasoningAccess::full, false, 7).whole(body), body);
}

TEST(UpstreamAnswer, AnErrorIsReadNotGuessed) {
    EXPECT_TRUE(is_error_answer(R"({"error": {"message": "busy"}})"));
    EXPECT_TRUE(is_error_answer(R"({"error": "busy"})"));
    for (const char* other : {"", "{}", "[]", "<p>\"error\"</p>", R"({"note": "\"error\""})",
                              R"({"error": null})", R"({"x": {"error": {}}})", R"({"error": {)"}) {
        EXPECT_FALSE(is_error_answer(other)) << other;
    }
}

TEST(Upstream, ReadsItsAddress) {
    const auto server = parse_upstream("http://127.0.0.1:8000/v1,weight=3");
    ASSERT_TRUE(server) << server.error().message;
    EXPECT_EQ(server->weight, 3);
    EXPECT_EQ(server->url.target, "/v1");
    for (const char* bad : {"127.0.0.1", "ftp://x/", "http://x/,weight=0", "http://x/,weight=3x",
                            "http://x/,w=3", "http://user:secret@x/", "http://x/?a=b"}) {
        const auto refused = parse_upstream(bad);
        ASSERT_FALSE(refused) << bad;
        EXPECT_EQ(refused.error().message.find("secret"), std::string::npos);
    }
}

}  // namespace
}  // namespace retort::serve
