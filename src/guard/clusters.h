// Accounts that belong together, and how unlikely that would be of independent ones. A cluster is a connected
// part of the graph that guard/links.h makes, and is scored as a whole. Knows no verdict and no threshold on
// scores.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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

struct Cluster {
    std::vector<std::uint32_t> members;   // account numbers, ascending
    std::vector<std::uint32_t> scaffold;  // the grams that most members share, most shared first
    float z[evidence_kinds] = {};         // standard deviations above the permuted mean
    double requests = 0;
    double dispersed = 0;  // distinct texts asked, less those of its largest account
    double score = 0;
};

struct ClusterOptions {
    LinkOptions links;
    int draws = 24;  // random sets, for mean and deviation
    std::uint64_t seed = 0;
};

// The members that a verdict on the cluster is about. What links two accounts may be chance, and a chain of
// chances leads from a campaign to honest users. So a member must share something that no prompt carries
// (parameters, client, payment, address) with `bond` members, itself among them: one such trait where what it
// has of the cluster's scaffold weighs as much as a link and a third of what the middle member's weighs, else
// two. Without a scaffold all belong.
std::vector<std::uint32_t> members_that_belong(std::span<const AccountState> accounts, const PastUse& past,
                                               const Cluster& cluster, const LinkOptions& options);

// All clusters of two accounts and more, the highest score first. Deterministic.
std::vector<Cluster> find_clusters(std::span<const AccountState> accounts, const PastUse& past,
                                   const TokenCounts& counts, const ClusterOptions& options);

}  // namespace retort::guard
