#include "screen/spans.h"

#include <algorithm>
#include <array>

namespace retort::screen {

namespace {

// How many words both sides share from there on.
std::size_t common_words(const Part& part, std::uint64_t place, std::span<const Word> words, std::size_t at) {
    if (place >= part.words.size()) return 0;
    const std::size_t most = std::min(part.words.size() - place, words.size() - at);
    const Word* a = part.words.data() + place;
    const Word* b = words.data() + at;
    std::size_t length = 0;
    while (length < most && a[length] == b[length]) ++length;
    return length;
}

// Whether the suffix at `place` stands before the query's in its part's order. Behind the part's end lie
// zeros.
bool stands_before(const Part& part, std::uint64_t place, std::span<const Word> words, std::size_t at,
                   std::uint32_t key) {
    std::array<Word, gram_words> gram{};
    for (std::size_t i = 0; i < gram_words && place + i < part.words.size(); ++i)
        gram[i] = part.words[place + i];
    const std::uint32_t own = GramHash::key(GramHash::of(gram.data()));
    if (own != key) return own < key;
    const std::size_t length = common_words(part, place, words, at);
    if (length >= sorted_words || at + length >= words.size()) return false;
    if (place + length >= part.words.size()) return true;
    return part.words[place + length] < words[at + length];
}

constexpr std::size_t few = 8;  // entries that are looked at one by one
constexpr std::size_t most_ties = 64;

// The last word that a passage beginning at `begin` needs to reach the limits, or the text's end.
std::size_t shortest_end(const Query& query, std::size_t begin, const SpanLimits& limits) {
    const std::size_t count = query.words.size();
    std::size_t end = count + 1;
    if (limits.words > 0) end = std::min(end, begin + std::max(limits.words, gram_words));
    if (limits.characters > 0) {
        // Letters of words plus one between each two: sums[i] - sums[begin] + i - begin - 1 >= characters.
        const auto& sums = query.letter_sums;
        std::size_t low = begin + gram_words;
        std::size_t high = std::min(end, count + 1);
        while (low < high) {
            const std::size_t middle = (low + high) / 2;
            if (middle > count || sums[middle] - sums[begin] + (middle - begin - 1) >= limits.characters) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        end = std::min(end, low);
    }
    return end;
}

}  // namespace

Result<Query> Query::make(std::string_view text) {
    Query query;
    query.text = text;
    RETORT_CHECK(split_words(text, query.words));
    gram_hashes(query.words.ids, query.hashes);
    query.letter_sums.resize(query.words.size() + 1);
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < query.words.size(); ++i) {
        query.letter_sums[i] = sum;
        sum += query.words.ends[i] - query.words.begins[i];
    }
    query.letter_sums.back() = sum;
    return query;
}

bool Query::reaches(std::size_t begin, std::size_t end, const SpanLimits& limits) const {
    if (end < begin + gram_words) return false;
    if (limits.words > 0 && end - begin >= limits.words) return true;
    if (limits.characters == 0) return limits.words == 0;
    // Bytes first: never fewer than characters.
    if (letter_sums[end] - letter_sums[begin] + (end - begin - 1) < limits.characters) return false;
    return span_characters(text, words, begin, end) >= limits.characters;
}

LongestMatch longest_match(const Part& part, const Query& query, std::size_t at) {
    return at < query.hashes.size() ? longest_match(part, query.words.ids, at, query.hashes[at])
                                    : LongestMatch{};
}

LongestMatch longest_match(const Part& part, std::span<const Word> words, std::size_t at,
                           std::uint64_t hash) {
    LongestMatch best;
    if (!part.may_have(hash)) return best;
    const std::uint32_t key = GramHash::key(hash);
    const std::size_t bucket = key >> part.bucket_shift;
    std::size_t low = std::min<std::size_t>(part.buckets[bucket], part.order.size());
    const std::size_t end = std::min<std::size_t>(part.buckets[bucket + 1], part.order.size());
    std::size_t high = end;
    const auto look = [&](std::size_t i) {
        const std::size_t length = common_words(part, part.order[i], words, at);
        if (length >= gram_words && length > best.length) best = {length, part.order[i]};
        return length;
    };
    if (low >= high) return best;
    const std::size_t begin = low;
    if (high - low > few) {
        while (low < high) {
            const std::size_t middle = low + (high - low) / 2;
            if (stands_before(part, part.order[middle], words, at, key)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (low < end) look(low);
        if (low > begin) look(low - 1);
        // Beyond what is sorted, any of the equal ones may go on longest.
        if (best.length >= sorted_words) {
            for (std::size_t i = low; i < end && i < low + most_ties / 2; ++i) {
                if (look(i) < sorted_words) break;
            }
            for (std::size_t i = low; i > begin && i + most_ties / 2 > low; --i) {
                if (look(i - 1) < sorted_words) break;
            }
        }
        return best;
    }
    for (std::size_t i = low; i < high; ++i) look(i);
    return best;
}

std::vector<Span> verbatim_spans(const Part& part, const Query& query, const SpanLimits& limits) {
    std::vector<Span> found;
    const std::size_t grams = query.hashes.size();
    const std::size_t count = query.words.size();
    // No passage that is still to be found begins before `first`, and each ends behind `known_end`.
    std::size_t first = 0;
    std::size_t known_end = 0;
    while (first < grams) {
        const std::size_t shortest = shortest_end(query, first, limits);
        if (shortest > count) break;
        const std::size_t probe = std::max(
            {first, shortest - gram_words, known_end + 1 > gram_words ? known_end + 1 - gram_words : 0});
        if (probe >= grams) break;
        if (longest_match(part, query, probe).length == 0) {
            first = probe + 1;
            continue;
        }
        // The longest passage around this gram begins at the smallest word whose match still covers the gram:
        // how far matches reach grows with where they begin.
        std::size_t low = first;
        std::size_t high = probe;
        const auto covers = [&](std::size_t begin) {
            return begin + longest_match(part, query, begin).length >= probe + gram_words;
        };
        while (low < high) {
            const std::size_t middle = (low + high) / 2;
            if (covers(middle)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        const LongestMatch match = longest_match(part, query, low);
        const std::size_t end = low + match.length;
        if (end > known_end && query.reaches(low, end, limits)) {
            found.push_back({low, end, 0, match.place, match.place + match.length, 1});
        }
        known_end = std::max(known_end, end);
        first = low + 1;
    }
    return found;
}

std::vector<Span> verbatim_spans(std::span<const Part> parts, const Query& query, const SpanLimits& limits) {
    std::vector<Span> all;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        for (Span span : verbatim_spans(parts[i], query, limits)) {
            span.part = i;
            all.push_back(span);
        }
    }
    if (parts.size() < 2) return all;
    std::stable_sort(all.begin(), all.end(), [](const Span& a, const Span& b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
    });
    std::vector<Span> kept;
    for (const Span& span : all) {
        if (kept.empty() || span.end > kept.back().end) kept.push_back(span);
    }
    return kept;
}

void mark_covered(const Part& part, const Query& query, std::vector<bool>& covered) {
    covered.resize(query.words.size());
    constexpr std::size_t ahead = 16;
    for (std::size_t i = 0; i < query.hashes.size(); ++i) {
        if (i + ahead < query.hashes.size()) part.prefetch_filter(query.hashes[i + ahead]);
        if (!part.may_have(query.hashes[i])) continue;
        const LongestMatch match = longest_match(part, query, i);
        if (match.length == 0) continue;
        for (std::size_t k = i; k < i + match.length; ++k) covered[k] = true;
        // Every gram that begins inside the match is there too.
        i += match.length - gram_words;
    }
}

}  // namespace retort::screen
