// What passes through of another server's answer.
#include "serve/upstream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "serve/upstream_answer.h"

namespace retort::serve {
namespace {

const std::string content = R"(data: {"choices":[{"index":0,"delta":{"content":"a"}}]})"
                            "\n\n";
const std::string usage =
    R"(data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":2}}})"
    "\n\n";

AnswerRules rules(ReasoningAccess reasoning, bool hide_usage, std::int64_t prompt_guess,
                  std::shared_ptr<const ProtectedWorks> works = nullptr) {
    AnswerRules out;
    out.reasoning = reasoning;
    out.hide_usage = hide_usage;
    out.prompt_guess = prompt_guess;
    out.works = std::move(works);
    return out;
}

std::string frame_of(const nlohmann::json& choice, const nlohmann::json& more = nlohmann::json::object()) {
    nlohmann::json json = {{"choices", {choice}}};
    json.update(more);
    return "data: " + json.dump() + "\n\n";
}

TEST(UpstreamAnswer, PassesWholeFramesWhereverTheBytesAreCut) {
    const std::string all = ": keep-alive\n\n" + content + content + usage + "data: [DONE]\n\n";
    for (std::size_t step = 1; step < all.size(); ++step) {
        UpstreamAnswer answer(rules(ReasoningAccess::full, false, 50));
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
    UpstreamAnswer answer(rules(ReasoningAccess::full, true, 50));
    EXPECT_EQ(answer.frames(content + usage), content);
    EXPECT_TRUE(answer.is_told());
    EXPECT_EQ(ask_for_usage(R"({"stream":true,"stream_options":{"x":1}})", false),
              R"({"stream":true,"stream_options":{"x":1,"include_usage":true}})");
}

TEST(UpstreamAnswer, CountsFramesUntilItIsTold) {
    UpstreamAnswer answer(rules(ReasoningAccess::full, true, 50));
    (void)answer.frames(content + content + "data: {\"cho");
    EXPECT_FALSE(answer.is_told());
    EXPECT_EQ(answer.use().prompt_tokens, 50);
    EXPECT_EQ(answer.use().completion_tokens, 2);
    EXPECT_EQ(answer.rest(), "data: {\"cho");
}

TEST(UpstreamAnswer, AFrameThatSaysNothingIsNoToken) {
    UpstreamAnswer answer(rules(ReasoningAccess::full, true, 50));
    (void)answer.frames(frame_of({{"delta", {{"role", "assistant"}, {"content", ""}}}}));
    (void)answer.frames(frame_of({{"delta", {{"content", nullptr}}}, {"finish_reason", "stop"}}));
    EXPECT_EQ(answer.use().completion_tokens, 0);
    (void)answer.frames(
        frame_of({{"delta", {{"tool_calls", {{{"index", 0}, {"function", {{"arguments", "{"}}}}}}}}}));
    EXPECT_EQ(answer.use().completion_tokens, 1);
}

// A stream in which a chunk has several tokens, as vLLM tells them; broken off after any frame.
TEST(UpstreamAnswer, UseSoFarIsExactWhereverAStreamBreaksOff) {
    const auto chunk = [](std::int64_t tokens) {
        return frame_of({{"index", 0}, {"delta", {{"content", "many words"}}}, {"finish_reason", nullptr}},
                        {{"usage", {{"prompt_tokens", 21}, {"completion_tokens", tokens}}}});
    };
    for (const bool client_asked : {false, true}) {
        AnswerRules asked = rules(ReasoningAccess::full, !client_asked, 50);
        asked.hide_running = true;
        UpstreamAnswer answer(asked);
        EXPECT_EQ(answer.use().completion_tokens, 0);
        std::string heard;
        for (const std::int64_t tokens : {5, 9, 14}) {
            heard += answer.frames(chunk(tokens));
            EXPECT_EQ(answer.use().prompt_tokens, 21);
            EXPECT_EQ(answer.use().completion_tokens, tokens);
        }
        EXPECT_EQ(heard.find("completion_tokens"), std::string::npos) << heard;
        EXPECT_EQ(heard.find("\"usage\":null") != std::string::npos, client_asked) << heard;
        EXPECT_EQ(answer.frames(usage).empty(), !client_asked);
        EXPECT_EQ(answer.use().completion_tokens, 9);
    }
    // A server that tells the prompt's use first and nothing until the end: frames count from there.
    UpstreamAnswer once(rules(ReasoningAccess::full, true, 50));
    (void)once.frames(chunk(1) + content + content);
    EXPECT_EQ(once.use().completion_tokens, 3);
    EXPECT_EQ(once.use().prompt_tokens, 21);
}

TEST(UpstreamAnswer, ReadsTheTimingsOfLlamaServer) {
    AnswerRules asked = rules(ReasoningAccess::full, true, 50);
    asked.hide_running = true;
    UpstreamAnswer answer(asked);
    const nlohmann::json timings = {{"timings", {{"cache_n", 4}, {"prompt_n", 7}, {"predicted_n", 3}}}};
    const std::string heard =
        answer.frames(frame_of({{"delta", {{"content", "a"}}}, {"finish_reason", nullptr}}, timings));
    EXPECT_EQ(heard.find("timings"), std::string::npos);
    EXPECT_EQ(answer.use().prompt_tokens, 11);
    EXPECT_EQ(answer.use().cached_tokens, 4);
    EXPECT_EQ(answer.use().completion_tokens, 3);
    // Its last chunk has them unasked.
    const std::string last =
        answer.frames(frame_of({{"delta", nlohmann::json::object()}, {"finish_reason", "stop"}}, timings));
    EXPECT_NE(last.find("timings"), std::string::npos);
}

// A token a word.
class Words : public TokenCounter {
  public:
    [[nodiscard]] std::int64_t count(std::string_view text) const override {
        return text.empty() ? 0 : 1 + std::count(text.begin(), text.end(), ' ');
    }
    [[nodiscard]] std::int64_t count_prompt(std::string_view) const override { return 8; }
};

TEST(UpstreamAnswer, CountsWithATokenizerWhatIsNotTold) {
    AnswerRules counted = rules(ReasoningAccess::full, true, 50);
    counted.tokens = std::make_shared<Words>();
    UpstreamAnswer answer(counted);
    const std::string stream =
        frame_of({{"index", 0}, {"delta", {{"reasoning_content", "of three words"}}}}) +
        frame_of({{"index", 1}, {"delta", {{"content", "two wo"}}}}) +
        frame_of({{"index", 1}, {"delta", {{"content", "rds"}}}});
    EXPECT_EQ(answer.frames(stream), stream);
    EXPECT_EQ(answer.use().completion_tokens, 5);
    (void)answer.frames(usage);
    EXPECT_EQ(answer.use().completion_tokens, 9);
    const std::string body = R"({"choices":[{"message":{"content":"of three words"}}]})";
    UpstreamAnswer whole(counted);
    EXPECT_EQ(whole.whole(body), body);
    EXPECT_EQ(whole.use().completion_tokens, 3);
    // Without one a whole answer that tells nothing is guessed like a prompt, from above.
    UpstreamAnswer guessed(rules(ReasoningAccess::full, true, 50));
    EXPECT_EQ(guessed.whole(body), body);
    EXPECT_EQ(guessed.use().completion_tokens, 14 / 3 + 1);
}

// What a client puts together of a choice's reasoning and content.
std::pair<std::string, std::string> parts_of(const std::string& stream, std::int64_t index = 0) {
    std::pair<std::string, std::string> out;
    for (std::size_t at = stream.find("data: {"); at != std::string::npos;
         at = stream.find("data: {", at + 1)) {
        const auto json = nlohmann::json::parse(stream.substr(at + 6, stream.find("\n\n", at) - at - 6));
        for (const auto& choice : json["choices"]) {
            if (choice.value("index", 0) != index) continue;
            out.first += choice["delta"].value("reasoning_content", "");
            if (choice["delta"].contains("content"))
                out.second += choice["delta"]["content"].get<std::string>();
        }
    }
    return out;
}

TEST(UpstreamAnswer, ThinkTagsAreTakenOutWhereverTheyAreCut) {
    const std::string text = "<think>\nA < b, so it is.\n</think>\n\nIt is </think> so.";
    const std::pair<std::string, std::string> expected = {"A < b, so it is.", "It is </think> so."};
    for (const bool opened : {false, true}) {
        const std::string sent = opened ? text.substr(8) : text;
        AnswerRules tags = rules(ReasoningAccess::full, false, 0);
        tags.think = opened ? ThinkTags::opened : ThinkTags::split;
        tags.choices = 2;
        for (std::size_t step = 1; step <= sent.size(); ++step) {
            std::string stream;
            for (std::size_t at = 0; at < sent.size(); at += step) {
                stream += frame_of({{"index", 0}, {"delta", {{"content", sent.substr(at, step)}}}});
                if (!opened) stream += frame_of({{"index", 1}, {"delta", {{"content", " < plain"}}}});
            }
            const std::string end =
                step % 2 == 0
                    ? frame_of({{"index", 0}, {"delta", nlohmann::json::object()}, {"finish_reason", "stop"}})
                    : std::string();
            UpstreamAnswer answer(tags);
            std::string heard = answer.frames(stream + end + usage + "data: [DONE]\n\n") + answer.rest();
            ASSERT_EQ(parts_of(heard), expected) << step << heard;
            if (!opened) {
                ASSERT_TRUE(parts_of(heard, 1).second.starts_with(" < plain"));
            }
            // Broken off within the reasoning: what is held comes all the same.
            UpstreamAnswer broken(tags);
            heard = broken.frames(frame_of({{"index", 0}, {"delta", {{"content", sent.substr(0, 14)}}}})) +
                    broken.rest();
            ASSERT_EQ(parts_of(heard).first, opened ? "A < b, so it i" : "A < b,");
        }
        const nlohmann::json body = {{"choices", {{{"message", {{"content", sent}}}}}}};
        const auto whole = nlohmann::json::parse(UpstreamAnswer(tags).whole(body.dump()));
        EXPECT_EQ(whole["choices"][0]["message"]["reasoning_content"], expected.first);
        EXPECT_EQ(whole["choices"][0]["message"]["content"], expected.second);
    }
    // Left alone where that is asked for, and where the server tells reasoning apart by itself.
    const std::string alone = frame_of({{"index", 0}, {"delta", {{"content", "<think>a</think>b"}}}});
    EXPECT_EQ(UpstreamAnswer(rules(ReasoningAccess::full, false, 0)).frames(alone), alone);
    AnswerRules tags = rules(ReasoningAccess::full, false, 0);
    tags.think = ThinkTags::opened;
    const std::string apart = frame_of({{"index", 0}, {"delta", {{"reasoning_content", "a"}}}}) +
                              frame_of({{"index", 0}, {"delta", {{"content", "b"}}}});
    EXPECT_EQ(UpstreamAnswer(tags).frames(apart), apart);
}

TEST(UpstreamAnswer, ReasoningInTagsIsHiddenLikeAnyOther) {
    AnswerRules tags = rules(ReasoningAccess::withheld, false, 0);
    tags.think = ThinkTags::split;
    const std::string stream =
        frame_of({{"index", 0},
                  {"delta", {{"content", "<think>secr"}}},
                  {"logprobs", {{"content", {{{"token", "secr"}}}}}}}) +
        frame_of({{"index", 0},
                  {"delta", {{"content", "et</think>ope"}}},
                  {"logprobs", {{"content", {{{"token", "et"}}}}}}}) +
        frame_of(
            {{"index", 0}, {"delta", {{"content", "n"}}}, {"logprobs", {{"content", {{{"token", "n"}}}}}}});
    const std::string heard = UpstreamAnswer(tags).frames(stream);
    EXPECT_EQ(heard.find("secr"), std::string::npos) << heard;
    EXPECT_EQ(heard.find("\"et"), std::string::npos) << heard;
    EXPECT_EQ(parts_of(heard), std::pair(std::string(), std::string("open")));
    EXPECT_NE(heard.find(R"("token":"n")"), std::string::npos);
    const nlohmann::json body = {{"choices",
                                  {{{"message", {{"content", "<think>secret</think>open"}}},
                                    {"logprobs", {{"content", {{{"token", "secret"}}}}}}}}}};
    EXPECT_EQ(UpstreamAnswer(tags).whole(body.dump()).find("secret"), std::string::npos);
}

TEST(UpstreamAnswer, ShowsReasoningAsThePlanHasIt) {
    const auto frame = [](const std::string& delta) {
        return R"(data: {"choices":[{"index":0,"delta":)" + delta + "}]}\n\n";
    };
    const std::string stream = frame(R"({"reasoning_content":"One. Two."})") +
                               frame(R"({"reasoning_content":" Three."})") + frame(R"({"content":"x"})");
    UpstreamAnswer withheld(rules(ReasoningAccess::withheld, false, 0));
    const std::string hidden = withheld.frames(stream);
    EXPECT_EQ(hidden.find("One"), std::string::npos);
    EXPECT_NE(hidden.find(R"("content":"x")"), std::string::npos);
    UpstreamAnswer summarised(rules(ReasoningAccess::summarised, false, 0));
    const std::string summary = summarised.frames(stream);
    EXPECT_NE(summary.find("One. … Three."), std::string::npos) << summary;
    EXPECT_EQ(summary.find("Two"), std::string::npos);
    const std::string body =
        R"({"choices":[{"message":{"content":"x","reasoning":"One. Two. Three."}}],"usage":{"completion_tokens":4}})";
    UpstreamAnswer whole(rules(ReasoningAccess::withheld, false, 7));
    EXPECT_EQ(whole.whole(body),
              R"({"choices":[{"message":{"content":"x"}}],"usage":{"completion_tokens":4}})");
    EXPECT_EQ(whole.use().completion_tokens, 4);
    EXPECT_EQ(UpstreamAnswer(rules(ReasoningAccess::full, false, 7)).whole(body), body);
}

TEST(UpstreamAnswer, AnErrorIsReadNotGuessed) {
    EXPECT_TRUE(is_error_answer(R"({"error": {"message": "busy"}})"));
    EXPECT_TRUE(is_error_answer(R"({"error": "busy"})"));
    for (const char* other : {"", "{}", "[]", "<p>\"error\"</p>", R"({"note": "\"error\""})",
                              R"({"error": null})", R"({"x": {"error": {}}})", R"({"error": {)"}) {
        EXPECT_FALSE(is_error_answer(other)) << other;
    }
}

