#include "guard/clusters.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <map>
#include <numeric>
#include <unordered_map>

#include "base/random.h"

namespace retort::guard {

namespace {

constexpr double most_deviations = 8;

// What one account brings to the features; those of pairs need more of it.
struct Member {
    std::array<float, evidence_kinds> mean{};  // of the features that are averages
    std::uint64_t parameters = 0;
    double first_days = 0;
    double log_volume = 0;
    std::uint64_t payment = 0;
    std::uint64_t address = 0;
    std::uint64_t client = 0;
};

constexpr std::size_t index_of(Evidence kind) {
    return static_cast<std::size_t>(kind);
}

double novelty(const WindowStats& window, const PastUse& past) {
    double best = 0;
    for (std::size_t i = 0; i < GramTable::size; ++i) {
        if (window.grams.counts[i] < 2) continue;
        best = std::max(best, weight_of(past, window.grams.grams[i]) *
                                  std::min<double>(window.grams.counts[i], window.requests));
    }
    return best / std::max<double>(window.requests, 1);
}

Member member_of(const AccountState& account, const PastUse& past) {
    const AccountFacts facts = facts_of(account.window);
    Member member;
    member.mean[index_of(Evidence::novel_scaffold)] = static_cast<float>(novelty(account.window, past));
    member.mean[index_of(Evidence::distinct_texts)] = static_cast<float>(facts.distinct_share);
    member.mean[index_of(Evidence::no_follow_up)] = static_cast<float>(facts.single_share);
    member.mean[index_of(Evidence::reasoning)] = static_cast<float>(facts.elicits_share);
    member.mean[index_of(Evidence::regular)] = static_cast<float>(facts.regularity);
    member.parameters = account.window.parameters;
    member.first_days = static_cast<double>(account.first_ms) / 86'400'000.0;
    member.log_volume = std::log2(1.0 + account.window.requests);
    member.payment = account.payment;
    member.address = account.address;
    member.client = account.client;
    const double age_days = static_cast<double>(account.window.last_ms - account.first_ms) / 86'400'000.0;
    member.mean[index_of(Evidence::young)] = static_cast<float>(1 / (1 + std::max(age_days, 0.0) / 3));
    return member;
}

// P(two of the members agree); those that have none agree with nobody.
double agreement(std::vector<std::uint64_t>& values) {
    std::sort(values.begin(), values.end());
    double pairs = 0;
    for (std::size_t i = 0; i < values.size();) {
        std::size_t end = i;
        while (end < values.size() && values[end] == values[i]) ++end;
        const auto run = static_cast<double>(end - i);
        if (values[i] != 0) pairs += run * (run - 1);
        i = end;
    }
    const auto n = static_cast<double>(values.size());
    return pairs / (n * (n - 1));
}

double spread(std::vector<double>& values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    const double median = *middle;
    double sum = 0;
    for (const double value : values) sum += std::abs(value - median);
    return sum / static_cast<double>(values.size());
}

using Features = std::array<double, evidence_kinds>;

class Scorer {
  public:
    Scorer(std::span<const AccountState> accounts, const PastUse& past, const ClusterOptions& options)
        : accounts_(accounts), past_(past), options_(options), places_(accounts.size(), 0) {
        for (std::size_t i = 0; i < accounts.size(); ++i)
            if (accounts[i].window.requests >= options.links.min_requests)
                by_plan_[accounts[i].plan].push_back(static_cast<std::uint32_t>(i));
    }

