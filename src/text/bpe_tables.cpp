#include <algorithm>
#include <array>
#include <bit>

#include "base/hash.h"
#include "text/bpe.h"
#include "text/unicode.h"

namespace retort::text {
namespace {

struct Alphabet {
    std::array<char32_t, 256> character{};
    std::array<int, 0x144> byte{};  // -1: not of the alphabet
};

// Printable Latin-1 stands for itself, the rest for U+0100 onwards.
Alphabet make_alphabet() {
    Alphabet alphabet;
    alphabet.byte.fill(-1);
    char32_t next = 0x100;
    for (unsigned b = 0; b < 256; ++b) {
        const bool printable =
            (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
        alphabet.character[b] = printable ? b : next++;
        alphabet.byte[alphabet.character[b]] = static_cast<int>(b);
    }
    return alphabet;
}

const Alphabet& alphabet() {
    static const Alphabet instance = make_alphabet();
    return instance;
}

}  // namespace

bool bytes_of_alphabet(std::string_view token, std::string& bytes) {
    const Alphabet& letters_of = alphabet();
    bytes.clear();
    for (std::size_t at = 0; at < token.size();) {
        const Decoded c = decode_valid(token, at);
        if (c.point >= letters_of.byte.size() || letters_of.byte[c.point] < 0) return false;
        bytes.push_back(static_cast<char>(static_cast<unsigned char>(letters_of.byte[c.point])));
        at += c.length;
    }
    return true;
}

std::string alphabet_of_bytes(std::string_view bytes) {
    std::string out;
    out.reserve(bytes.size() * 2);
    for (const char b : bytes) append_utf8(out, alphabet().character[static_cast<unsigned char>(b)]);
    return out;
}

void StringIndex::reserve(std::size_t strings, std::size_t bytes) {
    block_.reserve(bytes);
    grow(std::bit_ceil(std::max<std::size_t>(strings * 2, 16)));
}

void StringIndex::grow(std::size_t slots) {
    if (slots <= slots_.size()) return;
    std::vector<Slot> old(slots);
    old.swap(slots_);
    for (const Slot& slot : old) {
        if (slot.id < 0) continue;
        std::size_t i = slot.hash & (slots - 1);
        while (slots_[i].id >= 0) i = (i + 1) & (slots - 1);
        slots_[i] = slot;
    }
}

std::size_t StringIndex::slot_of(std::string_view key, std::uint64_t hash) const {
    std::size_t i = hash & (slots_.size() - 1);
    while (slots_[i].id >= 0) {
        const Slot& slot = slots_[i];
        if (slot.hash == hash && std::string_view(block_).substr(slot.offset, slot.length) == key) break;
        i = (i + 1) & (slots_.size() - 1);
    }
    return i;
}

bool StringIndex::insert(std::string_view key, std::int32_t id) {
    if ((count_ + 1) * 2 > slots_.size()) grow(std::max<std::size_t>(slots_.size() * 2, 16));
    const std::uint64_t hash = base::xxh3_64(key);
    const std::size_t i = slot_of(key, hash);
    if (slots_[i].id >= 0) return false;
    slots_[i] = {hash, static_cast<std::uint32_t>(block_.size()), static_cast<std::uint32_t>(key.size()), id};
    block_.append(key);
    ++count_;
    return true;
}

std::int32_t StringIndex::find(std::string_view key) const {
    if (slots_.empty()) return -1;
    return slots_[slot_of(key, base::xxh3_64(key))].id;
}

void MergeTable::reserve(std::size_t merges) {
    const std::size_t slots = std::bit_ceil(std::max<std::size_t>(merges * 2, 2));
    slots_.assign(slots, {});
    shift_ = 64U - static_cast<unsigned>(std::countr_zero(slots));
}

void MergeTable::insert(std::int32_t left, std::int32_t right, Merge merge) {
    const std::uint64_t key = key_of(left, right);
    std::size_t i = (key * 0x9E3779B97F4A7C15U) >> shift_;
    while (slots_[i].key != empty && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = {key, merge};
}

}  // namespace retort::text
