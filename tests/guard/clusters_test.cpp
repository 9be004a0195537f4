#include "guard/clusters.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "guard/customers.h"
#include "guard/guard.h"
#include "texts.h"

namespace retort::guard {
namespace {

constexpr std::int64_t day = 86'400'000;
constexpr std::int64_t now = 20'000 * day;

store::ShortHash hash_of(std::uint64_t number) {
    store::ShortHash hash{};
    std::memcpy(hash.data(), &number, sizeof number);
    hash[15] = 1;
    return hash;
}

struct Who {
    std::uint64_t payment = 0;
    std::uint64_t parameters = 1;
    std::uint64_t client = 1;
    std::uint64_t address = 0;
    std::int64_t since = now;
};

void ask(AccountState& account, std::uint32_t number, const Who& who, const std::string& prompt,
         std::int64_t time) {
    store::Event event;
    event.time_ms = time;
    event.account = hash_of(number + 1);
    event.method = "POST";
    event.end = "finished";
    event.parameters = who.parameters;
    event.user_agent = hash_of(who.client);
    if (who.address != 0) event.address = hash_of(who.address);
    if (who.payment != 0) event.payment = hash_of(who.payment);
    account.id = event.account;
    account.first_ms = who.since;
    PromptView view;
    view.user = prompt;
    add_message(view, "user", prompt);
    const PromptSketch sketch = sketch_prompt(SketchKey{1, 2}, view);
    add_event(account, event, &sketch, static_cast<std::size_t>((time - now) / 3'600'000));
}

std::vector<std::vector<std::uint32_t>> parts_of(std::span<const AccountState> accounts,
                                                 const LinkOptions& options) {
    TokenCounts counts(1);
    counts.rebuild(accounts);
    return connected_accounts(accounts, PastUse(), counts, options);
}

// People of all programs and ages who share nothing, the background of what chance gives; behind them
// whom a test is about.
std::vector<AccountState> people(base::RandomStream& random, std::size_t count = 200) {
    std::vector<AccountState> out(count);
    for (std::uint32_t i = 0; i < out.size(); ++i) {
        const Who who{1000 + i, 1 + random.below(4), 1 + random.below(4), 1000 + i,
                      now - day * static_cast<std::int64_t>(1 + random.below(300))};
        for (int k = 0; k < 5; ++k)
            ask(out[i], i, who, words(random, 20), now + static_cast<std::int64_t>(random.below(day)));
    }
    return out;
}

TEST(Customers, AreWhoPays) {
    std::vector<AccountState> accounts(5);
    const std::uint64_t payments[] = {7, 0, 7, 0, 8};
    const std::uint32_t requests[] = {1, 1, 3, 1, 1};
    for (std::size_t i = 0; i < 5; ++i) {
        accounts[i].payment = payments[i];
        accounts[i].window.requests = requests[i];
    }
    const std::vector<std::uint32_t> members = {0, 1, 2, 3, 4};
    const auto customers = customers_of(accounts, members);
    ASSERT_EQ(customers.size(), 4U);
    EXPECT_EQ(customers[0].members, (std::vector<std::uint32_t>{0, 2}));
    EXPECT_EQ(customers[0].speaker, 2U);
    EXPECT_EQ(customers[1].members, std::vector<std::uint32_t>{1});
    EXPECT_EQ(customers[3].members, std::vector<std::uint32_t>{4});
}

// Accounts of 40 texts each, of which `common` of every 40 are the same for all; of 20 the sketches hold less
// than 256 texts together, of 60 more.
TEST(Customers, TextsAreCountedOnce) {
    for (const auto& [size, common] : {std::pair(20, 0), std::pair(20, 20), std::pair(60, 20)}) {
        base::RandomStream random(3);
        std::vector<std::string> shared;
        for (int i = 0; i < common; ++i) shared.push_back(words(random, 12));
        std::vector<AccountState> accounts(static_cast<std::size_t>(size));
        std::vector<std::uint32_t> members;
        for (std::uint32_t i = 0; i < accounts.size(); ++i) {
            members.push_back(i);
            for (int k = 0; k < 40; ++k)
                ask(accounts[i], i, {}, k < common ? shared[static_cast<std::size_t>(k)] : words(random, 12),
                    now + k * 1000);
        }
        const double truth = size * (40.0 - common) + common;
        // Some 200 hashes lie below the smallest account's cut: 7 % is one deviation.
        EXPECT_NEAR(distinct_texts_of(accounts, members), truth, 0.21 * truth);
    }
}

TEST(Links, RareTraitsLinkWhereThereIsAPast) {
    base::RandomStream random(9);
    std::vector<AccountState> accounts(6);
    // Three share program, parameters and address, three the program alone.
    for (std::uint32_t i = 0; i < 6; ++i) {
        const Who who{100 + i, 77, 5, i < 3 ? 9U : 200U + i, now};
        for (int k = 0; k < 4; ++k) ask(accounts[i], i, who, words(random, 20), now + k * 1000);
    }
    LinkOptions options;
    const auto parts = parts_of(accounts, options);
    ASSERT_EQ(parts.size(), 1U);
    EXPECT_EQ(parts[0], (std::vector<std::uint32_t>{0, 1, 2}));
    options.traits = false;
    EXPECT_TRUE(parts_of(accounts, options).empty());
}

// Forty new accounts with a template, each with a card of its own; a company that once used its words; and an
// old account that did too. All are linked.
TEST(Clusters, NameNeitherTheCompanyNorTheStrangerThatChanceJoined) {
    base::RandomStream random(21);
    std::vector<AccountState> accounts = people(random);
    const std::string head = words(random, 20);
    const auto add = [&](const Who& who, int requests, bool all) {
        const auto number = static_cast<std::uint32_t>(accounts.size());
        accounts.emplace_back();
        for (int k = 0; k < requests; ++k)
            ask(accounts.back(), number, who, (all || k < 2 ? head : "") + words(random, 10),
                now + k * 900'000);
        return number;
    };
    std::vector<std::uint32_t> guilty;
    for (std::uint64_t i = 0; i < 40; ++i)
        guilty.push_back(add({2000 + i, 1 + random.below(4), 1 + random.below(4), 2000 + i, now}, 8, true));
    for (std::uint64_t i = 0; i < 8; ++i)
        add({3000, 66, 66, 3000, now - day * static_cast<std::int64_t>(10 + 9 * i)}, 8, false);
    add({4000, 2, 2, 4000, now - 50 * day}, 8, false);
    TokenCounts counts(1);
    counts.rebuild(accounts);
    const auto clusters = find_clusters(accounts, PastUse(), counts, ClusterOptions{});
    ASSERT_FALSE(clusters.empty());
    const Cluster& cluster = clusters.front();
    ASSERT_EQ(cluster.members.size(), 49U);
    EXPECT_EQ(cluster.customers, 42U);
    EXPECT_EQ(members_that_belong(accounts, PastUse(), cluster, LinkOptions{}), guilty);
}

// Three hundred accounts in step, and five that came together long ago, with a program of their own, and used
// the words: what five have in common is not the cluster's.
TEST(Clusters, OfHundredsNameNoFewThatCameTogether) {
    base::RandomStream random(22);
    std::vector<AccountState> accounts = people(random, 2000);
    const std::string head = words(random, 20);
    for (std::uint64_t i = 0; i < 305; ++i) {
        const auto number = static_cast<std::uint32_t>(accounts.size());
        const bool guilty = i < 300;
        const Who who{5000 + i, guilty ? 77U : 99U, guilty ? 77U : 99U, 5000 + i,
                      guilty ? now : now - 400 * day};
        accounts.emplace_back();
        for (int k = 0; k < 4; ++k)
            ask(accounts.back(), number, who, head + words(random, 10), now + k * 900'000);
    }
    TokenCounts counts(1);
    counts.rebuild(accounts);
    const auto clusters = find_clusters(accounts, PastUse(), counts, ClusterOptions{});
    ASSERT_FALSE(clusters.empty());
    ASSERT_EQ(clusters.front().members.size(), 305U);
    const auto named = members_that_belong(accounts, PastUse(), clusters.front(), LinkOptions{});
    EXPECT_EQ(named.size(), 300U);
    EXPECT_EQ(named.back(), 2299U);
}

Cluster plain(std::size_t customers) {
    Cluster cluster;
    cluster.customers = customers;
    cluster.z.fill(20);
    cluster.requests_a_day = 10;
    cluster.dispersed = 100;
    return cluster;
}

TEST(Score, IsOfTextsThatNobodyElseAsked) {
    Cluster cluster = plain(40);
    const double apart = campaign_score(cluster);
    cluster.unshared = 0.5;
    EXPECT_NEAR(campaign_score(cluster), apart - 2.5, 1e-9);
    // What honest groups have as well counts for nothing.
    for (const Evidence kind : {Evidence::novel_scaffold, Evidence::parameters, Evidence::client,
                                Evidence::address, Evidence::young})
        cluster.z[static_cast<std::size_t>(kind)] = 0;
    EXPECT_NEAR(campaign_score(cluster), apart - 2.5, 1e-9);
    cluster.z[static_cast<std::size_t>(Evidence::timing)] = 0;
    EXPECT_LT(campaign_score(cluster), apart - 2.5 - 4);
    const double narrow = campaign_score(cluster);
    cluster.dispersed = 2 * cluster.dispersed + 1;
    EXPECT_NEAR(campaign_score(cluster), narrow + 0.25, 1e-9);
}

TEST(Score, FewProveLittle) {
    EXPECT_LT(campaign_score(plain(4)), campaign_score(plain(16)) - 2);
    EXPECT_FALSE(is_campaign(plain(3)));
}

TEST(Null, WhoIsBeyondItIsThereWithTheWholeCluster) {
    NullDistribution alone;
    NullDistribution together;
    std::vector<float> scores(10'000, 0);
    for (int i = 0; i < 400; ++i) scores[static_cast<std::size_t>(i)] = 1 + static_cast<float>(i) / 100;
    alone.add_window(scores);
    for (int i = 0; i < 400; ++i)
        scores[static_cast<std::size_t>(i)] = 1 + static_cast<float>(i / 20 * 20 + 19) / 100;
    together.add_window(scores);
    const double ratio = together.p_value(5.1, 1) / alone.p_value(5.1, 1);
    EXPECT_GT(ratio, 10);
    EXPECT_LT(ratio, 40);
}

TEST(Thresholds, ShareTheFalsePositives) {
    const Guard guard{GuardOptions{}};
    double sum = 0;
    for (std::size_t d = 0; d < detectors; ++d)
        sum += guard.threshold(Level::throttle, static_cast<Detector>(d));
    EXPECT_NEAR(sum, 1e-4 * 7 / 30, 1e-12);
}

}  // namespace
}  // namespace retort::guard