    // Larger is more suspicious, in all.
    Features features(std::span<const std::uint32_t> members, std::uint64_t stream) {
        Features out{};
        const auto n = static_cast<double>(members.size());
        std::array<std::vector<std::uint64_t>, 4> labels;
        std::vector<double> first;
        std::vector<double> volume;
        for (const std::uint32_t i : members) {
            const Member& member = member_at(i);
            for (std::size_t k = 0; k < evidence_kinds; ++k) out[k] += member.mean[k] / n;
            labels[0].push_back(member.parameters);
            labels[1].push_back(member.payment);
            labels[2].push_back(member.address);
            labels[3].push_back(member.client);
            first.push_back(member.first_days);
            volume.push_back(member.log_volume);
        }
        out[index_of(Evidence::parameters)] = agreement(labels[0]);
        out[index_of(Evidence::payment)] = agreement(labels[1]);
        out[index_of(Evidence::address)] = agreement(labels[2]);
        out[index_of(Evidence::client)] = agreement(labels[3]);
        out[index_of(Evidence::onset)] = -std::log2(1.0 / 24 + spread(first));
        out[index_of(Evidence::volume)] = -std::log2(0.1 + spread(volume));
        out[index_of(Evidence::timing)] = overlap(members, stream);
        return out;
    }

    void score(Cluster& cluster) {
        const std::vector<std::uint32_t> members = thinned(cluster.members);
        const std::size_t n = members.size();
        const Moments& null = null_of(n, majority_plan(members));
        const Features seen = features(members, members.front());
        // A set between two of the drawn sizes has that much less spread than the smaller.
        const double shrink = std::sqrt(static_cast<double>(drawn_size(n)) / static_cast<double>(n));
        cluster.score = std::log2(1 + cluster.dispersed);
        for (std::size_t k = 0; k < evidence_kinds; ++k) {
            const double z = (seen[k] - null.mean[k]) / (null.deviation[k] * shrink);
            cluster.z[k] = static_cast<float>(z);
            // Beyond that far more of one kind says no more: a company's staff all share its payment.
            cluster.score += std::log2(1 + std::clamp(z, 0.0, most_deviations));
        }
    }

  private:
    struct Moments {
        Features mean{};
        Features deviation{};
    };
    // Means of thousands need no more: sets are drawn of at most `largest_drawn`, clusters looked at by at
    // most `most_members` of their accounts.
    static constexpr std::size_t largest_drawn = 1024;
    static constexpr std::size_t most_members = 4096;
    static std::size_t drawn_size(std::size_t n) { return std::min(std::bit_floor(n), largest_drawn); }
    static std::vector<std::uint32_t> thinned(const std::vector<std::uint32_t>& members) {
        if (members.size() <= most_members) return members;
        std::vector<std::uint32_t> out(most_members);
        for (std::size_t i = 0; i < most_members; ++i) out[i] = members[i * members.size() / most_members];
        return out;
    }

    const Member& member_at(std::uint32_t account) {
        std::uint32_t& place = places_[account];
        if (place == 0) {
            members_.push_back(member_of(accounts_[account], past_));
            place = static_cast<std::uint32_t>(members_.size());
        }
        return members_[place - 1];
    }

    // The mean Jaccard index of active hours over some pairs.
    double overlap(std::span<const std::uint32_t> members, std::uint64_t stream) {
        const std::size_t n = members.size();
        const std::size_t all = n * (n - 1) / 2;
        constexpr std::size_t most = 192;
        base::RandomStream random(options_.seed, stream * 2 + 1);
        double sum = 0;
        std::size_t pairs = 0;
        const auto add = [&](std::uint32_t a, std::uint32_t b) {
            int both = 0;
            int any = 0;
            for (std::size_t w = 0; w < 3; ++w) {
                const std::uint64_t one = accounts_[a].window.hours[w];
                const std::uint64_t other = accounts_[b].window.hours[w];
                both += std::popcount(one & other);
                any += std::popcount(one | other);
            }
            sum += any > 0 ? static_cast<double>(both) / any : 0;
            ++pairs;
        };
        if (all <= most) {
            for (std::size_t i = 0; i < n; ++i)
                for (std::size_t j = i + 1; j < n; ++j) add(members[i], members[j]);
        } else {
            while (pairs < most) {
                const std::size_t i = random.below(n);
                const std::size_t j = random.below(n - 1);
                add(members[i], members[j < i ? j : j + 1]);
            }
        }
        return sum / static_cast<double>(pairs);
    }

