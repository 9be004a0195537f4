#include "generate/text_generation.h"

#include <gtest/gtest.h>

#include "../serve/fake_engine.h"

namespace retort::generate {
namespace {

using test::FakeEngine;
using test::tokens_of;

std::string through(StopMatcher matcher, const std::vector<std::string>& pieces) {
    std::string out;
    for (const std::string& piece : pieces) out += matcher.push(piece);
    return out + (matcher.stopped() ? "|" : matcher.finish());
}

TEST(StopMatcher, finds_a_stop_however_the_text_is_cut) {
    const std::string text = "one two\n\nthree";
    for (std::size_t piece = 1; piece <= text.size(); ++piece) {
        std::vector<std::string> pieces;
        for (std::size_t at = 0; at < text.size(); at += piece) pieces.push_back(text.substr(at, piece));
        EXPECT_EQ(through(StopMatcher({"\n\n"}), pieces), "one two|") << piece;
        EXPECT_EQ(through(StopMatcher({"three", "two"}), pieces), "one |") << piece;
        EXPECT_EQ(through(StopMatcher({"four", "threee"}), pieces), text) << piece;
        EXPECT_EQ(through(StopMatcher(), pieces), text) << piece;
    }
}

TEST(StopMatcher, holds_back_only_what_may_be_a_beginning) {
    StopMatcher matcher({"aab", "END"});
    EXPECT_EQ(matcher.push("xa"), "x");
    EXPECT_EQ(matcher.push("a"), "");   // "aa" may go on
    EXPECT_EQ(matcher.push("a"), "a");  // "aaa": its last two may go on
    EXPECT_EQ(matcher.push("EN"), "aa");
    EXPECT_EQ(matcher.push("d"), "ENd");
    EXPECT_EQ(matcher.push("aab!"), "");
    EXPECT_TRUE(matcher.stopped());
    EXPECT_EQ(matcher.push("more"), "");
    EXPECT_EQ(matcher.finish(), "");
}

std::string split(std::string_view text, std::size_t piece, bool inside) {
    ReasoningSplitter splitter(inside);
    ReasoningSplitter::Parts all;
    const auto add = [&](const ReasoningSplitter::Parts& parts) {
        all.reasoning += parts.reasoning;
        all.content += parts.content;
    };
    for (std::size_t at = 0; at < text.size(); at += piece) add(splitter.push(text.substr(at, piece)));
    add(splitter.finish());
    return all.reasoning + "|" + all.content;
}

TEST(ReasoningSplitter, tells_reasoning_from_answer_however_the_text_is_cut) {
    struct Case {
        const char* text;
        bool inside;
        const char* expected;
    };
    for (const Case& c : {
             Case{"<think>\nhm, a < b\n\nso\n</think>\n\nYes.\n", false, "hm, a < b\n\nso|Yes.\n"},
             Case{"hm\n</think>\nYes.", true, "hm|Yes."},
             Case{"Yes, <think> is a tag</think>.", false, "|Yes, <think> is a tag</think>."},
             Case{"\n <think>x</think>y", false, "x|y"},
             Case{"<think>\n\n</think>\n\nplain", false, "|plain"},
             Case{"<think>never ends\n", false, "never ends\n|"},
             Case{"<thin", false, "|<thin"},
             Case{"a</think>b</think>c", true, "a|b</think>c"},
             Case{"", false, "|"},
             Case{"  x", false, "|  x"},
         }) {
        const std::string text = c.text;
        for (std::size_t piece = 1; piece <= text.size() + 1; ++piece) {
            EXPECT_EQ(split(text, piece, c.inside), c.expected) << text << " in pieces of " << piece;
        }
    }
}

struct Said {
    std::string content;
    std::string reasoning;
    std::vector<std::string> deltas;
    std::string tokens;
    Result<TextCompletion> completion;
};

Said say(std::vector<std::int32_t> script, TextRequest request) {
    FakeEngine engine([&](const Request&) { return script; }, {});
    request.tokens.prompt = {1, 2, 3};
    request.tokens.stop_tokens = {test::end_token};
    Said said;
    const text::Tokenizer tokenizer = test::byte_tokenizer();
    said.completion = generate_text(engine, tokenizer, std::move(request), [&](const TextDelta& delta) {
        said.content += delta.content;
        said.reasoning += delta.reasoning;
        said.deltas.push_back(delta.content + delta.reasoning);
        for (const TokenEvent& event : delta.tokens) said.tokens += tokenizer.token_bytes(event.token);
        return true;
    });
    return said;
}

TEST(TextGeneration, never_cuts_a_character) {
    const Said said = say(tokens_of("a\u00e9\u20ac\U0001F600b"), {});
    ASSERT_TRUE(said.completion);
    EXPECT_EQ(said.deltas, (std::vector<std::string>{"a", "\u00e9", "\u20ac", "\U0001F600", "b"}));
    EXPECT_EQ(said.completion->completion.finish_reason, FinishReason::stop);
    EXPECT_EQ(said.completion->completion.completion_tokens, 11);
    const Said cut = say(tokens_of("ab\xe2\x82"), {});
    EXPECT_EQ(cut.content, "ab\uFFFD");
}

TEST(TextGeneration, a_stop_string_ends_the_answer_across_tokens_and_with_its_tokens) {
    TextRequest request;
    request.stops = {"\n\n"};
    request.tokens.top_logprobs = 0;
    const Said said = say(tokens_of("one\ntwo\n\nthree"), request);
    ASSERT_TRUE(said.completion);
    EXPECT_EQ(said.content, "one\ntwo");
    EXPECT_EQ(said.tokens, "one\ntwo");
    EXPECT_EQ(said.completion->completion.finish_reason, FinishReason::stop);
    EXPECT_EQ(said.completion->completion.completion_tokens, 9);  // what the model made, its stop included

    const Said held = say(tokens_of("one\n"), request);  // ends while the line end is held back
    EXPECT_EQ(held.content, "one\n");
    EXPECT_EQ(held.tokens, "one\n");
}

TEST(TextGeneration, the_limit_is_told_from_the_end) {
    TextRequest request;
    request.tokens.max_tokens = 3;
    const Said said = say(tokens_of("abcdef"), request);
    EXPECT_EQ(said.content, "abc");
    EXPECT_EQ(said.completion->completion.finish_reason, FinishReason::length);
    std::vector<std::int32_t> script = tokens_of("abc");
    script.push_back(test::end_token);
    script.push_back('d');
    EXPECT_EQ(say(script, {}).content, "abc");
}

TEST(TextGeneration, think_tags_are_split_off_and_counted) {
    std::vector<std::int32_t> script = {test::think_token};
    for (const std::int32_t token : tokens_of("\nhm\n")) script.push_back(token);
    script.push_back(test::end_think_token);
    for (const std::int32_t token : tokens_of("\n\nyes")) script.push_back(token);
    TextRequest request;
    request.split_reasoning = true;
    const Said said = say(script, request);
    ASSERT_TRUE(said.completion);
    EXPECT_EQ(said.reasoning, "hm");
    EXPECT_EQ(said.content, "yes");
    EXPECT_EQ(said.completion->reasoning_tokens, 5);  // "\nhm\n" and the closing tag
    request.split_reasoning = false;
    EXPECT_EQ(say(script, request).content, "<think>\nhm\n</think>\n\nyes");
}

TEST(TextGeneration, ends_when_the_listener_has_had_enough) {
    FakeEngine engine([](const Request&) { return std::vector<std::int32_t>(10'000, 'x'); },
                      {std::chrono::microseconds(0), 100'000});
    TextRequest request;
    request.tokens.prompt = {1};
    request.tokens.max_tokens = 10'000;
    int heard = 0;
    const auto done =
        generate_text(engine, test::byte_tokenizer(), request, [&](const TextDelta&) { return ++heard < 5; });
    ASSERT_TRUE(done);
    EXPECT_EQ(heard, 5);
    EXPECT_EQ(done->completion.finish_reason, FinishReason::cancelled);
}

}  // namespace
}  // namespace retort::generate
