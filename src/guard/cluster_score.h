// How unlikely a cluster would be of independent customers: evidence of each kind in deviations from random
// sets of accounts on the same plan, and one score of it. Knows no link, no past score and no verdict.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "guard/account.h"
#include "guard/links.h"

namespace retort::guard {

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
using Evidences = std::array<float, evidence_kinds>;  // deviations

struct Cluster {
    std::vector<std::uint32_t> members;   // account numbers, ascending
    std::vector<std::uint32_t> scaffold;  // the grams that most members share, most shared first
    Evidences z{};
    std::size_t customers = 0;
    double requests = 0;
    double dispersed = 0;  // distinct texts asked, less those of its largest customer, or of the only one's
                           // largest account
    double unshared =
        1;  // of its customers' texts, the share that no other of them asked: 1 if none is common
    double requests_a_day = 0;  // the middle account's, since it is known, at most a week of it
    double score = 0;           // 0 and above
};

// Of fewer a cluster is a customer and whom chance joined to it: too few to agree on anything, and judged
// with other customers (Detector::customer).
inline constexpr std::size_t least_customers = 4;
inline bool is_campaign(const Cluster& cluster) {
    return cluster.customers >= least_customers;
}

class ClusterScorer {
  public:
    // `draws`: random sets, for mean and deviation.
    ClusterScorer(std::span<const AccountState> accounts, const PastUse& past, std::uint32_t min_requests,
                  int draws, std::uint64_t seed);
    // Fills in all but members and scaffold.
    void score(Cluster& cluster);

  private:
    using Features = std::array<double, evidence_kinds>;
    struct Moments {
        Features mean{};
        Features deviation{};
    };
    // What one account brings to the features; those of pairs need more of it.
    struct Member {
        Evidences mean{};  // of the features that are averages
        std::uint64_t parameters = 0;
        double first_days = 0;
        double log_volume = 0;
        std::uint64_t payment = 0;
        std::uint64_t address = 0;
        std::uint64_t client = 0;
    };
    static Member member_of(const AccountState& account, const PastUse& past);
    const Member& member_at(std::uint32_t account);
    Features features(std::span<const std::uint32_t> members, std::uint64_t stream);
    Evidences deviations(std::span<const std::uint32_t> members);
    double overlap(std::span<const std::uint32_t> members, std::uint64_t stream);
    [[nodiscard]] std::uint16_t majority_plan(std::span<const std::uint32_t> members) const;
    const Moments& null_of(std::size_t n, std::uint16_t plan);

    std::span<const AccountState> accounts_;
    const PastUse& past_;
    int draws_;
    std::uint64_t seed_;
    std::vector<std::uint32_t> places_;  // in members_, counted from 1; 0: not yet made
    std::vector<Member> members_;
    std::map<std::uint16_t, std::vector<std::uint32_t>> by_plan_;
    std::map<std::pair<std::size_t, std::uint16_t>, Moments> nulls_;
};

// Of several customers. What honest groups have as well (a template, a client program, an address in common)
// is left out of the sum: apps, classes and companies have as much of it as campaigns. The weights are
// rounded from a fit on laboratory traffic (bench/transcripts/guard-held-out.md).
double campaign_score(const Cluster& cluster);
// Of one customer's accounts, and of up to three customers': all evidence counts.
double customer_score(const Cluster& cluster);

}  // namespace retort::guard