    std::uint16_t majority_plan(std::span<const std::uint32_t> members) const {
        std::map<std::uint16_t, std::size_t> counts;
        for (const std::uint32_t i : members) ++counts[accounts_[i].plan];
        return std::max_element(counts.begin(), counts.end(),
                                [](const auto& a, const auto& b) { return a.second < b.second; })
            ->first;
    }

    // Of random sets of accounts on one plan: what the features of independent accounts are.
    const Moments& null_of(std::size_t n, std::uint16_t plan) {
        const std::size_t size = drawn_size(n);
        const auto [found, is_new] = nulls_.try_emplace({size, plan});
        Moments& moments = found->second;
        if (!is_new) return moments;
        const std::vector<std::uint32_t>& pool = by_plan_[plan];
        Features sum{};
        Features squares{};
        std::vector<std::uint32_t> drawn(size);
        base::RandomStream random(options_.seed, (static_cast<std::uint64_t>(plan) << 32U) + size);
        for (int d = 0; d < options_.draws; ++d) {
            // With repetition where the plan has not enough: rather too like each other than not drawn.
            for (std::uint32_t& i : drawn) i = pool[random.below(pool.size())];
            const Features one = features(drawn, static_cast<std::uint64_t>(d));
            for (std::size_t k = 0; k < evidence_kinds; ++k) {
                sum[k] += one[k];
                squares[k] += one[k] * one[k];
            }
        }
        // A deviation of nought would make any difference infinite; a thousandth of the range is the floor,
        // and for small sets half a pair's agreement.
        const double floor = 0.02 / std::sqrt(static_cast<double>(size));
        for (std::size_t k = 0; k < evidence_kinds; ++k) {
            moments.mean[k] = sum[k] / options_.draws;
            moments.deviation[k] = std::max(
                floor,
                std::sqrt(std::max(0.0, squares[k] / options_.draws - moments.mean[k] * moments.mean[k])));
        }
        return moments;
    }

