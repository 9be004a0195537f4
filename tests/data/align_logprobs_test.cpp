// A teacher's logprobs for a student of another tokenizer.
#include "data/align_logprobs.h"

#include <gtest/gtest.h>

#include <cmath>

namespace retort::data {
namespace {

using formats::Json;

// Letters, and "he", "ll", "hell"; with special tokens, if wanted, behind them.
text::Tokenizer student(const std::vector<std::string>& special = {}) {
    Json vocab = Json::object();
    int id = 0;
    for (char c = 'a'; c <= 'z'; ++c) vocab[std::string(1, c)] = id++;
    for (const char* token : {"he", "ll", "hell"}) vocab[token] = id++;
    Json added = Json::array();
    for (const std::string& token : special) {
        added.push_back({{"id", id++},
                         {"content", token},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", true}});
    }
    const Json json = {
        {"version", "1.0"},
        {"truncation", nullptr},
        {"padding", nullptr},
        {"added_tokens", added},
        {"normalizer", nullptr},
        {"pre_tokenizer",
         {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
        {"post_processor", nullptr},
        {"decoder",
         {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
        {"model",
         {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", vocab},
          {"merges", {"h e", "l l", "he ll"}}}}};
    auto tokenizer = text::Tokenizer::from_json(formats::write_json(json));
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return *tokenizer;
}

Json entry(const std::string& token, double probability, const Json& others = Json::array()) {
    Json json = {{"token", token}, {"logprob", std::log(probability)}};
    if (!others.empty()) json["top_logprobs"] = others;
    return json;
}

// "q" is the prompt; the rest is trained.
Example example_of(const text::Tokenizer& tokenizer, const std::string& answer) {
    Example example;
    example.record_id = "r";
    example.tokens = tokenizer.encode("q");
    example.trained.assign(example.tokens.size(), 0);
    for (const std::int32_t id : tokenizer.encode(answer)) {
        example.tokens.push_back(id);
        example.trained.push_back(1);
    }
    return example;
}

TEST(AlignLogprobs, by_bytes_and_along_the_written_text) {
    const text::Tokenizer tokenizer = student();
    const Example example = example_of(tokenizer, "hello");
    ASSERT_EQ(example.tokens.size(), 3U);  // q, hell, o
    Record record;
    record.id = "r";
    // The teacher writes "he" and "llo"; it could have begun with "hell", "x", or what the student cannot
    // write in one token; the bytes of one alternative are given as numbers.
    record.logprobs =
        Json::array({entry("he", 0.5,
                           Json::array({entry("he", 0.5), entry("hell", 0.2),
                                        Json{{"token", "?"}, {"logprob", std::log(0.1)}, {"bytes", {120}}},
                                        entry("zzz", 0.05)})),
                     entry("llo", 0.4, Json::array({entry("llo", 0.4), entry("l", 0.3)}))});
    AlignmentSums sums;
    const TokenBytes ids(tokenizer);
    const auto entries = align_logprobs(record, example, ids, 20, sums);
    ASSERT_TRUE(entries) << entries.error().message;
    ASSERT_EQ(entries->tokens(), 2);
    ASSERT_EQ(entries->starts[1], 2);
    EXPECT_EQ(entries->ids[0], tokenizer.token_to_id("hell"));
    EXPECT_NEAR(entries->values[0], 0.5 * 0.4 + 0.2, 1e-6);  // written as he-llo, or as hell
    EXPECT_EQ(entries->ids[1], tokenizer.token_to_id("x"));
    EXPECT_NEAR(entries->values[1], 0.1, 1e-6);
    EXPECT_NEAR(entries->tails[0], 0.5, 1e-6);
    // No token of the teacher's begins at "o".
    EXPECT_EQ(entries->starts[2], 2);
    EXPECT_EQ(entries->tails[1], 1.0F);
    EXPECT_EQ(sums.tokens, 2);
    EXPECT_EQ(sums.aligned, 1);
    EXPECT_NEAR(sums.listed, 0.85, 1e-6);
    EXPECT_NEAR(sums.mapped, 0.5, 1e-6);
    // Only the likeliest are kept; the others are the tail's.
    const auto one = align_logprobs(record, example, ids, 1, sums);
    EXPECT_NEAR(one->tails[0], 0.6, 1e-6);
}

TEST(AlignLogprobs, a_shorter_student_token_takes_the_written_tokens_mass) {
    const text::Tokenizer tokenizer = student();
    const Example example = example_of(tokenizer, "hex");
    Record record;
    record.id = "r";
    record.logprobs = Json::array({entry("hex", 0.7, Json::array({entry("hex", 0.7), entry("he", 0.2)}))});
    AlignmentSums sums;
    const auto entries = align_logprobs(record, example, TokenBytes(tokenizer), 20, sums);
    ASSERT_TRUE(entries) << entries.error().message;
    EXPECT_EQ(entries->ids[0], tokenizer.token_to_id("he"));
    EXPECT_NEAR(entries->values[0], 0.9, 1e-6);
    EXPECT_EQ(entries->tails[1], 1.0F);
}

// "hello", and the student ends with "<end>".
Example ended_example(const text::Tokenizer& tokenizer) {
    Example example = example_of(tokenizer, "hello");
    example.tokens.push_back(tokenizer.token_to_id("<end>"));
    example.trained.push_back(1);
    return example;
}

TEST(AlignLogprobs, the_end_is_an_alternative_where_the_student_ends_so) {
    const text::Tokenizer tokenizer = student({"<start>", "<end>"});
    const Example example = ended_example(tokenizer);
    Record record;
    record.id = "r";
    record.content = "hello";
    record.finish_reason = "stop";
    record.logprobs = Json::array(
        {entry("hell", 0.5, Json::array({entry("hell", 0.5), entry("<end>", 0.2), entry("<start>", 0.1)})),
         entry("o", 0.4)});
    AlignmentSums sums;
    const auto entries = align_logprobs(record, example, TokenBytes(tokenizer), 20, sums);
    ASSERT_TRUE(entries) << entries.error().message;
    ASSERT_EQ(entries->tokens(), 3);
    ASSERT_EQ(entries->starts[1], 2);  // "<start>" is no token that it is trained to write
    EXPECT_EQ(entries->ids[1], tokenizer.token_to_id("<end>"));
    EXPECT_NEAR(entries->values[1], 0.2, 1e-6);
    // The end itself is not listed.
    EXPECT_EQ(entries->starts[3], entries->starts[2]);
    EXPECT_EQ(entries->tails[2], 1.0F);
    EXPECT_EQ(sums.aligned, 2);
}

TEST(AlignLogprobs, an_end_that_is_listed_is_the_students_by_whatever_name) {
    const text::Tokenizer tokenizer = student({"<start>", "<end>"});
    const Example example = ended_example(tokenizer);
    for (const std::string name : {"<end>", "<eot>", ""}) {
        Record record;
        record.id = "r";
        record.content = "hello";
        record.finish_reason = "stop";
        record.logprobs = Json::array(
            {entry("hell", 0.5, Json::array({entry("hell", 0.5), entry(name, 0.2)})), entry("o", 0.4),
             entry(name, 0.7, Json::array({entry(name, 0.7), entry("x", 0.1)}))});
        AlignmentSums sums;
        const auto entries = align_logprobs(record, example, TokenBytes(tokenizer), 20, sums);
        ASSERT_TRUE(entries) << entries.error().message;
        ASSERT_EQ(entries->tokens(), 3);
        EXPECT_EQ(entries->starts[1], name.empty() ? 1 : 2) << name;
        ASSERT_EQ(entries->starts[3] - entries->starts[2], 2) << name;
        const auto at = static_cast<std::size_t>(entries->starts[2]);
        EXPECT_EQ(entries->ids[at], tokenizer.token_to_id("<end>"));
        EXPECT_NEAR(entries->values[at], 0.7, 1e-6);
        EXPECT_EQ(entries->ids[at + 1], tokenizer.token_to_id("x"));
        EXPECT_EQ(sums.aligned, 3);
        // Cut off, it has no end; and what is listed there is text that the template left out.
        record.finish_reason = "length";
        const auto cut = align_logprobs(record, example, TokenBytes(tokenizer), 20, sums);
        ASSERT_TRUE(cut) << cut.error().message;
        EXPECT_EQ(cut->starts[3], cut->starts[2]) << name;
    }
    // A last token of the text that the template trimmed is no end.
    Record record;
    record.id = "r";
    record.content = "hello ";
    record.finish_reason = "stop";
    record.logprobs = Json::array({entry("hello", 0.5), entry(" ", 0.4)});
    AlignmentSums sums;
    const auto entries = align_logprobs(record, example, TokenBytes(tokenizer), 20, sums);
    ASSERT_TRUE(entries) << entries.error().message;
    EXPECT_EQ(entries->starts[3], entries->starts[2]);
}

TEST(AlignLogprobs, what_does_not_spell_the_answer_is_refused) {
    const text::Tokenizer tokenizer = student();
    const Example example = example_of(tokenizer, "hello");
    Record record;
    record.id = "r";
    AlignmentSums sums;
    const TokenBytes ids(tokenizer);
    EXPECT_FALSE(align_logprobs(record, example, ids, 20, sums));  // none
    record.logprobs = Json::array({entry("help", 0.5)});
    EXPECT_FALSE(align_logprobs(record, example, ids, 20, sums));
    record.logprobs = Json::array({Json{{"token", "hello"}, {"logprob", 2.0}}});
    EXPECT_FALSE(align_logprobs(record, example, ids, 20, sums));
    record.logprobs = Json::array({Json{{"token", "hello"}, {"logprob", -1.0}, {"bytes", {300}}}});
    EXPECT_FALSE(align_logprobs(record, example, ids, 20, sums));
}

}  // namespace
}  // namespace retort::data
