// Byte-pair encoding of one word: merges by rank, leftmost first. Knows nothing of files, added tokens or how
// text is cut into words.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace retort::text {

// Strings to ids by open addressing; the strings lie in one block.
class StringIndex {
  public:
    void reserve(std::size_t strings, std::size_t bytes);
    // An earlier id of the same string stays, and false is returned.
    bool insert(std::string_view key, std::int32_t id);
    [[nodiscard]] std::int32_t find(std::string_view key) const;  // -1 when absent
    [[nodiscard]] std::size_t size() const { return count_; }

  private:
    struct Slot {
        std::uint64_t hash = 0;
        std::uint32_t offset = 0;
        std::uint32_t length = 0;
        std::int32_t id = -1;
    };
    [[nodiscard]] std::size_t slot_of(std::string_view key, std::uint64_t hash) const;
    void grow(std::size_t slots);
    std::vector<Slot> slots_;
    std::string block_;
    std::size_t count_ = 0;
};

// Pairs of ids to the rank and the result of their merge.
class MergeTable {
  public:
    struct Merge {
        std::uint32_t rank = none;
        std::int32_t result = -1;
    };
    static constexpr std::uint32_t none = 0xFFFFFFFFU;

    void reserve(std::size_t merges);
    void insert(std::int32_t left, std::int32_t right, Merge merge);  // a later one replaces
    [[nodiscard]] Merge find(std::int32_t left, std::int32_t right) const {
        if (slots_.empty()) return {};
        const std::uint64_t key = key_of(left, right);
        for (std::size_t i = (key * 0x9E3779B97F4A7C15U) >> shift_;; i = (i + 1) & (slots_.size() - 1)) {
            if (slots_[i].key == key) return slots_[i].merge;
            if (slots_[i].key == empty) return {};
        }
    }

  private:
    static constexpr std::uint64_t empty = ~std::uint64_t{0};
    struct Slot {
        std::uint64_t key = empty;
        Merge merge;
    };
    static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
        return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32U) |
               static_cast<std::uint32_t>(right);
    }
    std::vector<Slot> slots_;
    unsigned shift_ = 63;
};

struct BpeOptions {
    bool byte_level = false;     // symbols are bytes, and tokens are written in the byte alphabet
    bool byte_fallback = false;  // characters without a token become <0xNN> tokens
    bool fuse_unknown = false;   // neighbouring unknown characters become one unknown token
    bool ignore_merges = false;  // a word that is a token needs no merges
    std::int32_t unknown = -1;   // characters without a token are dropped when there is none
};

// Words already encoded, and buffers. One thread at a time.
class BpeScratch {
  public:
    BpeScratch();

  private:
    friend class Bpe;
    struct Slot {
        std::uint64_t hash = 0;
        std::uint32_t offset = 0;
        std::uint16_t bytes = 0;  // 0: empty
        std::uint16_t ids = 0;
    };
    struct Symbol {
        std::int32_t id;
        std::int32_t previous;
        std::int32_t next;
        std::uint32_t rank;  // of the merge with the next symbol, in the short form
    };
    struct Candidate {
        std::uint32_t rank;
        std::int32_t at;
        std::int32_t result;
    };
    void grow();
    std::vector<Slot> slots_;
    std::vector<char> block_;
    std::size_t used_ = 0;
    std::vector<Symbol> symbols_;
    std::vector<Candidate> heap_;
};

class Bpe {
  public:
    // tokens[id] is the token's text as tokenizer.json has it; `merges` are ids of the two halves in order of
    // rank. An id whose merge result is no token is an error.
    static Result<Bpe> build(std::span<const std::string_view> tokens,
                             std::span<const std::pair<std::string_view, std::string_view>> merges,
                             const BpeOptions& options);

    // Appends the ids of one word of valid UTF-8.
    void encode(std::string_view word, std::vector<std::int32_t>& ids, BpeScratch& scratch) const;
    // The id of a token's text, -1 when there is none.
    [[nodiscard]] std::int32_t find(std::string_view token) const { return by_text_.find(token); }

  private:
    void encode_cached(std::string_view word, std::vector<std::int32_t>& ids, BpeScratch& scratch) const;
    void encode_fresh(std::string_view word, std::vector<std::int32_t>& ids, BpeScratch& scratch) const;
    void append_symbols(std::string_view word, std::vector<BpeScratch::Symbol>& symbols) const;
    void merge_short(std::vector<BpeScratch::Symbol>& symbols) const;
    void merge_long(BpeScratch& scratch) const;

    BpeOptions options_;
    StringIndex by_text_;
    StringIndex by_bytes_;  // byte_level: tokens as the bytes they stand for
    MergeTable merges_;
    std::array<std::int32_t, 256> byte_symbol_{};  // byte_level: the token of one byte
    std::array<std::int32_t, 256> byte_token_{};   // byte_fallback: <0xNN>
    // Between any character and this one lies no merge: words may be cut before it without changing an id,
    // which keeps a text that is one long word to the model within the cache. Empty when that is not so.
    std::string cut_before_;
};

// GPT-2's alphabet: each byte is one printable character. Bytes of a token written in it; false when a
// character is none of the alphabet.
bool bytes_of_alphabet(std::string_view token, std::string& bytes);
std::string alphabet_of_bytes(std::string_view bytes);

}  // namespace retort::text
