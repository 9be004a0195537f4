// One part of an index of protected works, as it lies in a file (docs/formats/screen_index.md): the works'
// words, the order of their suffixes, and what finds a gram in it at once. Reading is memory-mapped and
// checked; every number read from the file is checked where it is used, so that a damaged file gives wrong
// answers at worst. Knows nothing of texts and how they are read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "screen/words.h"

namespace retort::screen {

// Words of a gram, the unit that is looked up. A shorter passage is not found.
inline constexpr std::size_t gram_words = 8;
// Suffixes are sorted by their first so many words; equal ones by place.
inline constexpr std::size_t sorted_words = 264;

struct Work {
    std::string name;              // as it was given: a path, or a path and a number
    std::string format;            // text, markdown, html, epub, pdf, record
    std::string sha256;            // of the file's bytes
    std::uint64_t bytes = 0;       // of the text that offsets count in
    std::uint64_t first_word = 0;  // in the part
    std::uint64_t words = 0;
};

// Where a gram stands among grams: a rolling polynomial hash, mixed.
struct GramHash {
    static constexpr std::uint64_t base = 0x9FB21C651E98DF25U;
    static std::uint64_t mix(std::uint64_t rolled) {
        rolled ^= rolled >> 32U;
        rolled *= 0xD6E8FEB86659FD93U;
        return rolled ^ (rolled >> 32U);
    }
    static std::uint64_t of(const Word* words) {
        std::uint64_t rolled = 0;
        for (std::size_t i = 0; i < gram_words; ++i) rolled = rolled * base + words[i];
        return mix(rolled);
    }
    static std::uint32_t key(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32U); }
};

// The grams of a text one after another, each for one multiplication and one subtraction.
void gram_hashes(std::span<const Word> words, std::vector<std::uint64_t>& out);

struct Part {
    base::MappedFile file;
    std::vector<Work> works;
    std::span<const Word> words;             // 0 after each work
    std::span<const std::uint32_t> order;    // places by (key of their gram, words)
    std::span<const std::uint32_t> buckets;  // where in `order` each value of the key's highest bits begins
    std::span<const std::uint64_t> filter;   // a Bloom filter in blocks of one word
    std::span<const std::uint8_t> steps;     // bytes from the last word's beginning; 255: in `far_begins`
    std::span<const std::uint32_t> marks;    // of every 64th word, its beginning
    std::span<const std::uint64_t> far_begins;  // place << 32 | beginning, ascending
    unsigned bucket_shift = 0;

    // Reads the header and the works; with `verify`, the checksum of every section.
    static Result<Part> open(const std::filesystem::path& path, bool verify);

    [[nodiscard]] bool may_have(std::uint64_t hash) const {
        const std::size_t block =
            static_cast<std::size_t>((static_cast<unsigned __int128>(hash) * filter.size()) >> 64U);
        const std::uint64_t wanted = filter_bits(hash);
        return (filter[block] & wanted) == wanted;
    }
    void prefetch_filter(std::uint64_t hash) const {
        __builtin_prefetch(
            &filter[static_cast<std::size_t>((static_cast<unsigned __int128>(hash) * filter.size()) >> 64U)]);
    }
    static std::uint64_t filter_bits(std::uint64_t hash) {
        return (std::uint64_t{1} << (hash & 63U)) | (std::uint64_t{1} << ((hash >> 6U) & 63U)) |
               (std::uint64_t{1} << ((hash >> 12U) & 63U));
    }
    // The work that the word at `place` belongs to, or null.
    [[nodiscard]] const Work* work_at(std::uint64_t place) const;
    // Byte offset in its work's text where the word at `place` begins.
    [[nodiscard]] std::uint64_t begin_of(std::uint64_t place) const;
    // Of the file's header, which holds the checksums of its sections; in hex.
    [[nodiscard]] std::string header_checksum() const;
    [[nodiscard]] std::size_t size_bytes() const { return file.bytes().size(); }
};

// What a part is made from, in memory.
struct PartDraft {
    std::vector<Work> works;
    std::vector<Word> words;
    std::vector<std::uint8_t> steps;
    std::vector<std::uint32_t> marks;
    std::vector<std::uint64_t> far_begins;

    void add(Work work, const Words& text);
};

// Sorts and writes; `draft` is left empty. Takes about 24 bytes of memory a word, the draft's included.
Status write_part(const std::filesystem::path& path, PartDraft&& draft);
inline constexpr std::uint64_t build_bytes_per_word = 24;

// Several parts as one, to the byte as if their works had been one draft. Takes `memory_bytes` beside the
// files' own pages; the less it is, the more passes over the words. Fails with `cancelled` when the process
// was interrupted.
Status merge_parts(const std::filesystem::path& path, std::span<const Part> parts,
                   std::uint64_t memory_bytes);
inline constexpr std::uint64_t order_bytes_per_word = 16;

}  // namespace retort::screen
