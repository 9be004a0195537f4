// Text as the words that screening compares: numbers that are the same for two spellings of a word that
// differ only in case, punctuation, accents' encoding (NFKC equivalence) or how a line was broken. Knows no
// index and no file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::screen {

// A word's number: a 32-bit hash of its folded letters, never 0. Two different words share one with a chance
// of 2^-32, which can only lengthen a match, never hide one.
using Word = std::uint32_t;

// Words of one text in order. begins[i] and ends[i] are byte offsets into it: the first byte of the word's
// first letter, and one past its last.
struct Words {
    std::vector<Word> ids;
    std::vector<std::uint32_t> begins;
    std::vector<std::uint32_t> ends;

    [[nodiscard]] std::size_t size() const { return ids.size(); }
    void clear();
};

// A text of more is refused by split_words.
inline constexpr std::size_t largest_text = 0xFFFFFF00U;

// A word is a run of letters, marks and digits after Unicode's compatibility decomposition and case folding.
// Apostrophes, soft hyphens and other default-ignorable characters are as if not there; so is a hyphen at the
// end of a line, with the line's end. Scripts written without spaces (Han, kana, Thai, Lao, Khmer, Burmese)
// give a word a letter. Bytes that are no UTF-8 separate words.
Status split_words(std::string_view text, Words& out);

// Characters (code points) of the words [begin, end), with one between each two.
std::size_t span_characters(std::string_view text, const Words& words, std::size_t begin, std::size_t end);

}  // namespace retort::screen
