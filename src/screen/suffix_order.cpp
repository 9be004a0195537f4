#include "screen/suffix_order.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace retort::screen {

namespace {

// Least significant digit first over the key in the upper half: stable, so equal keys stay in order of place.
void sort_by_key(std::vector<std::uint64_t>& items) {
    std::vector<std::uint64_t> other(items.size());
    constexpr std::array<unsigned, 3> shifts = {32, 43, 54};
    constexpr std::array<unsigned, 3> widths = {11, 11, 10};
    for (std::size_t pass = 0; pass < shifts.size(); ++pass) {
        const unsigned shift = shifts[pass];
        const std::uint64_t mask = (std::uint64_t{1} << widths[pass]) - 1;
        std::vector<std::size_t> places(mask + 2);
        for (const std::uint64_t item : items) ++places[((item >> shift) & mask) + 1];
        for (std::size_t i = 1; i < places.size(); ++i) places[i] += places[i - 1];
        for (const std::uint64_t item : items) other[places[(item >> shift) & mask]++] = item;
        items.swap(other);
    }
}

// Groups of one key, by words.
void sort_groups(std::vector<std::uint64_t>& items, const WordsThenZeros& words) {
    const auto before = [&words](std::uint64_t a, std::uint64_t b) {
        const auto place_a = static_cast<std::uint32_t>(a);
        const auto place_b = static_cast<std::uint32_t>(b);
        const Word* p = words.at(place_a);
        const Word* q = words.at(place_b);
        for (std::size_t i = 0; i < sorted_words; i += 8) {
            if (std::memcmp(p + i, q + i, 8 * sizeof(Word)) == 0) continue;
            for (std::size_t k = i; k < i + 8; ++k) {
                if (p[k] != q[k]) return p[k] < q[k];
            }
        }
        return place_a < place_b;
    };
    const auto count = static_cast<std::int64_t>(items.size());
    // Shares of the array, each from the first group that begins in it.
    constexpr std::int64_t shares = 64;
    const auto group_start = [&](std::int64_t at) {
        while (at > 0 && at < count &&
               items[static_cast<std::size_t>(at)] >> 32U == items[static_cast<std::size_t>(at - 1)] >> 32U) {
            ++at;
        }
        return at;
    };
    std::array<std::int64_t, shares + 1> bounds{};
    for (std::int64_t i = 0; i <= shares; ++i)
        bounds[static_cast<std::size_t>(i)] = group_start(count * i / shares);
#pragma omp parallel for schedule(dynamic, 1)
    for (std::int64_t share = 0; share < shares; ++share) {
        const std::int64_t end = bounds[static_cast<std::size_t>(share) + 1];
        for (std::int64_t at = bounds[static_cast<std::size_t>(share)]; at < end;) {
            std::int64_t last = at + 1;
            while (last < end && items[static_cast<std::size_t>(last)] >> 32U ==
                                     items[static_cast<std::size_t>(at)] >> 32U) {
                ++last;
            }
            if (last - at > 1) std::sort(items.begin() + at, items.begin() + last, before);
            at = last;
        }
    }
}

}  // namespace

WordsThenZeros::WordsThenZeros(std::span<const Word> words)
    : words_(words), tail_begin_(words.size() > reach ? words.size() - reach : 0) {
    std::copy(words.begin() + static_cast<std::ptrdiff_t>(tail_begin_), words.end(), tail_.begin());
}

unsigned bucket_bits_of(std::uint64_t words) {
    return static_cast<unsigned>(std::bit_width(words / 8 + 1));
}

std::vector<std::uint64_t> sorted_suffixes(const WordsThenZeros& words, std::uint64_t first_key,
                                           std::uint64_t end_key, const Lookup& lookup) {
    const std::uint64_t count = words.size();
    std::vector<std::uint64_t> items;
    // Keys are hashes, so a range has about its share of them.
    const double share = static_cast<double>(end_key - first_key) / 4294967296.0;
    items.reserve(static_cast<std::size_t>(static_cast<double>(count) * std::min(1.0, 1.02 * share)) + 1024);
    {
        std::vector<std::uint64_t> hashes;
        std::vector<Word> block;
        constexpr std::uint64_t step = 1U << 14U;
        for (std::uint64_t at = 0; at < count; at += step) {
            const std::uint64_t here = std::min(step, count - at);
            // Of the last words the grams reach into the zeros.
            block.resize(here + gram_words - 1);
            const std::uint64_t plain = std::min<std::uint64_t>(block.size(), count - at);
            std::copy_n(words.words().begin() + static_cast<std::ptrdiff_t>(at), plain, block.begin());
            std::fill(block.begin() + static_cast<std::ptrdiff_t>(plain), block.end(), Word{0});
            gram_hashes(block, hashes);
            for (std::uint64_t i = 0; i < here; ++i) {
                const std::uint64_t key = GramHash::key(hashes[i]);
                if (key < first_key || key >= end_key) continue;
                items.push_back(key << 32U | (at + i));
                const auto place = static_cast<std::size_t>(
                    (static_cast<unsigned __int128>(hashes[i]) * lookup.filter.size()) >> 64U);
                lookup.filter[place] |= Part::filter_bits(hashes[i]);
            }
        }
    }
    sort_by_key(items);
    sort_groups(items, words);
    const unsigned shift = 32 - lookup.bucket_bits;
    for (const std::uint64_t item : items) ++lookup.buckets[(item >> 32U >> shift) + 1];
    return items;
}

void sum_buckets(const Lookup& lookup) {
    for (std::size_t i = 1; i < lookup.buckets.size(); ++i) lookup.buckets[i] += lookup.buckets[i - 1];
}

void gram_hashes(std::span<const Word> words, std::vector<std::uint64_t>& out) {
    out.clear();
    if (words.size() < gram_words) return;
    std::uint64_t highest = 1;
    for (std::size_t i = 0; i + 1 < gram_words; ++i) highest *= GramHash::base;
    out.resize(words.size() - gram_words + 1);
    std::uint64_t rolled = 0;
    for (std::size_t i = 0; i + 1 < gram_words; ++i) rolled = rolled * GramHash::base + words[i];
    for (std::size_t i = 0; i < out.size(); ++i) {
        rolled = rolled * GramHash::base + words[i + gram_words - 1];
        out[i] = GramHash::mix(rolled);
        rolled -= words[i] * highest;
    }
}

}  // namespace retort::screen
