// Near-verbatim passages: seeds of one gram, banded alignment outwards, dropped when the score falls too far.
#include <algorithm>
#include <array>

#include "screen/spans.h"

namespace retort::screen {

namespace {

constexpr int band = 8;                  // words put in or left out, net, before an alignment loses its way
constexpr int other_word = -2;           // against +1 for the same one: pays from two same words in three on
constexpr int drop = 10;                 // below the best so far: five other words in a row
constexpr std::size_t most_places = 16;  // of one gram that are tried

struct Extension {
    std::size_t query_words = 0;
    std::size_t part_words = 0;
    std::size_t same = 0;
};

// word_a(i), word_b(j): the i-th word onwards of each side, 0 where the side ends.
template <typename A, typename B>
Extension extend(const A& word_a, const B& word_b) {
    struct Cell {
        int score;
        std::uint32_t same;
    };
    constexpr int width = 2 * band + 1;
    constexpr int never = -1'000'000;
    std::array<Cell, width> row;
    std::array<Cell, width> next;
    for (int d = 0; d < width; ++d)
        row[static_cast<std::size_t>(d)] = {d < band ? never : (d - band) * other_word, 0};
    int best = 0;
    Extension found;
    for (std::size_t i = 1;; ++i) {
        const Word a = word_a(i - 1);
        if (a == 0) break;
        int row_best = never;
        for (int d = 0; d < width; ++d) {
            const auto at = static_cast<std::size_t>(d);
            const std::int64_t j = static_cast<std::int64_t>(i) + d - band;
            Cell cell{never, 0};
            if (j >= 0) {
                if (d + 1 < width) cell = {row[at + 1].score + other_word, row[at + 1].same};  // left out
                if (d > 0 && next[at - 1].score + other_word > cell.score)                     // put in
                    cell = {next[at - 1].score + other_word, next[at - 1].same};
                if (j > 0) {
                    const Word b = word_b(static_cast<std::size_t>(j - 1));
                    const bool same = a == b;
                    if (b != 0 && row[at].score + (same ? 1 : other_word) >= cell.score) {
                        cell = {row[at].score + (same ? 1 : other_word), row[at].same + (same ? 1U : 0U)};
                    }
                }
            }
            next[at] = cell;
            row_best = std::max(row_best, cell.score);
            if (cell.score > best) {
                best = cell.score;
                found = {i, static_cast<std::size_t>(j), cell.same};
            }
        }
        if (row_best < best - drop) break;
        row.swap(next);
    }
    return found;
}

// Places whose gram is the query's at `at`.
std::size_t places_of(const Part& part, const Query& query, std::size_t at,
                      std::array<std::uint64_t, most_places>& places) {
    const std::uint64_t hash = query.hashes[at];
    const std::uint32_t key = GramHash::key(hash);
    const std::size_t bucket = key >> part.bucket_shift;
    const std::size_t low = std::min<std::size_t>(part.buckets[bucket], part.order.size());
    const std::size_t high = std::min<std::size_t>(part.buckets[bucket + 1], part.order.size());
    std::size_t count = 0;
    const LongestMatch longest = longest_match(part, query, at);
    if (longest.length == 0) return 0;
    places[count++] = longest.place;
    // Of the others those that come first in the order: any would do.
    std::size_t looked = 0;
    for (std::size_t i = low; i < high && count < most_places && looked < 4 * most_places; ++i, ++looked) {
        const std::uint64_t place = part.order[i];
        if (place == longest.place || place + gram_words > part.words.size()) continue;
        if (std::equal(part.words.begin() + static_cast<std::ptrdiff_t>(place),
                       part.words.begin() + static_cast<std::ptrdiff_t>(place + gram_words),
                       query.words.ids.begin() + static_cast<std::ptrdiff_t>(at))) {
            places[count++] = place;
        }
    }
    return count;
}

Span align(const Part& part, const Query& query, std::size_t at, std::uint64_t place) {
    const auto& words = query.words.ids;
    const std::size_t after = at + gram_words;
    const std::uint64_t place_after = place + gram_words;
    const Extension right = extend(
        [&](std::size_t i) { return after + i < words.size() ? words[after + i] : 0; },
        [&](std::size_t j) { return place_after + j < part.words.size() ? part.words[place_after + j] : 0; });
    const Extension left = extend([&](std::size_t i) { return i < at ? words[at - 1 - i] : 0; },
                                  [&](std::size_t j) { return j < place ? part.words[place - 1 - j] : 0; });
    Span span{at - left.query_words,   after + right.query_words,      0,
              place - left.part_words, place_after + right.part_words, 1};
    const auto longer = static_cast<double>(std::max(span.end - span.begin, span.place_end - span.place));
    span.identity = static_cast<double>(gram_words + left.same + right.same) / longer;
    return span;
}

}  // namespace

std::vector<Span> near_spans(const Part& part, const Query& query, const NearLimits& limits) {
    std::vector<Span> found;
    constexpr std::size_t ahead = 16;
    std::array<std::uint64_t, most_places> places{};
    for (std::size_t i = 0; i < query.hashes.size(); ++i) {
        if (i + ahead < query.hashes.size()) part.prefetch_filter(query.hashes[i + ahead]);
        if (!part.may_have(query.hashes[i])) continue;
        const std::size_t count = places_of(part, query, i, places);
        Span best;
        for (std::size_t k = 0; k < count; ++k) {
            const Span span = align(part, query, i, places[k]);
            if (span.end - span.begin < limits.words || span.identity < limits.identity) continue;
            if (span.end - span.begin > best.end - best.begin) best = span;
        }
        if (best.end == 0) continue;
        while (!found.empty() && found.back().begin >= best.begin) found.pop_back();
        if (found.empty() || best.end > found.back().end) found.push_back(best);
        // The grams up to there lead to the same passage.
        if (best.end > i + gram_words) i = best.end - gram_words;
    }
    return found;
}

}  // namespace retort::screen