std::shared_ptr<const ProtectedWorks> ten_words_of_greek() {
    const std::filesystem::path folder =
        std::filesystem::path(::testing::TempDir()) / "retort_upstream_works";
    std::filesystem::remove_all(folder);
    auto builder = screen::IndexBuilder::create({.output = folder});
    EXPECT_TRUE(builder);
    EXPECT_TRUE(builder->add(
        {"greek", "text", "0", "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi"}));
    EXPECT_TRUE(builder->commit());
    auto index = screen::Index::open(folder);
    EXPECT_TRUE(index);
    return std::make_shared<const ProtectedWorks>(
        ProtectedWorks{std::make_shared<const screen::Index>(std::move(*index)), {10, 0}});
}

// All text that a client puts together from a stream, and the reason it was told last.
std::pair<std::string, std::string> heard(const std::string& stream) {
    std::string text;
    std::string reason;
    for (std::size_t at = stream.find("data: {"); at != std::string::npos;
         at = stream.find("data: {", at + 1)) {
        const auto json = nlohmann::json::parse(stream.substr(at + 6, stream.find("\n\n", at) - at - 6));
        for (const auto& choice : json["choices"]) {
            EXPECT_EQ(reason, "") << "a choice goes on behind its end";
            const auto& delta = choice.contains("delta") ? choice["delta"] : choice;
            for (const char* name : {"reasoning_content", "content", "text"}) {
                if (delta.contains(name) && delta[name].is_string()) text += delta[name].get<std::string>();
            }
            for (const auto& call : delta.value("tool_calls", nlohmann::json::array()))
                text += call["function"]["arguments"].get<std::string>();
            if (choice.contains("finish_reason") && choice["finish_reason"].is_string())
                reason = choice["finish_reason"];
        }
    }
    return {text, reason};
}

