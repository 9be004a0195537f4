// Accounts that belong together, and how unlikely that would be of independent ones. A graph joins accounts
// by scaffold grams, asked texts and payment, each link weighed by how rare it was in the server's past; a
// cluster is a connected part of it and is scored as a whole. Knows no verdict and no threshold on scores.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
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
// Texts and grams share one table.
std::uint32_t text_token(std::uint32_t pool_hash);

// Evidence of one kind: how far the cluster stands above random sets of as many accounts of the same plan.
enum class Evidence : std::uint8_t {
    novel_scaffold,  // share of requests with grams that the past has not seen
    distinct_texts,  // each asked once
    no_follow_up,
    reasoning,   // elicited
    parameters,  // agree between accounts
    timing,      // active in the same hours
    onset,       // appeared together
    volume,      // alike
    payment,     // shared
    address,     // shared
    regular,     // spacing
    client,      // programs agree
    young,       // not known for long
    count
};
inline constexpr std::size_t evidence_kinds = static_cast<std::size_t>(Evidence::count);
std::string_view evidence_name(std::size_t kind);

struct Cluster {
    std::vector<std::uint32_t> members;   // account numbers, ascending
    std::vector<std::uint32_t> scaffold;  // the grams that most members share, most shared first
    float z[evidence_kinds] = {};         // standard deviations above the permuted mean
    double requests = 0;
    double dispersed = 0;  // distinct texts asked, less those of its largest account
    double score = 0;
};

struct ClusterOptions {
    std::uint32_t min_requests = 2;  // of an account in the window
    std::size_t several = 4;         // accounts that must have a gram or text which none of them repeats
    double link_weight = 2;          // two grams that the past has never seen, or a shared payment
    int draws = 24;                  // random sets, for mean and deviation
    std::uint64_t seed = 0;
};

// All clusters of two accounts and more, the highest score first. Deterministic.
std::vector<Cluster> find_clusters(std::span<const AccountState> accounts, const PastUse& past,
                                   const ClusterOptions& options);

// The tokens of an account that may link it, ascending and distinct: grams that it has repeated, a sample of
// all its grams, texts asked.
std::vector<std::uint32_t> link_tokens(const WindowStats& window);

}  // namespace retort::guard
