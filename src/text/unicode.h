// UTF-8, and the character classes that decide token ids. The tables follow the versions of Unicode that the
// `tokenizers` library mixes (tests/golden/text_unicode_tables.py reads them out of it), not the newest one.
// Knows nothing of tokenizers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace retort::text {

enum class Category : std::uint8_t {
    cn,
    lu,
    ll,
    lt,
    lm,
    lo,
    mn,
    mc,
    me,
    nd,
    nl,
    no,
    pc,
    pd,
    ps,
    pe,
    pi,
    pf,
    po,
    sm,
    sc,
    sk,
    so,
    zs,
    zl,
    zp,
    cc,
    cf,
    co,
};

// A set of categories, one bit each.
using CategorySet = std::uint32_t;
constexpr CategorySet bit(Category category) {
    return 1U << static_cast<unsigned>(category);
}
namespace categories {
constexpr CategorySet letters =
    bit(Category::lu) | bit(Category::ll) | bit(Category::lt) | bit(Category::lm) | bit(Category::lo);
constexpr CategorySet marks = bit(Category::mn) | bit(Category::mc) | bit(Category::me);
constexpr CategorySet numbers = bit(Category::nd) | bit(Category::nl) | bit(Category::no);
constexpr CategorySet punctuation = bit(Category::pc) | bit(Category::pd) | bit(Category::ps) |
                                    bit(Category::pe) | bit(Category::pi) | bit(Category::pf) |
                                    bit(Category::po);
constexpr CategorySet symbols = bit(Category::sm) | bit(Category::sc) | bit(Category::sk) | bit(Category::so);
constexpr CategorySet separators = bit(Category::zs) | bit(Category::zl) | bit(Category::zp);
}  // namespace categories

// What is known of a code point, in one word of a two-level table.
class CharacterTable {
  public:
    static const CharacterTable& get();

    [[nodiscard]] Category category(char32_t c) const { return static_cast<Category>(entry(c) & 31U); }
    [[nodiscard]] bool in(char32_t c, CategorySet set) const { return ((set >> (entry(c) & 31U)) & 1U) != 0; }
    // Rust's char::is_numeric, the `Punctuation` pre-tokenizer's class, and \w of Rust's regex crate.
    [[nodiscard]] bool numeric(char32_t c) const { return (entry(c) & 64U) != 0; }
    [[nodiscard]] bool punctuation_mark(char32_t c) const { return (entry(c) & 32U) != 0; }
    [[nodiscard]] bool word(char32_t c) const { return (entry(c) & 128U) != 0; }
    // Text without such a character is in NFC already.
    [[nodiscard]] bool nfc_attention(char32_t c) const { return (entry(c) & 256U) != 0; }
    // A mark that the reference's normaliser does not know: it never moves and never composes.
    [[nodiscard]] bool nfc_inert(char32_t c) const { return (entry(c) & 512U) != 0; }
    [[nodiscard]] bool white_space(char32_t c) const { return (entry(c) & 1024U) != 0; }

    // The code points whose category is in the set, as inclusive ranges.
    [[nodiscard]] static std::vector<std::pair<char32_t, char32_t>> ranges(CategorySet set);

  private:
    CharacterTable();
    [[nodiscard]] std::uint16_t entry(char32_t c) const { return values_[block_[c >> 8U]][c & 255U]; }
    std::array<std::uint16_t, 0x1100> block_{};
    std::vector<std::array<std::uint16_t, 256>> values_;
};

// Unicode's White_Space.
bool is_white_space(char32_t c);

struct Decoded {
    char32_t point;
    std::uint32_t length;
};

// The character at `at` of text that is valid UTF-8 and does not end there.
inline Decoded decode_valid(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const char32_t first = byte(0);
    if (first < 0x80) return {first, 1};
    if (first < 0xE0) return {((first & 31U) << 6U) | (byte(1) & 63U), 2};
    if (first < 0xF0) return {((first & 15U) << 12U) | ((byte(1) & 63U) << 6U) | (byte(2) & 63U), 3};
    return {((first & 7U) << 18U) | ((byte(1) & 63U) << 12U) | ((byte(2) & 63U) << 6U) | (byte(3) & 63U), 4};
}

// The character that ends at `end` of valid UTF-8; end > 0.
Decoded decode_valid_before(std::string_view text, std::size_t end);

void append_utf8(std::string& out, char32_t point);

// Length of the longest prefix that is valid UTF-8; `incomplete` tells whether the rest is the beginning of a
// character rather than an error.
std::size_t valid_utf8_prefix(std::string_view text, bool* incomplete = nullptr);
// Length of the maximal ill-formed part at the beginning of text whose first character is not well formed.
std::size_t ill_formed_length(std::string_view text);
bool is_valid_utf8(std::string_view text);

// Every maximal part of an ill-formed sequence becomes one U+FFFD, as Python's errors="replace" and Rust's
// from_utf8_lossy do.
void append_lossy_utf8(std::string& out, std::string_view text);
std::string lossy_utf8(std::string_view text);

}  // namespace retort::text
