// Ids identical to the `tokenizers` library on a corpus that tests/golden/text_corpus.py makes; too big to
// commit, so skipped unless RETORT_TOKENIZER_CORPUS names its folder. tests/golden/transcripts/tokenizers.md
// is one run.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "base/file.h"
#include "text/tokenizer.h"

namespace retort::text {
namespace {

std::uint32_t read_u32(std::string_view data, std::size_t at) {
    std::uint32_t value = 0;
    std::memcpy(&value, data.data() + at, sizeof value);
    return value;
}

void compare(const std::string& name, const Tokenizer& tokenizer, std::string_view corpus,
             std::string_view ids) {
    std::vector<std::string_view> documents;
    for (std::size_t at = 0; at < corpus.size();) {
        const std::uint32_t length = read_u32(corpus, at);
        documents.push_back(corpus.substr(at + 4, length));
        at += 4 + length;
    }
    std::vector<std::vector<std::int32_t>> encoded(documents.size());
    const std::clock_t start = std::clock();
    for (std::size_t i = 0; i < documents.size(); ++i) encoded[i] = tokenizer.encode(documents[i]);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    std::size_t at = 0;
    std::size_t total = 0;
    std::size_t different = 0;
    for (std::size_t i = 0; i < documents.size(); ++i) {
        ASSERT_LE(at + 4, ids.size());
        const std::uint32_t count = read_u32(ids, at);
        ASSERT_LE(at + 4 + std::size_t{count} * 4, ids.size());
        std::vector<std::int32_t> expected(count);
        std::memcpy(expected.data(), ids.data() + at + 4, std::size_t{count} * 4);
        at += 4 + std::size_t{count} * 4;
        total += count;
        if (expected == encoded[i]) continue;
        if (++different > 5) continue;
        std::size_t first = 0;
        while (first < expected.size() && first < encoded[i].size() && expected[first] == encoded[i][first])
            ++first;
        const auto around = [&](const std::vector<std::int32_t>& list) {
            std::string text;
            for (std::size_t k = first > 2 ? first - 2 : 0; k < std::min(list.size(), first + 4); ++k) {
                text +=
                    " " + std::to_string(list[k]) + " '" + std::string(tokenizer.token_text(list[k])) + "'";
            }
            return text;
        };
        ADD_FAILURE() << name << ": document " << i << " differs at id " << first << "\n expected"
                      << around(expected) << "\n got     " << around(encoded[i]);
    }
    EXPECT_EQ(at, ids.size());
    EXPECT_EQ(different, 0U);
    std::printf(
        "%-14s %9zu ids in %zu documents, %zu documents differ, %6.2f MB for each second of one core\n",
        name.c_str(), total, documents.size(), different, static_cast<double>(corpus.size()) / seconds / 1e6);
}

TEST(TokenizerIdentity, Corpus) {
    const char* const folder_name = std::getenv("RETORT_TOKENIZER_CORPUS");
    if (folder_name == nullptr) GTEST_SKIP() << "RETORT_TOKENIZER_CORPUS is not set";
    const std::filesystem::path folder = folder_name;
    const auto corpus = base::MappedFile::open(folder / "corpus.bin");
    ASSERT_TRUE(corpus) << corpus.error().message;
    std::size_t compared = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().extension() != ".ids") continue;
        const auto ids = base::MappedFile::open(entry.path());
        ASSERT_TRUE(ids) << ids.error().message;
        std::filesystem::path source = entry.path();
        const auto json = base::read_file(source.replace_extension(".json"));
        ASSERT_TRUE(json) << json.error().message;
        auto tokenizer = Tokenizer::from_json(*json);
        ASSERT_TRUE(tokenizer) << tokenizer.error().message;
        compare(source.filename(), *tokenizer, corpus->text(), ids->text());
        ++compared;
        if (!std::filesystem::exists(source.replace_extension(".gguf"))) continue;
        const auto file = formats::GgufFile::open(source);
        ASSERT_TRUE(file) << file.error().message;
        auto from_gguf = Tokenizer::from_gguf(*file);
        ASSERT_TRUE(from_gguf) << from_gguf.error().message;
        compare(source.filename(), *from_gguf, corpus->text(), ids->text());
    }
    EXPECT_GT(compared, 0U);
}

}  // namespace
}  // namespace retort::text
