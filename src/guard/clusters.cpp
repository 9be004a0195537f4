#include "guard/clusters.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "guard/customers.h"

namespace retort::guard {

namespace {

// The grams that most members repeat; which they are some thousand members tell as well as a million.
std::vector<std::uint32_t> scaffold_of(std::span<const AccountState> accounts, const PastUse& past,
                                       std::span<const std::uint32_t> members) {
    std::unordered_map<std::uint32_t, std::uint32_t> grams;
    constexpr std::size_t most_looked_at = 2048;
    const std::size_t step = 1 + members.size() / most_looked_at;
    for (std::size_t m = 0; m < members.size(); m += step) {
        const WindowStats& window = accounts[members[m]].window;
        for (std::size_t g = 0; g < GramTable::size; ++g)
            if (window.grams.counts[g] >= 2) ++grams[window.grams.grams[g]];
    }
    std::vector<std::pair<double, std::uint32_t>> ranked;
    for (const auto& [gram, count] : grams)
        if (count >= 2) ranked.emplace_back(count * weight_of(past, gram), gram);
    std::sort(ranked.begin(), ranked.end(), std::greater<>());
    constexpr std::size_t shown = 32;
    std::vector<std::uint32_t> out;
    for (const auto& [weight, gram] : ranked) {
        if (out.size() == shown) break;
        out.push_back(gram);
    }
    return out;
}

// In how many customers something must be to be the cluster's: in thousands, chance brings whole groups, that
// have much in common among themselves.
double enough_customers(std::size_t customers, std::size_t bond) {
    constexpr double share = 0.02;
    return std::max(static_cast<double>(bond), share * static_cast<double>(customers));
}

// Of each member: what its tokens that `enough` customers have weigh together.
std::unordered_map<std::uint32_t, double> common_weights(std::span<const AccountState> accounts,
                                                         const PastUse& past,
                                                         std::span<const Customer> customers, double enough) {
    std::unordered_map<std::uint32_t, std::uint32_t> holders;
    for (const Customer& customer : customers) {
        std::unordered_set<std::uint32_t> own;
        for (const std::uint32_t i : customer.members)
            for (const std::uint32_t token : link_tokens(accounts[i]))
                if (own.insert(token).second) ++holders[token];
    }
    std::unordered_map<std::uint32_t, double> out;
    for (const Customer& customer : customers) {
        for (const std::uint32_t i : customer.members) {
            double& weight = out[i];
            for (const std::uint32_t token : link_tokens(accounts[i]))
                if (holders[token] >= enough) weight += weight_of(past, token);
        }
    }
    return out;
}

// What no prompt carries. A payment is none of them: whom it joins is one customer.
constexpr std::size_t trait_kinds = 4;
using Traits = std::array<std::uint64_t, trait_kinds>;
Traits traits_of(const AccountState& account) {
    const auto day = static_cast<std::uint64_t>(account.first_ms / 86'400'000);
    return {account.window.parameters, account.client, account.address, day};
}
constexpr std::size_t day_kind = 3;

using TraitCounts = std::array<std::unordered_map<std::uint64_t, double>, trait_kinds>;

double count_of(const TraitCounts& counts, std::size_t kind, std::uint64_t value) {
    const auto at = [&](std::uint64_t one) {
        const auto found = counts[kind].find(one);
        return found == counts[kind].end() ? 0.0 : found->second;
    };
    // Accounts of one campaign need not begin before and after the same midnight.
    return kind == day_kind ? at(value - 1) + at(value) + at(value + 1) : at(value);
}

// In how many of the cluster's customers each value is, and in how many of all accounts of the window.
struct TraitUse {
    TraitCounts customers;
    TraitCounts accounts;
    double share = 0;  // the cluster's customers, of all accounts
};

TraitUse trait_use_of(std::span<const AccountState> accounts, std::span<const Customer> customers,
                      std::uint32_t min_requests) {
    TraitUse use;
    for (const Customer& customer : customers) {
        std::array<std::set<std::uint64_t>, trait_kinds> own;
        for (const std::uint32_t i : customer.members) {
            const Traits traits = traits_of(accounts[i]);
            for (std::size_t k = 0; k < trait_kinds; ++k)
                if (traits[k] != 0) own[k].insert(traits[k]);
        }
        for (std::size_t k = 0; k < trait_kinds; ++k) {
            for (const std::uint64_t value : own[k]) {
                ++use.customers[k][value];
                use.accounts[k].try_emplace(value, 0.0);
            }
        }
    }
    double all = 0;
    for (const AccountState& account : accounts) {
        if (account.window.requests < min_requests) continue;
        ++all;
        const Traits traits = traits_of(account);
        for (std::size_t k = 0; k < trait_kinds; ++k) {
            const auto found = use.accounts[k].find(traits[k]);
            if (found != use.accounts[k].end()) ++found->second;
        }
    }
    use.share = all > 0 ? static_cast<double>(customers.size()) / all : 0;
    return use;
}

// Traits that `enough` of the cluster's customers have, and as many more than of others' as chance does not
// give (three standard deviations of a Poisson count).
std::size_t shared_traits(const TraitUse& use, const AccountState& account, double enough) {
    const Traits traits = traits_of(account);
    std::size_t shared = 0;
    for (std::size_t k = 0; k < trait_kinds; ++k) {
        if (traits[k] == 0) continue;
        const double holders = count_of(use.customers, k, traits[k]);
        const double expected = count_of(use.accounts, k, traits[k]) * use.share;
        if (holders >= enough && holders >= expected + 3 * std::sqrt(expected)) ++shared;
    }
    return shared;
}

}  // namespace

std::vector<std::uint32_t> members_that_belong(std::span<const AccountState> accounts, const PastUse& past,
                                               const Cluster& cluster, const LinkOptions& options) {
    const std::vector<Customer> customers = customers_of(accounts, cluster.members);
    if (!is_campaign(cluster)) {
        const auto largest = std::max_element(
            customers.begin(), customers.end(),
            [](const Customer& a, const Customer& b) { return a.members.size() < b.members.size(); });
        return largest->members.size() > 1 ? largest->members : cluster.members;
    }
    const double enough = enough_customers(customers.size(), options.bond);
    const auto weights = common_weights(accounts, past, customers, enough);
    std::vector<double> sorted;
    for (const auto& [account, weight] : weights) sorted.push_back(weight);
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    const double near = std::max(options.weight, *middle / 3);
    const TraitUse use = trait_use_of(accounts, customers, options.min_requests);
    std::vector<std::uint32_t> out;
    for (const std::uint32_t i : cluster.members) {
        if (shared_traits(use, accounts[i], enough) >= (weights.at(i) >= near ? 1U : 2U)) out.push_back(i);
    }
    return out;
}

std::vector<Cluster> find_clusters(std::span<const AccountState> accounts, const PastUse& past,
                                   const TokenCounts& counts, const ClusterOptions& options) {
    ClusterScorer scorer(accounts, past, options.links.min_requests, options.draws, options.seed);
    std::vector<Cluster> out;
    for (auto& members : connected_accounts(accounts, past, counts, options.links)) {
        Cluster cluster;
        cluster.members = std::move(members);
        cluster.scaffold = scaffold_of(accounts, past, cluster.members);
        scorer.score(cluster);
        out.push_back(std::move(cluster));
    }
    std::stable_sort(out.begin(), out.end(), [](const Cluster& a, const Cluster& b) {
        if (is_campaign(a) != is_campaign(b)) return is_campaign(a);
        return a.score > b.score;
    });
    return out;
}

}  // namespace retort::guard
