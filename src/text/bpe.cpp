#include "text/bpe.h"

#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "text/unicode.h"

namespace retort::text {
namespace {

constexpr std::size_t longest_cached_word = 96;
constexpr std::size_t first_slots = 1U << 10U;
constexpr std::size_t most_slots = 1U << 17U;
constexpr std::size_t longest_scan = 24;                  // symbols up to which a scan beats a heap
constexpr std::string_view word_marker = "\xE2\x96\x81";  // ▁

// Whether no result of a merge has the word_marker behind another character.
bool marker_begins_words(std::span<const std::pair<std::string_view, std::string_view>> merges) {
    std::string whole;
    for (const auto& [left, right] : merges) {
        whole.assign(left).append(right);
        for (std::size_t at = whole.find(word_marker, 1); at != std::string::npos;
             at = whole.find(word_marker, at + 1)) {
            if (at < word_marker.size() ||
                whole.compare(at - word_marker.size(), word_marker.size(), word_marker) != 0)
                return false;
        }
    }
    return true;
}

}  // namespace

BpeScratch::BpeScratch() : slots_(first_slots) {}

void BpeScratch::grow() {
    if (slots_.size() >= most_slots) {
        std::fill(slots_.begin(), slots_.end(), Slot{});
        block_.clear();
        used_ = 0;
        return;
    }
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
        if (slot.bytes == 0) continue;
        std::size_t i = slot.hash & (slots_.size() - 1);
        while (slots_[i].bytes != 0) i = (i + 1) & (slots_.size() - 1);
        slots_[i] = slot;
    }
}

Result<Bpe> Bpe::build(std::span<const std::string_view> tokens,
                       std::span<const std::pair<std::string_view, std::string_view>> merges,
                       const BpeOptions& options) {
    Bpe bpe;
    bpe.options_ = options;
    bpe.byte_symbol_.fill(-1);
    bpe.byte_token_.fill(-1);
    std::size_t bytes = 0;
    for (const std::string_view token : tokens) bytes += token.size();
    if (bytes > 0x7FFFFFFFU) return fail(ErrorCode::format, "the vocabulary holds {} bytes of text", bytes);
    bpe.by_text_.reserve(tokens.size(), bytes);
    if (options.byte_level) bpe.by_bytes_.reserve(tokens.size(), bytes);
    std::string raw;
    for (std::size_t id = 0; id < tokens.size(); ++id) {
        const auto number = static_cast<std::int32_t>(id);
        if (tokens[id].empty() || !bpe.by_text_.insert(tokens[id], number)) continue;
        if (options.byte_level && bytes_of_alphabet(tokens[id], raw)) {
            bpe.by_bytes_.insert(raw, number);
            if (raw.size() == 1) bpe.byte_symbol_[static_cast<unsigned char>(raw[0])] = number;
        }
    }
    if (options.byte_fallback) {
        for (unsigned b = 0; b < 256; ++b) bpe.byte_token_[b] = bpe.find(fmt::format("<0x{:02X}>", b));
    }
    bpe.merges_.reserve(merges.size());
    std::string whole;
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
        const auto& [left, right] = merges[rank];
        whole.assign(left).append(right);
        const std::int32_t left_id = bpe.find(left);
        const std::int32_t right_id = bpe.find(right);
        const std::int32_t result = bpe.find(whole);
        if (left_id < 0 || right_id < 0 || result < 0) {
            return fail(ErrorCode::format, "merge {} ({:?} + {:?}): {} is not in the vocabulary", rank, left,
                        right,
                        left_id < 0 ? "the left half" : (right_id < 0 ? "the right half" : "the result"));
        }
        bpe.merges_.insert(left_id, right_id, {static_cast<std::uint32_t>(rank), result});
    }
    // An unknown word_marker would take part in the fusing of unknown characters across the cut.
    if (!options.byte_level && !options.ignore_merges && bpe.find(word_marker) >= 0 &&
        marker_begins_words(merges)) {
        bpe.cut_before_ = word_marker;
    }
    return bpe;
}