TEST(UpstreamAnswer, CutsWhatRepeatsAWork) {
    const auto works = ten_words_of_greek();
    const std::string work = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi";
    const auto frame = [](const nlohmann::json& choice) {
        return "data: " + nlohmann::json{{"choices", {choice}}}.dump() + "\n\n";
    };
    // Pieces that end inside words, with a logprob each; reasoning ends with a word.
    for (const bool chat : {true, false}) {
        std::string stream;
        for (std::size_t at = 0; at < work.size(); at += 5) {
            nlohmann::json choice = {{"index", 0},
                                     {"logprobs", {{"content", {{{"token", work.substr(at, 5)}}}}}}};
            if (chat) {
                choice["delta"] = {{"content", work.substr(at, 5)}};
            } else {
                choice["text"] = work.substr(at, 5);
            }
            stream += frame(choice);
        }
        stream += frame({{"index", 0}, {"delta", nlohmann::json::object()}, {"finish_reason", "stop"}});
        UpstreamAnswer answer(rules(ReasoningAccess::full, false, 0, works));
        const std::string out = answer.frames(stream + usage + "data: [DONE]\n\n");
        EXPECT_EQ(out.find("lambda"), std::string::npos) << out;
        EXPECT_EQ(out.find("a lam"), std::string::npos) << "a logprob tells it";
        EXPECT_NE(out.find("completion_tokens"), std::string::npos);
        EXPECT_TRUE(out.ends_with("data: [DONE]\n\n"));
    }
    const auto streamed = [&](const std::string& text, bool reasoning) {
        std::string stream;
        const std::size_t border = text.find(' ', 20);
        for (std::size_t at = 0; at < text.size();) {
            const bool first = at < border;
            const std::size_t end = std::min(at + 5, first ? border : text.size());
            stream += frame(
                {{"index", 0},
                 {"delta",
                  {{reasoning && first ? "reasoning_content" : "content", text.substr(at, end - at)}}}});
            at = end;
        }
        stream += frame({{"index", 0}, {"delta", nlohmann::json::object()}, {"finish_reason", "stop"}});
        return heard(UpstreamAnswer(rules(ReasoningAccess::full, false, 0, works)).frames(stream));
    };
    EXPECT_EQ(streamed(work, false),
              std::pair(std::string("alpha beta gamma delta epsilon zeta eta theta iota kappa "),
                        std::string("content_filter")));
    EXPECT_EQ(streamed(work, true).second, "content_filter");
    const std::string own = "kappa iota theta eta zeta and words of its own";
    EXPECT_EQ(streamed(own, true), std::pair(own, std::string("stop")));
}

