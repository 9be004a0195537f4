#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/file.h"
#include "formats/gguf_writer.h"
#include "formats/json.h"
#include "text/text_model.h"
#include "text/unicode.h"

namespace retort::text {
namespace {

namespace fs = std::filesystem;
using formats::Json;
using testing::HasSubstr;

// Small tokenizers of each supported shape, and what the `tokenizers` library gives for some documents:
// tests/golden/text_small_tokenizers.py.
const Json& golden() {
    static const Json json = Json::parse(*base::read_file(RETORT_TEST_DATA "/text/tokenizers.json"));
    return json;
}

// Documents are bytes, written as strings of U+0000 to U+00FF.
std::vector<std::string> documents() {
    std::vector<std::string> result;
    for (const Json& item : golden()["documents"]) {
        const auto text = item.get<std::string>();
        std::string& bytes = result.emplace_back();
        for (std::size_t at = 0; at < text.size();) {
            const Decoded c = decode_valid(text, at);
            bytes.push_back(static_cast<char>(c.point));
            at += c.length;
        }
    }
    return result;
}

using Ids = std::vector<std::int32_t>;

class Shapes : public testing::TestWithParam<std::string> {
  protected:
    void SetUp() override {
        auto loaded = Tokenizer::from_json(expected()["tokenizer"].dump(),
                                           R"({"bos_token": "<s>", "eos_token": "</s>"})");
        ASSERT_TRUE(loaded) << loaded.error().message;
        tokenizer_ = std::move(*loaded);
    }
    static const Json& expected() { return golden()["tokenizers"][GetParam()]; }
    const Tokenizer& tokenizer() const { return *tokenizer_; }

    void expect_ids_of(const Tokenizer& other) const {
        const std::vector<std::string> texts = documents();
        for (std::size_t i = 0; i < texts.size(); ++i)
            EXPECT_EQ(other.encode(texts[i]), expected()["ids"][i].get<Ids>()) << i;
    }

  private:
    std::optional<Tokenizer> tokenizer_;
};

TEST_P(Shapes, EncodesAsTokenizersDoes) {
    const std::vector<std::string> texts = documents();
    const std::size_t prefix = expected()["bare_prefix"];
    EXPECT_EQ(tokenizer().adds_bos(), prefix == 1);
    for (int round = 0; round < 2; ++round) {  // the second from the cache
        for (std::size_t i = 0; i < texts.size(); ++i) {
            Ids ids = expected()["ids"][i].get<Ids>();
            EXPECT_EQ(tokenizer().encode(texts[i]), ids) << "document " << i << ": " << texts[i];
            ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(prefix));
            EXPECT_EQ(tokenizer().encode(texts[i], {.add_special_tokens = false}), ids) << "document " << i;
        }
    }
}

TEST_P(Shapes, LeavesSpecialTokensOfUsersAsText) {
    const std::vector<std::string> texts = documents();
    for (std::size_t i = 0; i < expected()["without_special"].size(); ++i) {
        EXPECT_EQ(tokenizer().encode(texts[i], {.parse_special = false}),
                  expected()["without_special"][i].get<Ids>())
            << "document " << i << ": " << texts[i];
    }
}

TEST_P(Shapes, DecodesAsTokenizersDoes) {
    for (std::size_t i = 0; i < expected()["decoded"].size(); ++i) {
        const Ids ids = expected()["ids"][i].get<Ids>();
        EXPECT_EQ(tokenizer().decode(ids), expected()["decoded"][i].get<std::string>()) << i;
        if (i >= expected()["decoded_skipping"].size()) continue;
        EXPECT_EQ(tokenizer().decode(ids, true), expected()["decoded_skipping"][i].get<std::string>()) << i;
    }
}

TEST_P(Shapes, SurvivesBeingWrittenAsJson) {
    const auto json = tokenizer().to_tokenizer_json();
    ASSERT_TRUE(json) << json.error().message;
    const auto again = Tokenizer::from_json(*json, tokenizer().to_tokenizer_config_json());
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->hash(), tokenizer().hash());
    EXPECT_EQ(again->bos_id(), tokenizer().bos_id());
    EXPECT_EQ(again->eos_id(), tokenizer().eos_id());
    EXPECT_EQ(again->vocab_size(), tokenizer().vocab_size());
    expect_ids_of(*again);
}