void Bpe::encode(std::string_view word, std::vector<std::int32_t>& ids, BpeScratch& scratch) const {
    if (word.empty()) return;
    if (!cut_before_.empty() && word.size() > cut_before_.size()) {
        // "▁▁a▁b" is cut before each word_marker that does not follow a word_marker.
        std::size_t begin = 0;
        std::size_t from = word.starts_with(cut_before_) ? cut_before_.size() : 0;
        while (true) {
            const std::size_t at = word.find(cut_before_, from);
            if (at == std::string_view::npos) break;
            from = at + cut_before_.size();
            if (at >= cut_before_.size() &&
                word.substr(at - cut_before_.size(), cut_before_.size()) == cut_before_) {
                continue;
            }
            if (at > begin) {
                encode_cached(word.substr(begin, at - begin), ids, scratch);
                begin = at;
            }
        }
        word.remove_prefix(begin);
    }
    encode_cached(word, ids, scratch);
}

void Bpe::encode_cached(std::string_view word, std::vector<std::int32_t>& ids, BpeScratch& scratch) const {
    if (word.size() > longest_cached_word) {
        encode_fresh(word, ids, scratch);
        return;
    }
    const std::uint64_t hash = base::xxh3_64(word);
    std::size_t i = hash & (scratch.slots_.size() - 1);
    while (scratch.slots_[i].bytes != 0) {
        const BpeScratch::Slot& slot = scratch.slots_[i];
        const char* const entry = scratch.block_.data() + slot.offset;
        if (slot.hash == hash && slot.bytes == word.size() &&
            std::memcmp(entry, word.data(), word.size()) == 0) {
            const std::size_t first = ids.size();
            ids.resize(first + slot.ids);
            std::memcpy(ids.data() + first, entry + slot.bytes, slot.ids * sizeof(std::int32_t));
            return;
        }
        i = (i + 1) & (scratch.slots_.size() - 1);
    }
    const std::size_t first = ids.size();
    encode_fresh(word, ids, scratch);
    if ((scratch.used_ + 1) * 2 > scratch.slots_.size()) {
        scratch.grow();
        i = hash & (scratch.slots_.size() - 1);
        while (scratch.slots_[i].bytes != 0) i = (i + 1) & (scratch.slots_.size() - 1);
    }
    const std::size_t count = ids.size() - first;
    scratch.slots_[i] = {hash, static_cast<std::uint32_t>(scratch.block_.size()),
                         static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(count)};
    scratch.block_.insert(scratch.block_.end(), word.begin(), word.end());
    const char* const numbers = reinterpret_cast<const char*>(ids.data() + first);
    scratch.block_.insert(scratch.block_.end(), numbers, numbers + count * sizeof(std::int32_t));
    ++scratch.used_;
}

void Bpe::append_symbols(std::string_view word, std::vector<BpeScratch::Symbol>& symbols) const {
    const auto add = [&](std::int32_t id) { symbols.push_back({id, 0, 0, MergeTable::none}); };
    if (options_.byte_level) {
        for (const char b : word) {
            const std::int32_t id = byte_symbol_[static_cast<unsigned char>(b)];
            if (id >= 0) {
                add(id);
            } else if (options_.unknown >= 0) {
                // The reference counts characters of its byte alphabet, so each unknown byte is one.
                if (!options_.fuse_unknown || symbols.empty() || symbols.back().id != options_.unknown) {
                    add(options_.unknown);
                }
            }
        }
        return;
    }
    bool pending = false;  // an unknown character is noted but not yet added, as in the reference
    for (std::size_t at = 0; at < word.size();) {
        const std::size_t length = decode_valid(word, at).length;
        const std::string_view character = word.substr(at, length);
        at += length;
        if (const std::int32_t id = by_text_.find(character); id >= 0) {
            if (pending) add(options_.unknown);
            pending = false;
            add(id);
            continue;
        }
        if (options_.byte_fallback && std::all_of(character.begin(), character.end(), [&](char b) {
                return byte_token_[static_cast<unsigned char>(b)] >= 0;
            })) {
            for (const char b : character) add(byte_token_[static_cast<unsigned char>(b)]);
            continue;
        }
        if (options_.unknown < 0) continue;
        if (pending && !options_.fuse_unknown) add(options_.unknown);
        pending = true;
    }
    if (pending) add(options_.unknown);
}

