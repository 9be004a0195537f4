// Accounts that belong together, and how unlikely that would be of independent ones. A cluster is a connected
// part of the graph that guard/links.h makes, and is scored as a whole. Knows no verdict and no threshold on
// scores.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "guard/cluster_score.h"
#include "guard/links.h"

namespace retort::guard {

struct ClusterOptions {
    LinkOptions links;
    int draws = 24;  // random sets, for mean and deviation
    std::uint64_t seed = 0;
};

// The members that a verdict on the cluster is about. What links two accounts may be chance, and a chain of
// chances leads from a campaign to honest users. So a member must share something that no prompt carries with
// customers of the cluster, `bond` of them with its own, and with more than chance gives: parameters, client,
// address, or a first day (give or take one). One of these is enough where what it has in common with `bond`
// members weighs as much as a link and a third of the middle member's, else it needs two. Of a cluster of
// fewer customers: the accounts of the customer that has most, or all where none has several.
std::vector<std::uint32_t> members_that_belong(std::span<const AccountState> accounts, const PastUse& past,
                                               const Cluster& cluster, const LinkOptions& options);

// All clusters of two accounts and more: those of several customers first, of each kind the highest score.
// Deterministic.
std::vector<Cluster> find_clusters(std::span<const AccountState> accounts, const PastUse& past,
                                   const TokenCounts& counts, const ClusterOptions& options);

}  // namespace retort::guard
