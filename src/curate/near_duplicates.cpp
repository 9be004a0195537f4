#include "curate/near_duplicates.h"

#include <algorithm>
#include <array>
#include <limits>
#include <set>

#include "base/hash.h"
#include "base/random.h"
#include "curate/filters.h"

namespace retort::curate {

namespace {

constexpr std::size_t signature_size = NearDuplicates::bands * NearDuplicates::rows;

// Multiply-add over the 64-bit ring with odd multipliers, the high bits deciding: universal enough for
// shingles that are hashes already.
struct Permutations {
    std::array<std::uint64_t, signature_size> multiply{};
    std::array<std::uint64_t, signature_size> add{};
    Permutations() {
        base::RandomStream random(0x6d696e68617368, 1);
        for (std::size_t i = 0; i < signature_size; ++i) {
            multiply[i] = random.next_u64() | 1U;
            add[i] = random.next_u64();
        }
    }
};

std::array<std::uint64_t, signature_size> signature(const std::vector<std::uint64_t>& set) {
    static const Permutations permutations;
    std::array<std::uint64_t, signature_size> minimum{};
    minimum.fill(std::numeric_limits<std::uint64_t>::max());
    for (const std::uint64_t shingle : set) {
        for (std::size_t i = 0; i < signature_size; ++i) {
            // The product's low bits depend on few of the input's: fold the high ones in.
            const std::uint64_t product = shingle * permutations.multiply[i] + permutations.add[i];
            minimum[i] = std::min(minimum[i], product ^ (product >> 32U));
        }
    }
    return minimum;
}

}  // namespace

std::vector<std::uint64_t> shingles(std::string_view text, std::size_t n) {
    const std::vector<std::string> words = words_of(text);
    std::vector<std::uint64_t> out;
    if (words.empty()) return out;
    const std::size_t count = words.size() < n ? 1 : words.size() - n + 1;
    const std::size_t length = std::min(n, words.size());
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t hash = length;
        for (std::size_t k = 0; k < length; ++k) hash = base::xxh3_64(words[i + k], hash);
        out.push_back(hash);
    }
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
}

double jaccard(const std::vector<std::uint64_t>& a, const std::vector<std::uint64_t>& b) {
    if (a.empty() && b.empty()) return 1;
    std::size_t common = 0;
    for (std::size_t i = 0, k = 0; i < a.size() && k < b.size();) {
        if (a[i] == b[k]) {
            ++common;
            ++i;
            ++k;
        } else if (a[i] < b[k]) {
            ++i;
        } else {
            ++k;
        }
    }
    return static_cast<double>(common) / static_cast<double>(a.size() + b.size() - common);
}

NearDuplicates::Match NearDuplicates::add(std::string_view text, std::int64_t index) {
    std::vector<std::uint64_t> set = shingles(text);
    if (set.empty()) return {};
    const auto minimum = signature(set);
    std::array<std::uint64_t, bands> keys{};
    std::set<std::size_t> candidates;
    for (std::size_t band = 0; band < bands; ++band) {
        std::uint64_t key = band;
        for (std::size_t row = 0; row < rows; ++row) {
            const std::uint64_t value = minimum[band * rows + row];
            key = base::xxh3_64(std::as_bytes(std::span(&value, 1)), key);
        }
        keys[band] = key;
        if (const auto found = buckets_.find(key); found != buckets_.end()) {
            candidates.insert(found->second.begin(), found->second.end());
        }
    }
    for (const std::size_t candidate : candidates) {
        const double similarity = jaccard(set, kept_[candidate]);
        if (similarity >= threshold_) return {indices_[candidate], similarity};
    }
    for (const std::uint64_t key : keys) buckets_[key].push_back(kept_.size());
    kept_.push_back(std::move(set));
    indices_.push_back(index);
    return {};
}

}  // namespace retort::curate