void Bpe::encode_fresh(std::string_view word, std::vector<std::int32_t>& ids, BpeScratch& scratch) const {
    if (options_.ignore_merges) {
        const std::int32_t whole = options_.byte_level ? by_bytes_.find(word) : by_text_.find(word);
        if (whole >= 0) {
            ids.push_back(whole);
            return;
        }
    }
    scratch.symbols_.clear();
    append_symbols(word, scratch.symbols_);
    if (scratch.symbols_.size() <= longest_scan) {
        merge_short(scratch.symbols_);
        for (const BpeScratch::Symbol& symbol : scratch.symbols_) ids.push_back(symbol.id);
        return;
    }
    merge_long(scratch);
    for (std::int32_t at = 0; at >= 0; at = scratch.symbols_[static_cast<std::size_t>(at)].next) {
        ids.push_back(scratch.symbols_[static_cast<std::size_t>(at)].id);
    }
}

// The lowest rank, leftmost first, found by looking at all.
void Bpe::merge_short(std::vector<BpeScratch::Symbol>& symbols) const {
    const auto rank_at = [&](std::size_t i) {
        if (i + 1 >= symbols.size()) return MergeTable::none;
        const MergeTable::Merge merge = merges_.find(symbols[i].id, symbols[i + 1].id);
        symbols[i].next = merge.result;
        return merge.rank;
    };
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) symbols[i].rank = rank_at(i);
    while (true) {
        std::size_t best = 0;
        std::uint32_t lowest = MergeTable::none;
        for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
            if (symbols[i].rank < lowest) {
                lowest = symbols[i].rank;
                best = i;
            }
        }
        if (lowest == MergeTable::none) return;
        symbols[best].id = symbols[best].next;
        symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
        symbols[best].rank = rank_at(best);
        if (best > 0) symbols[best - 1].rank = rank_at(best - 1);
    }
}

// The same with a heap of candidates over a linked list; a candidate whose pair has changed is skipped.
void Bpe::merge_long(BpeScratch& scratch) const {
    auto& symbols = scratch.symbols_;
    auto& heap = scratch.heap_;
    const auto later = [](const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
        return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
    };
    const auto symbol = [&](std::int32_t i) -> BpeScratch::Symbol& {
        return symbols[static_cast<std::size_t>(i)];
    };
    const auto consider = [&](std::int32_t left, bool push) {
        if (left < 0 || symbol(left).next < 0) return;
        const MergeTable::Merge merge = merges_.find(symbol(left).id, symbol(symbol(left).next).id);
        if (merge.rank == MergeTable::none) return;
        heap.push_back({merge.rank, left, merge.result});
        if (push) std::push_heap(heap.begin(), heap.end(), later);
    };
    heap.clear();
    const auto count = static_cast<std::int32_t>(symbols.size());
    for (std::int32_t i = 0; i < count; ++i) {
        symbol(i).previous = i - 1;
        symbol(i).next = i + 1 < count ? i + 1 : -1;
    }
    for (std::int32_t i = 0; i + 1 < count; ++i) consider(i, false);
    std::make_heap(heap.begin(), heap.end(), later);
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), later);
        const BpeScratch::Candidate top = heap.back();
        heap.pop_back();
        BpeScratch::Symbol& left = symbol(top.at);
        if (left.id < 0 || left.next < 0) continue;
        BpeScratch::Symbol& right = symbol(left.next);
        if (merges_.find(left.id, right.id).result != top.result) continue;
        left.id = top.result;
        right.id = -1;
        left.next = right.next;
        if (left.next >= 0) symbol(left.next).previous = top.at;
        consider(left.previous, true);
        consider(top.at, true);
    }
}

}  // namespace retort::text