TEST(UpstreamAnswer, CutsWholeAnswersAndCalls) {
    const auto works = ten_words_of_greek();
    const auto whole = [&](const std::string& body) {
        return UpstreamAnswer(rules(ReasoningAccess::full, false, 0, works)).whole(body);
    };
    const std::string cut = whole(
        R"({"choices":[{"message":{"content":"alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu"},)"
        R"("logprobs":{"content":[{"token":"lambda"}]},"finish_reason":"stop"},)"
        R"({"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":)"
        R"("{\"a\":[\"alpha beta gamma delta epsilon\",\"zeta eta theta iota kappa lambda\"]}"}}]},"finish_reason":"tool_calls"}]})");
    EXPECT_EQ(cut.find("lambda"), std::string::npos) << cut;
    EXPECT_NE(cut.find("iota kappa\""), std::string::npos) << cut;
    const std::string own = R"({"choices":[{"message":{"content":"kappa iota"},"finish_reason":"stop"}]})";
    EXPECT_EQ(whole(own), own);
    const std::string error = R"({"error":{"message":"busy"}})";
    EXPECT_EQ(whole(error), error);
    // Calls of a stream leave when they are whole.
    const std::string call_frames =
        R"(data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"a\":"}}]}}]})"
        "\n\n"
        R"(data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"kappa\"}"}}]}}]})"
        "\n\n"
        R"(data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]})"
        "\n\n";
    UpstreamAnswer calls(rules(ReasoningAccess::full, false, 0, works));
    EXPECT_EQ(heard(calls.frames(call_frames)),
              std::pair(std::string(R"({"a":"kappa"})"), std::string("tool_calls")));
    EXPECT_EQ(UpstreamAnswer(rules(ReasoningAccess::full, false, 0, works)).frames("data: {oops\n\n"), "");
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
