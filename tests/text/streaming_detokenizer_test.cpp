#include "text/streaming_detokenizer.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "formats/json.h"
#include "text/unicode.h"

namespace retort::text {
namespace {

using formats::Json;

// One token for each byte in the byte alphabet, "hi", and a special token.
Tokenizer byte_level() {
    Json vocabulary = Json::object();
    // Latin-1's printable characters stand for themselves, the other bytes for U+0100 onwards.
    int next = 0x100;
    for (int b = 0; b < 256; ++b) {
        const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        std::string text;
        append_utf8(text, static_cast<char32_t>(printable ? b : next++));
        vocabulary[text] = b;
    }
    vocabulary["hi"] = 256;
    const Json json = {
        {"added_tokens", {{{"id", 257}, {"content", "<|end|>"}, {"special", true}}}},
        {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
        {"decoder", {{"type", "ByteLevel"}}},
        {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", {"h i"}}}}};
    auto tokenizer = Tokenizer::from_json(json.dump());
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return *tokenizer;
}

Tokenizer sentencepiece() {
    Json vocabulary = {{"<unk>", 0},
                       {"\xE2\x96\x81", 1},
                       {"a", 2},
                       {"\xE2\x96\x81"
                        "a",
                        3}};
    for (int b = 0; b < 256; ++b) vocabulary[fmt::format("<0x{:02X}>", b)] = 4 + b;
    Json decoders = {{{"type", "Replace"}, {"pattern", {{"String", "\xE2\x96\x81"}}}, {"content", " "}},
                     {{"type", "ByteFallback"}},
                     {{"type", "Fuse"}},
                     {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}};
    const Json json = {
        {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\xE2\x96\x81"}}},
        {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}},
        {"model",
         {{"type", "BPE"},
          {"vocab", vocabulary},
          {"merges", {"\xE2\x96\x81 a"}},
          {"unk_token", "<unk>"},
          {"byte_fallback", true},
          {"fuse_unk", true}}}};
    auto tokenizer = Tokenizer::from_json(json.dump());
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return *tokenizer;
}

std::string stream(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids,
                   bool skip_special = true) {
    StreamingDetokenizer detokenizer(tokenizer, skip_special);
    std::string all;
    for (const std::int32_t id : ids) {
        const std::string piece = detokenizer.push(id);
        EXPECT_TRUE(is_valid_utf8(piece));
        all += piece;
    }
    return all + detokenizer.finish();
}

TEST(StreamingDetokenizer, HoldsACharacterBackUntilItIsWhole) {
    StreamingDetokenizer detokenizer(byte_level());
    EXPECT_EQ(detokenizer.push(256), "hi");
    EXPECT_EQ(detokenizer.push(0xF0), "");
    EXPECT_EQ(detokenizer.push(0x9F), "");
    EXPECT_EQ(detokenizer.push(0x98), "");
    EXPECT_EQ(detokenizer.push(0x80), "\U0001F600");
    EXPECT_EQ(detokenizer.push(257), "");
    EXPECT_EQ(detokenizer.push(0xC3), "");
    EXPECT_EQ(detokenizer.push('x'), "\uFFFDx");
    EXPECT_EQ(detokenizer.push(0xE4), "");
    EXPECT_EQ(detokenizer.push(0xBD), "");
    EXPECT_EQ(detokenizer.finish(), "\uFFFD");
    EXPECT_EQ(detokenizer.finish(), "");
}

TEST(StreamingDetokenizer, SpecialTokensOnRequest) {
    EXPECT_EQ(stream(byte_level(), {256, 257, 256}, false), "hi<|end|>hi");
    EXPECT_EQ(stream(byte_level(), {256, 257, 256}, true), "hihi");
}

TEST(StreamingDetokenizer, GivesWhatDecodeGivesForRandomBytes) {
    const Tokenizer tokenizer = byte_level();
    base::RandomStream random(11);
    for (int round = 0; round < 500; ++round) {
        std::vector<std::int32_t> ids;
        for (int i = 0; i < 40; ++i) {
            // Mostly the bytes that characters of several bytes are made of.
            ids.push_back(static_cast<std::int32_t>(random.below(3) == 0 ? random.below(258)
                                                                         : 0x80 + random.below(0x80)));
        }
        ASSERT_EQ(stream(tokenizer, ids), tokenizer.decode(ids, true));
    }
}

TEST(StreamingDetokenizer, DropsTheFirstSpaceOfSentencePieceOnly) {
    const Tokenizer tokenizer = sentencepiece();
    EXPECT_TRUE(tokenizer.strips_leading_space());
    EXPECT_EQ(stream(tokenizer, {3, 3, 2}), "a aa");
    EXPECT_EQ(stream(tokenizer, {1, 3}), " a");
    EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{3, 3, 2}), "a aa");
    EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{1, 3}), " a");
    // ä as two <0xNN> tokens, then a lone byte.
    EXPECT_EQ(stream(tokenizer, {4 + 0xC3, 4 + 0xA4, 2, 4 + 0xC3}), "\u00E4a\uFFFD");
    EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{4 + 0xC3, 4 + 0xA4, 2, 4 + 0xC3}), "\u00E4a\uFFFD");
    EXPECT_EQ(stream(tokenizer, {4 + 0xE4, 4 + 0xBD, 2}),
              tokenizer.decode(std::vector<std::int32_t>{4 + 0xE4, 4 + 0xBD, 2}));
}

}  // namespace
}  // namespace retort::text
