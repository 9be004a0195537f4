#include "screen/words.h"

#include <gtest/gtest.h>

#include <string>

#include "base/random.h"

namespace retort::screen {
namespace {

Words words_of(std::string_view text) {
    Words words;
    EXPECT_TRUE(split_words(text, words));
    return words;
}

void expect_same(std::string_view a, std::string_view b) {
    EXPECT_EQ(words_of(a).ids, words_of(b).ids) << a << " | " << b;
}

TEST(Words, SpellingsOfTheSameWords) {
    expect_same("Call me Ishmael.", "call ME ishmael");
    expect_same("Call, me -- (Ishmael)!", "Call me\n\nIshmael");
    expect_same("don't", "don’t");
    expect_same("don't", "dont");
    expect_same("an exam-\n   ple of it", "an example of it");
    expect_same("exam\u00ADple", "example");
    expect_same("caf\u00e9", "cafe\u0301");
    expect_same("a\u0323\u0307b", "a\u0307\u0323b");  // marks in either order
    expect_same("\u1e9b\u0323x", "s\u0323\u0307x");   // compatibility, then marks in order
    expect_same("Stra\u00dfe", "STRASSE");
    expect_same("\ufb01nd", "find");
    expect_same("\uff26\uff55\uff4c\uff4c width", "full width");
    expect_same("\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u03c3\u03af\u03c3\u03c5\u03c6\u03bf\u03c3");
    expect_same("_emphasis_ and **strong**", "emphasis and strong");
    expect_same("zero\u200bwidth", "zerowidth");
    expect_same("one\u2014two", "one two");
}

TEST(Words, DifferentWordsDiffer) {
    EXPECT_NE(words_of("cat").ids, words_of("act").ids);
    EXPECT_NE(words_of("caf\u00e9").ids, words_of("cafe").ids);
    EXPECT_NE(words_of("ab").ids, words_of("a b").ids);
    EXPECT_EQ(words_of("state-of-the-art").size(), 4U);
}

TEST(Words, OffsetsAreOfTheOriginal) {
    const std::string text = "\u201cCaf\u00e9\u201d, he   SAID\u2026 e\u0301.";
    const Words words = words_of(text);
    ASSERT_EQ(words.size(), 4U);
    const auto piece = [&](std::size_t i) {
        return text.substr(words.begins[i], words.ends[i] - words.begins[i]);
    };
    EXPECT_EQ(piece(0), "Caf\u00e9");
    EXPECT_EQ(piece(1), "he");
    EXPECT_EQ(piece(2), "SAID");
    EXPECT_EQ(piece(3), "e\u0301");
}

TEST(Words, ScriptsWithoutSpacesGiveAWordALetter) {
    EXPECT_EQ(words_of("\u79c1\u306f\u732b").size(), 3U);
    EXPECT_EQ(words_of("abc\u732bdef").size(), 3U);
    EXPECT_EQ(words_of("\u0e01\u0e34\u0e19").size(), 2U);  // a vowel sign stays with its letter
    expect_same("\u304c", "\u304b\u3099");
}

TEST(Words, AnyBytesAreRead) {
    base::RandomStream random(7);
    for (int round = 0; round < 2000; ++round) {
        std::string text(random.below(60), ' ');
        for (char& c : text)
            c = static_cast<char>(random.below(4) == 0 ? random.below(256) : 0x20 + random.below(0x60));
        const Words words = words_of(text);
        std::uint32_t last = 0;
        for (std::size_t i = 0; i < words.size(); ++i) {
            EXPECT_GE(words.begins[i], i == 0 ? 0 : last - 0);
            EXPECT_LT(words.begins[i], words.ends[i]);
            EXPECT_LE(words.ends[i], text.size());
            EXPECT_NE(words.ids[i], 0U);
            last = words.begins[i];
        }
    }
}

TEST(Words, CharactersOfASpan) {
    const std::string text = "ab  \u00e9\u00e9\u00e9, c";
    const Words words = words_of(text);
    EXPECT_EQ(span_characters(text, words, 0, 3), 2U + 1 + 3 + 1 + 1);
    EXPECT_EQ(span_characters(text, words, 1, 2), 3U);
}

}  // namespace
}  // namespace retort::screen
