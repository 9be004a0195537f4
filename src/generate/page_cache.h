// Which page of keys and values belongs to whom. Pages whose tokens are known form a tree of prefixes, so
// that requests with the same beginning share them, and stay after their request until the space is needed.
// Knows tokens and page numbers, never the numbers in the pages.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "tensor/decode_attention.h"

namespace retort::generate {

class PageCache {
  public:
    explicit PageCache(std::int64_t page_count);

    struct Match {
        std::vector<std::int32_t> pages;  // whole pages, held for the caller until release()
        std::int32_t partial_page = -1;   // a page to copy from: its first partial_tokens go on from there
        std::int64_t partial_tokens = 0;
        [[nodiscard]] std::int64_t tokens() const {
            return static_cast<std::int64_t>(pages.size()) * tensor::kv_page_tokens + partial_tokens;
        }
    };
    // The longest known beginning of `tokens`. The page to copy from stays valid until the next allocate().
    Match match(std::span<const std::int32_t> tokens);
    // How long it would be, holding nothing.
    [[nodiscard]] std::int64_t match_length(std::span<const std::int32_t> tokens) const;

    // A page for one sequence alone: a free one, or the longest unused of those that nobody holds. The caller
    // reserved it: there is one.
    std::int32_t allocate();

    // `pages[index]` of a sequence is now full with these tokens, and all before it are known: makes it known
    // too. If another sequence made the same one known first, pages[index] becomes that one.
    void publish(std::vector<std::int32_t>& pages, std::size_t index, std::span<const std::int32_t> tokens);

    // Gives back a sequence's pages; what its last, not full page holds (`tail`, may be empty) becomes known.
    void release(std::vector<std::int32_t>& pages, std::span<const std::int32_t> tail);

    [[nodiscard]] std::int64_t page_count() const { return static_cast<std::int64_t>(pages_.size()); }
    // Neither free nor merely kept for a later request.
    [[nodiscard]] std::int64_t held_pages() const { return held_; }

  private:
    enum class State { free, own, known };
    struct Page {
        State state = State::free;
        std::int32_t parent = -1;  // −1: begins a sequence
        std::int32_t holders = 0;
        std::int32_t token_count = 0;
        std::uint64_t last_used = 0;
        std::array<std::int32_t, tensor::kv_page_tokens> tokens{};
        std::vector<std::int32_t> children;
    };
    [[nodiscard]] const std::vector<std::int32_t>& children_of(std::int32_t page) const;
    std::vector<std::int32_t>& children_of(std::int32_t page);
    [[nodiscard]] std::int32_t find_full_child(std::int32_t parent,
                                               std::span<const std::int32_t> tokens) const;
    [[nodiscard]] std::pair<std::int32_t, std::int64_t> find_partial_child(
        std::int32_t parent, std::span<const std::int32_t> tokens) const;
    void hold(std::int32_t page);
    void let_go(std::int32_t page);
    void update_evictable(std::int32_t page);
    void attach(std::int32_t page, std::int32_t parent, std::span<const std::int32_t> tokens);
    void evict(std::int32_t page);

    std::vector<Page> pages_;
    std::vector<std::int32_t> roots_;
    std::vector<std::int32_t> free_;
    std::set<std::pair<std::uint64_t, std::int32_t>>
        evictable_;  // known leaves that nobody holds, oldest first
    std::int64_t held_ = 0;
    std::uint64_t clock_ = 0;
};

}  // namespace retort::generate
