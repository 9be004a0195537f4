// Passages that a text shares with the works of an index: verbatim ones exactly, near-verbatim ones by
// alignment. Knows no files but the index's parts.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "screen/part_file.h"
#include "screen/words.h"

namespace retort::screen {

// A passage counts from either on; 0: that one is not asked. Never fewer than gram_words.
struct SpanLimits {
    std::size_t words = 50;
    std::size_t characters = 150;  // of its words, one between each two
};

// Words [begin, end) of the text stand in part `part` from word `place` on.
struct Span {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::size_t part = 0;
    std::uint64_t place = 0;
    std::uint64_t place_end = 0;  // place + (end - begin), but of near-verbatim spans
    double identity = 1;          // share of the longer side's words that are the same
    bool operator==(const Span&) const = default;
};

// A text made ready once for every part.
struct Query {
    std::string_view text;
    Words words;
    std::vector<std::uint64_t> hashes;       // of its grams
    std::vector<std::uint32_t> letter_sums;  // bytes of the words before each, and of all at the end

    static Result<Query> make(std::string_view text);
    [[nodiscard]] bool reaches(std::size_t begin, std::size_t end, const SpanLimits& limits) const;
};

struct LongestMatch {
    std::size_t length = 0;  // words; 0: not even a gram
    std::uint64_t place = 0;
};
// The longest passage of the part that begins as the text does at word `at`. Where more than 64 places share
// its first sorted_words words, the longest of 64 of them.
LongestMatch longest_match(const Part& part, const Query& query, std::size_t at);
// The same for words without their text; `hash` is that of the gram at `at`, which must be there.
LongestMatch longest_match(const Part& part, std::span<const Word> words, std::size_t at, std::uint64_t hash);

// Every maximal passage (contained in no other) that reaches the limits, in order. Grams are tried only so
// often that no such passage can lie between two trials.
std::vector<Span> verbatim_spans(const Part& part, const Query& query, const SpanLimits& limits);
// The same for all parts: what one part's passage contains is left out of another's.
std::vector<Span> verbatim_spans(std::span<const Part> parts, const Query& query, const SpanLimits& limits);

struct NearLimits {
    std::size_t words = 40;  // of the text's side; what is changed at either end is not counted in
    double identity = 0.8;
};
// Passages with some words changed, left out or put in: each gram that the part has is extended both ways by
// a banded alignment. A passage of 36 words or more in which one word in ten is another holds such a gram for
// certain (8 words in a row are left between 3 changes in 36). Overlapping ones: the longest.
std::vector<Span> near_spans(const Part& part, const Query& query, const NearLimits& limits);

// Marks the words that lie in a gram of the part.
void mark_covered(const Part& part, const Query& query, std::vector<bool>& covered);

}  // namespace retort::screen