    std::span<const AccountState> accounts_;
    const PastUse& past_;
    const ClusterOptions& options_;
    std::vector<std::uint32_t> places_;  // in members_, counted from 1; 0: not yet made
    std::vector<Member> members_;
    std::map<std::uint16_t, std::vector<std::uint32_t>> by_plan_;
    std::map<std::pair<std::size_t, std::uint16_t>, Moments> nulls_;
};

void describe(std::span<const AccountState> accounts, const PastUse& past, Cluster& cluster) {
    std::unordered_map<std::uint32_t, std::uint32_t> grams;
    SmallestHashes<256> pool;
    double largest = 0;
    // Which grams are commonest some thousand members tell as well as a million.
    constexpr std::size_t most_looked_at = 2048;
    const std::size_t step = 1 + cluster.members.size() / most_looked_at;
    for (std::size_t m = 0; m < cluster.members.size(); ++m) {
        const WindowStats& window = accounts[cluster.members[m]].window;
        cluster.requests += window.requests;
        largest = std::max(largest, distinct_texts(window));
        for (const std::uint32_t text : window.pool.values)
            if (text != 0) pool.add(text);
        if (m % step != 0) continue;
        for (std::size_t g = 0; g < GramTable::size; ++g)
            if (window.grams.counts[g] >= 2) ++grams[window.grams.grams[g]];
    }
    // The union's estimate is exact below its size; each member's own smallest are enough for it.
    double distinct = pool.distinct();
    if (pool.values.back() != 0) {
        // Members keep 24 each: above the smallest of their largest kept, hashes are missing.
        std::uint32_t cut = UINT32_MAX;
        for (const std::uint32_t i : cluster.members) {
            const std::uint32_t last = accounts[i].window.pool.values.back();
            if (last != 0) cut = std::min(cut, last);
        }
        std::size_t below = 0;
        while (below < pool.values.size() && pool.values[below] < cut) ++below;
        if (below >= 4) distinct = std::max(distinct, static_cast<double>(below) * 4294967296.0 / cut);
    } else {
        double sum = 0;
        bool cut = false;
        for (const std::uint32_t i : cluster.members) {
            sum += distinct_texts(accounts[i].window);
            cut = cut || accounts[i].window.pool.values.back() != 0;
        }
        // Members that ask much each: of what they kept, as much is shared as of all.
        double kept = 0;
        for (const std::uint32_t i : cluster.members)
            for (const std::uint32_t text : accounts[i].window.pool.values) kept += text != 0 ? 1 : 0;
        if (cut && kept > 0) distinct = sum * distinct / kept;
    }
    cluster.dispersed = std::max(0.0, distinct - largest);
    std::vector<std::pair<double, std::uint32_t>> ranked;
    for (const auto& [gram, count] : grams)
        if (count >= 2) ranked.emplace_back(count * weight_of(past, gram), gram);
    std::sort(ranked.begin(), ranked.end(), std::greater<>());
    constexpr std::size_t shown = 32;
    for (const auto& [weight, gram] : ranked) {
        if (cluster.scaffold.size() == shown) break;
        cluster.scaffold.push_back(gram);
    }
}

}  // namespace

std::string_view evidence_name(std::size_t kind) {
    constexpr std::string_view names[evidence_kinds] = {
        "novel_scaffold", "distinct_texts", "no_follow_up", "reasoning", "parameters", "timing", "onset",
        "volume",         "payment",        "address",      "regular",   "client",     "young"};
    return kind < evidence_kinds ? names[kind] : "";
}

std::vector<std::uint32_t> members_that_belong(std::span<const AccountState> accounts, const PastUse& past,
                                               const Cluster& cluster, const LinkOptions& options) {
    if (cluster.scaffold.empty()) return cluster.members;
    std::vector<std::uint32_t> scaffold = cluster.scaffold;
    std::sort(scaffold.begin(), scaffold.end());
    std::vector<double> weights;
    using Traits = std::array<std::uint64_t, 4>;
    const auto traits_of = [&](std::uint32_t i) {
        const AccountState& account = accounts[i];
        return Traits{account.window.parameters, account.client, account.payment, account.address};
    };
    std::array<std::map<std::uint64_t, std::size_t>, 4> holders;  // of each trait's values
    for (const std::uint32_t i : cluster.members) {
        double weight = 0;
        for (const std::uint32_t token : link_tokens(accounts[i].window))
            if (std::binary_search(scaffold.begin(), scaffold.end(), token)) weight += weight_of(past, token);
        weights.push_back(weight);
        const Traits traits = traits_of(i);
        for (std::size_t k = 0; k < traits.size(); ++k)
            if (traits[k] != 0) ++holders[k][traits[k]];
    }
    std::vector<double> sorted = weights;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    const double near = std::max(options.weight, *middle / 3);
    // A cluster of two or three accounts is a bond itself.
    const std::size_t others = std::min(options.bond, cluster.members.size()) - 1;
    std::vector<std::uint32_t> out;
    for (std::size_t m = 0; m < weights.size(); ++m) {
        const Traits traits = traits_of(cluster.members[m]);
        std::size_t shared = 0;
        for (std::size_t k = 0; k < traits.size(); ++k)
            if (traits[k] != 0 && holders[k][traits[k]] > others) ++shared;
        if (shared >= (weights[m] >= near ? 1U : 2U)) out.push_back(cluster.members[m]);
    }
    return out;
}

std::vector<Cluster> find_clusters(std::span<const AccountState> accounts, const PastUse& past,
                                   const TokenCounts& counts, const ClusterOptions& options) {
    Scorer scorer(accounts, past, options);
    std::vector<Cluster> out;
    for (auto& members : connected_accounts(accounts, past, counts, options.links)) {
        Cluster cluster;
        cluster.members = std::move(members);
        describe(accounts, past, cluster);
        scorer.score(cluster);
        out.push_back(std::move(cluster));
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const Cluster& a, const Cluster& b) { return a.score > b.score; });
    return out;
}

}  // namespace retort::guard