// The shapes that a word of tokenizer.ggml.pre stands for come back from a GGUF file with the same ids; the
// others are refused.
TEST_P(Shapes, SurvivesBeingWrittenAsGguf) {
    const std::string name = GetParam();
    const std::int64_t padded = tokenizer().vocab_size() + 5;
    const auto metadata = tokenizer().to_gguf(padded, "{{ messages[0].content }}</s>");
    // Those of Metaspace come back in the other of the two ways to write the space, which differs beside
    // special tokens; stripped added tokens have no place in a GGUF file.
    if (name != "qwen2" && name != "llama3" && name != "llama2" && name != "smollm2" && name != "mistral3") {
        if (name != "tekken") {
            ASSERT_FALSE(metadata);
            EXPECT_EQ(metadata.error().code, ErrorCode::unsupported);
        }
        return;
    }
    ASSERT_TRUE(metadata) << metadata.error().message;
    const fs::path path = fs::temp_directory_path() / fmt::format("retort_text_{}_{}.gguf", ::getpid(), name);
    auto writer = formats::GgufWriter::create(path, *metadata, {});
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE(writer->commit());
    const auto model = load_text_model(path);
    fs::remove(path);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ(model->tokenizer.vocab_size(), tokenizer().vocab_size());
    EXPECT_EQ(model->tokenizer.adds_bos(), tokenizer().adds_bos());
    EXPECT_EQ(model->chat_template.source(), "{{ messages[0].content }}</s>");
    EXPECT_EQ(model->end_of_turn_tokens, Ids{tokenizer().eos_id()});
    if (name == "llama3" || name == "llama2") {
        expect_ids_of(model->tokenizer);
    } else {
        EXPECT_EQ(model->tokenizer.encode("Plain words, 42."), tokenizer().encode("Plain words, 42."));
    }
}

TEST_P(Shapes, ThreadsGiveTheSame) {
    const std::vector<std::string> texts = documents();
    std::vector<std::thread> threads;
    std::vector<int> wrong(4, 0);
    for (std::size_t t = 0; t < wrong.size(); ++t) {
        threads.emplace_back([&, t] {
            for (std::size_t i = 0; i < texts.size(); ++i) {
                if (tokenizer().encode(texts[i]) != expected()["ids"][i].get<Ids>()) ++wrong[t];
            }
        });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

std::vector<std::string> shape_names() {
    std::vector<std::string> names;
    for (const auto& [name, value] : golden()["tokenizers"].items()) names.push_back(name);
    return names;
}
INSTANTIATE_TEST_SUITE_P(Tokenizer, Shapes, testing::ValuesIn(shape_names()),
                         [](const auto& shape) { return shape.param; });

// What a change of one component of a working tokenizer.json is refused with.
std::string refusal(const Json& patch) {
    Json json = golden()["tokenizers"]["smollm2"]["tokenizer"];
    json.merge_patch(patch);
    const auto loaded = Tokenizer::from_json(json.dump());
    return loaded ? "accepted" : loaded.error().message;
}

TEST(Tokenizer, ComponentsThatAreNotThereAreNamed) {
    EXPECT_THAT(refusal({{"model", {{"type", "Unigram"}}}}), HasSubstr("model \"Unigram\" is not supported"));
    EXPECT_THAT(refusal({{"normalizer", {{"type", "Lowercase"}}}}),
                HasSubstr("normalizer \"Lowercase\" is not supported"));
    EXPECT_THAT(refusal({{"pre_tokenizer", {{"type", "BertPreTokenizer"}}}}),
                HasSubstr("pre_tokenizer \"BertPreTokenizer\" is not supported"));
    EXPECT_THAT(refusal({{"post_processor", {{"type", "Odd"}}}}),
                HasSubstr("post_processor \"Odd\" is not supported"));
    EXPECT_THAT(refusal({{"decoder", {{"type", "WordPiece"}}}}),
                HasSubstr("decoder \"WordPiece\" is not supported"));
    EXPECT_THAT(refusal({{"model", {{"dropout", 0.1}}}}), HasSubstr("model.dropout 0.1 is not supported"));
    EXPECT_THAT(refusal({{"model", {{"end_of_word_suffix", "</w>"}}}}),
                HasSubstr("model.end_of_word_suffix \"</w>\" is not supported"));
    EXPECT_THAT(refusal({{"model", {{"merges", {"a zz"}}}}}),
                HasSubstr("merge 0 (\"a\" + \"zz\"): the right half is not in"));
    EXPECT_THAT(refusal({{"model", {{"merges", {"abc"}}}}}),
                HasSubstr("model.merges[0] is no pair of tokens"));
    EXPECT_THAT(refusal({{"model", {{"vocab", {{"zz", 2000000000}}}}}}),
                HasSubstr("token \"zz\" has the id 2000000000"));
    EXPECT_THAT(refusal({{"model", {{"vocab", {{"zz", 0}}}}}}), HasSubstr("two tokens have the id 0"));
    const Json pattern = {{"Regex", R"(\h+)"}};
    const Json split = {{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}};
    EXPECT_THAT(refusal({{"pre_tokenizer", {{"pretokenizers", {split}}}}}),
                HasSubstr("\\h at offset 0 is not supported"));
}

}  // namespace
}  // namespace retort::text
