#include "guard/cluster_score.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/random.h"
#include "guard/customers.h"

namespace retort::guard {

namespace {

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

double median(std::vector<double>& values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

double spread(std::vector<double>& values) {
    const double middle = median(values);
    double sum = 0;
    for (const double value : values) sum += std::abs(value - middle);
    return sum / static_cast<double>(values.size());
}

// Means of thousands need no more: sets are drawn of at most `largest_drawn`, clusters looked at by at most
// `most_members` of their accounts.
constexpr std::size_t largest_drawn = 1024;
constexpr std::size_t most_members = 4096;

std::size_t drawn_size(std::size_t n) {
    return std::min(std::bit_floor(n), largest_drawn);
}

std::vector<std::uint32_t> thinned(std::span<const std::uint32_t> members) {
    if (members.size() <= most_members) return {members.begin(), members.end()};
    std::vector<std::uint32_t> out(most_members);
    for (std::size_t i = 0; i < most_members; ++i) out[i] = members[i * members.size() / most_members];
    return out;
}

// Deviations on a scale of doublings: far more of one kind says little more.
double squeezed(double z, double most) {
    return std::copysign(std::log2(1 + std::min(std::abs(z), most)), z);
}

}  // namespace

std::string_view evidence_name(std::size_t kind) {
    constexpr std::string_view names[evidence_kinds] = {
        "novel_scaffold", "distinct_texts", "no_follow_up", "reasoning", "parameters", "timing", "onset",
        "volume",         "payment",        "address",      "regular",   "client",     "young"};
    return kind < evidence_kinds ? names[kind] : "";
}

ClusterScorer::ClusterScorer(std::span<const AccountState> accounts, const PastUse& past,
                             std::uint32_t min_requests, int draws, std::uint64_t seed)
    : accounts_(accounts), past_(past), draws_(draws), seed_(seed), places_(accounts.size(), 0) {
    for (std::size_t i = 0; i < accounts.size(); ++i)
        if (accounts[i].window.requests >= min_requests)
            by_plan_[accounts[i].plan].push_back(static_cast<std::uint32_t>(i));
}

void ClusterScorer::score(Cluster& cluster) {
    const std::vector<Customer> customers = customers_of(accounts_, cluster.members);
    cluster.customers = customers.size();
    // One account of each customer: a company is one voice, however many of its staff joined.
    std::vector<std::uint32_t> speakers;
    double largest = 0;
    double sum = 0;
    for (const Customer& customer : customers) {
        speakers.push_back(customer.speaker);
        const double texts = distinct_texts_of(accounts_, customer.members);
        largest = std::max(largest, texts);
        sum += texts;
    }
    std::sort(speakers.begin(), speakers.end());
    std::vector<double> requests;
    std::vector<double> days;
    for (const std::uint32_t i : cluster.members) {
        const AccountState& account = accounts_[i];
        cluster.requests += account.window.requests;
        requests.push_back(account.window.requests);
        days.push_back(static_cast<double>(account.window.last_ms - account.first_ms) / 86'400'000.0);
    }
    if (customers.size() == 1) {
        largest = 0;
        for (const std::uint32_t i : cluster.members)
            largest = std::max(largest, distinct_texts(accounts_[i].window));
    }
    const double texts = distinct_texts_of(accounts_, cluster.members);
    cluster.dispersed = std::max(0.0, texts - largest);
    cluster.unshared = sum > 0 ? std::min(1.0, texts / sum) : 1;
    cluster.requests_a_day = median(requests) / std::clamp(median(days), 1.0, 7.0);
    if (is_campaign(cluster)) {
        cluster.z = deviations(speakers);
        if (speakers.size() < cluster.members.size()) {
            // How many accounts a payer has is seen of all of them alone.
            constexpr std::size_t payment = index_of(Evidence::payment);
            cluster.z[payment] = deviations(cluster.members)[payment];
        }
        cluster.score = campaign_score(cluster);
    } else {
        cluster.z = deviations(cluster.members);
        cluster.score = customer_score(cluster);
    }
}

Evidences ClusterScorer::deviations(std::span<const std::uint32_t> all) {
    const std::vector<std::uint32_t> members = thinned(all);
    const std::size_t n = members.size();
    const Moments& null = null_of(n, majority_plan(members));
    const Features seen = features(members, members.front());
    // A set between two of the drawn sizes has that much less spread than the smaller.
    const double shrink = std::sqrt(static_cast<double>(drawn_size(n)) / static_cast<double>(n));
    Evidences out{};
    for (std::size_t k = 0; k < evidence_kinds; ++k)
        out[k] = static_cast<float>((seen[k] - null.mean[k]) / (null.deviation[k] * shrink));
    return out;
}

double campaign_score(const Cluster& cluster) {
    // What few agree on proves no more than they are.
    const double most = std::min<double>(32, static_cast<double>(cluster.customers));
    const auto of = [&](Evidence kind) { return squeezed(cluster.z[index_of(kind)], most); };
    constexpr double least_unshared = 0.05;
    const double score =
        of(Evidence::timing) + 0.75 * of(Evidence::distinct_texts) +
        // Conversations make a lesson of an answer: they excuse a little, not the more the more they are.
        0.5 * std::max(-1.0, of(Evidence::no_follow_up)) + 0.25 * of(Evidence::onset) +
        0.25 * of(Evidence::regular) + 0.25 * of(Evidence::volume) +
        2.5 * std::log2(std::max(least_unshared, cluster.unshared)) +
        0.25 * std::log2(1 + cluster.requests_a_day) + 0.25 * std::log2(1 + cluster.dispersed);
    return std::max(0.0, score);
}

double customer_score(const Cluster& cluster) {
    constexpr double most_deviations = 8;
    double score = std::log2(1 + cluster.dispersed);
    for (const float z : cluster.z) score += squeezed(std::max(0.0F, z), most_deviations);
    return score;
}

ClusterScorer::Member ClusterScorer::member_of(const AccountState& account, const PastUse& past) {
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

const ClusterScorer::Member& ClusterScorer::member_at(std::uint32_t account) {
    std::uint32_t& place = places_[account];
    if (place == 0) {
        members_.push_back(member_of(accounts_[account], past_));
        place = static_cast<std::uint32_t>(members_.size());
    }
    return members_[place - 1];
}

// Larger is more suspicious, in all.
ClusterScorer::Features ClusterScorer::features(std::span<const std::uint32_t> members,
                                                std::uint64_t stream) {
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

// The mean Jaccard index of active hours over some pairs.
double ClusterScorer::overlap(std::span<const std::uint32_t> members, std::uint64_t stream) {
    const std::size_t n = members.size();
    const std::size_t all = n * (n - 1) / 2;
    constexpr std::size_t most = 192;
    base::RandomStream random(seed_, stream * 2 + 1);
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

std::uint16_t ClusterScorer::majority_plan(std::span<const std::uint32_t> members) const {
    std::map<std::uint16_t, std::size_t> counts;
    for (const std::uint32_t i : members) ++counts[accounts_[i].plan];
    return std::max_element(counts.begin(), counts.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
}

// Of random sets of accounts on one plan: what the features of independent accounts are.
const ClusterScorer::Moments& ClusterScorer::null_of(std::size_t n, std::uint16_t plan) {
    const std::size_t size = drawn_size(n);
    const auto [found, is_new] = nulls_.try_emplace({size, plan});
    Moments& moments = found->second;
    if (!is_new) return moments;
    const std::vector<std::uint32_t>& pool = by_plan_[plan];
    Features sum{};
    Features squares{};
    std::vector<std::uint32_t> drawn(size);
    base::RandomStream random(seed_, (static_cast<std::uint64_t>(plan) << 32U) + size);
    for (int d = 0; d < draws_; ++d) {
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
        moments.mean[k] = sum[k] / draws_;
        moments.deviation[k] = std::max(
            floor, std::sqrt(std::max(0.0, squares[k] / draws_ - moments.mean[k] * moments.mean[k])));
    }
    return moments;
}

}  // namespace retort::guard
