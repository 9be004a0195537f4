// The graph of accounts: which share grams, texts, traits or a payment. What an hour's tick compares exactly
// is only what may be shared at all: tokens are counted as events come, so that a million accounts of which
// few have anything in common cost a scan and no sort. Knows no score and no verdict.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "guard/account.h"

namespace retort::guard {

// In how many accounts of past windows a gram or text has been, by hash: 16-bit counters, halved each window,
// collisions make them too large.
class PastUse {
  public:
    explicit PastUse(std::size_t slots = std::size_t{1} << 22U) : counts_(slots) {}
    [[nodiscard]] std::uint32_t of(std::uint32_t token) const {
        return counts_[token & (counts_.size() - 1)];
    }
    void add(std::uint32_t token) {
        std::uint16_t& count = counts_[token & (counts_.size() - 1)];
        if (count < UINT16_MAX) ++count;
    }
    void halve() {
        for (std::uint16_t& count : counts_) count /= 2;
    }
    [[nodiscard]] std::vector<std::uint16_t>& counts() { return counts_; }
    [[nodiscard]] const std::vector<std::uint16_t>& counts() const { return counts_; }

  private:
    std::vector<std::uint16_t> counts_;  // a power of two of them
};

// Which tokens of this window at least two accounts repeat, or `several` have: never too few, and by
// collisions, and by what has left an account's sample since, some too many.
class TokenCounts {
  public:
    explicit TokenCounts(std::size_t several) : several_(static_cast<std::uint32_t>(several)) { clear(); }
    // What an event has left in its account's sketches; `number` is the account's.
    void add(const PromptSketch& sketch, const AccountState& account, std::uint32_t number);
    void clear();
    // Of all windows, anew: after a restart, and in more room when it has become crowded.
    void rebuild(std::span<const AccountState> accounts);
    [[nodiscard]] bool is_crowded() const { return used_ > slots_.size() / 2 && slots_.size() < most_slots; }
    [[nodiscard]] bool may_link(std::uint32_t token) const {
        const std::size_t i = index(token);
        return (hot_[i / 64] >> (i % 64) & 1U) != 0;
    }

  private:
    static constexpr std::size_t first_slots = std::size_t{1} << 16U;
    static constexpr std::size_t most_slots = std::size_t{1} << 25U;
    struct Slot {
        std::uint32_t holder : 29 = 0;  // the last, counted from 1
        std::uint32_t holders : 3 = 0;
        std::uint32_t repeater : 30 = 0;
        std::uint32_t repeaters : 2 = 0;
    };
    static_assert(sizeof(Slot) == 8);
    // Samples keep the smallest hashes, whose own low bits would do, but texts' tokens are products.
    [[nodiscard]] std::size_t index(std::uint32_t token) const {
        return (std::uint64_t{token} * 0x9e3779b97f4a7c15U) >> shift_;
    }
    void count(std::uint32_t token, std::uint32_t number, bool repeated);
    std::uint32_t several_;
    std::vector<Slot> slots_;
    std::vector<std::uint64_t> hot_;
    std::size_t used_ = 0;
    unsigned shift_ = 0;
};

// Texts and grams share one table.
std::uint32_t text_token(std::uint32_t pool_hash);
// The tokens of an account that may link it, ascending and distinct: grams that it has repeated, a sample of
// all its grams, texts asked, and its traits: client program and parameters together, and its address.
std::vector<std::uint32_t> link_tokens(const AccountState& account);

double weight_of(const PastUse& past, std::uint32_t token);

struct LinkOptions {
    bool traits = true;              // link too; without a past every trait would be new
    std::uint32_t min_requests = 2;  // of an account in the window
    std::size_t several = 4;         // accounts that must have a gram or text which none of them repeats
    double weight = 2;               // two tokens that the past has never seen, or a shared payment
    std::size_t bond = 3;            // pairs of accounts, none in two of them, that tie two groups
};

// The connected parts of two accounts and more: numbers ascending, parts by their first.
std::vector<std::vector<std::uint32_t>> connected_accounts(std::span<const AccountState> accounts,
                                                           const PastUse& past, const TokenCounts& counts,
                                                           const LinkOptions& options);

}  // namespace retort::guard
