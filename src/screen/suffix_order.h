// The order of a part's suffixes (docs/formats/screen_index.md), for a range of keys at a time: what
// write_part makes at once, merge_parts makes in as many passes as its memory asks for. Knows words and
// grams, no file.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "screen/part_file.h"

namespace retort::screen {

// A part's words with the zeros that its order takes to stand behind them.
class WordsThenZeros {
  public:
    explicit WordsThenZeros(std::span<const Word> words);
    // So many words can be read there: the first sorted_words + gram_words of the suffix at `place`.
    [[nodiscard]] const Word* at(std::uint64_t place) const {
        return place < tail_begin_ ? words_.data() + place : tail_.data() + (place - tail_begin_);
    }
    [[nodiscard]] std::span<const Word> words() const { return words_; }
    [[nodiscard]] std::uint64_t size() const { return words_.size(); }

  private:
    static constexpr std::uint64_t reach = sorted_words + gram_words;
    std::span<const Word> words_;
    std::uint64_t tail_begin_;
    std::array<Word, 2 * reach> tail_{};
};

unsigned bucket_bits_of(std::uint64_t words);

// What finds a gram in the order, to be filled for a part of so many words: blocks of the filter, and places
// that buckets begin at, each counted up by sorted_suffixes and summed by sum_buckets.
struct Lookup {
    std::span<std::uint32_t> buckets;
    std::span<std::uint64_t> filter;
    unsigned bucket_bits = 0;
};

// key << 32 | place of every suffix whose key lies in [first_key, end_key), in their order, and counted into
// `lookup`. Takes 16 bytes of memory for each.
std::vector<std::uint64_t> sorted_suffixes(const WordsThenZeros& words, std::uint64_t first_key,
                                           std::uint64_t end_key, const Lookup& lookup);
// After the last range: from how many begin in each to where each begins.
void sum_buckets(const Lookup& lookup);

}  // namespace retort::screen
