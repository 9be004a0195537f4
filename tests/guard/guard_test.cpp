#include "guard/guard.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "texts.h"

namespace retort::guard {
namespace {

constexpr std::int64_t week = std::int64_t{7} * 86'400'000;
constexpr std::int64_t begin = 2900 * week;
const SketchKey key{1, 2};

store::ShortHash name_of(std::uint64_t number) {
    store::ShortHash hash{};
    base::RandomStream random(99, number);
    for (auto& byte : hash) byte = static_cast<std::uint8_t>(random.below(255) + 1);
    return hash;
}

store::Event event_at(std::int64_t time, std::uint64_t account, std::string_view prompt,
                      std::uint64_t parameters) {
    store::Event event;
    event.time_ms = time;
    event.account = name_of(account);
    event.method = "POST";
    event.status = 200;
    event.end = "finished";
    event.plan = "basic";
    event.parameters = parameters;
    PromptView view;
    view.user = prompt;
    add_message(view, "user", prompt);
    event.sketch = write_sketch(sketch_prompt(key, view));
    return event;
}

// Four weeks of honest accounts, each with a template of its own or with none; in the fifth, 40 new accounts
// that share one, six requests each.
std::vector<store::Event> traffic(bool attack) {
    std::vector<store::Event> events;
    base::RandomStream random(7);
    constexpr int honest = 300;
    for (int account = 0; account < honest; ++account) {
        base::RandomStream own(11, static_cast<std::uint64_t>(account));
        const std::string scaffold = account % 2 == 0 ? words(own, 20) : "";
        const std::uint64_t parameters = own.below(12) + 1;
        for (int w = 0; w < 5; ++w) {
            const int count = 2 + static_cast<int>(own.below(30));
            for (int i = 0; i < count; ++i) {
                events.push_back(event_at(begin + w * week + static_cast<std::int64_t>(own.below(week)),
                                          static_cast<std::uint64_t>(account), scaffold + words(own, 12),
                                          parameters));
            }
        }
    }
    if (attack) {
        const std::string head = words(random, 20);
        for (int account = 0; account < 40; ++account) {
            for (int i = 0; i < 6; ++i) {
                events.push_back(event_at(begin + 4 * week + 86'400'000 + i * 1'000'000 + account * 10'000,
                                          static_cast<std::uint64_t>(1000 + account),
                                          head + words(random, 12), 77));
            }
        }
    }
    std::stable_sort(events.begin(), events.end(),
                     [](const store::Event& a, const store::Event& b) { return a.time_ms < b.time_ms; });
    return events;
}

std::string text_of(const Verdict& verdict) {
    std::string out =
        fmt::format("{} {} {} {} {} {}", verdict.sequence, verdict.time_ms, level_name(verdict.level),
                    detector_name(verdict.detector), verdict.p, verdict.accounts.size());
    for (const store::ShortHash& account : verdict.accounts)
        out += fmt::format(" {:x}", first_bytes(account));
    return out;
}

TEST(Guard, FindsWhatMovesTogetherAndNothingElse) {
    for (const bool attack : {false, true}) {
        Guard guard{GuardOptions{}};
        std::vector<Verdict> verdicts;
        const auto keep = [&](Verdict verdict) { verdicts.push_back(std::move(verdict)); };
        for (const store::Event& event : traffic(attack)) guard.add(event, keep);
        guard.end_tick(keep);
        std::size_t guilty = 0;
        std::size_t innocent = 0;
        for (const Verdict& verdict : verdicts) {
            for (const store::ShortHash& account : verdict.accounts) {
                bool is_attacker = false;
                for (std::uint64_t i = 1000; i < 1040; ++i)
                    is_attacker = is_attacker || account == name_of(i);
                if (verdict.detector == Detector::cluster) ++(is_attacker ? guilty : innocent);
            }
        }
        EXPECT_EQ(innocent, 0U);
        EXPECT_EQ(guilty > 0, attack);
        EXPECT_GE(guilty, attack ? 38U : 0U);
    }
}

TEST(Guard, WithoutAPastItOnlyLogs) {
    Guard guard{GuardOptions{}};
    std::size_t count = 0;
    for (const store::Event& event : traffic(true)) {
        if (event.time_ms < begin + 4 * week) continue;  // the past is cut off
        guard.add(event, [&](const Verdict&) { ++count; });
    }
    guard.end_tick([&](const Verdict&) { ++count; });
    EXPECT_EQ(count, 0U);
    EXPECT_FALSE(guard.is_calibrated(Level::review, Detector::cluster));
}

TEST(Guard, ComesBackFromItsStateExactly) {
    const auto events = traffic(true);
    std::vector<std::string> straight;
    Guard one{GuardOptions{}};
    for (const store::Event& event : events)
        one.add(event, [&](const Verdict& v) { straight.push_back(text_of(v)); });
    ASSERT_FALSE(straight.empty());
    std::vector<std::string> broken;
    auto two = std::make_unique<Guard>(GuardOptions{});
    for (std::size_t i = 0; i < events.size(); ++i) {
        if (i % 1777 == 0) {
            const std::string bytes = two->save();
            two = std::make_unique<Guard>(GuardOptions{});
            const Status back = two->restore(bytes);
            ASSERT_TRUE(back) << back.error().message;
        }
        two->add(events[i], [&](const Verdict& v) { broken.push_back(text_of(v)); });
    }
    EXPECT_EQ(broken, straight);
    EXPECT_EQ(two->save(), one.save());
    std::string damaged = one.save();
    damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 1);
    EXPECT_FALSE(two->restore(damaged));
}

// What is counted as events come leaves nobody out: parts are those of counts made anew, and of no counts.
TEST(Links, TokenCountsMissNobody) {
    std::vector<AccountState> accounts(400);
    std::vector<std::string> heads;
    base::RandomStream random(3);
    for (int i = 0; i < 40; ++i) heads.push_back(words(random, 12));
    LinkOptions options;
    TokenCounts counts(options.several);
    for (int i = 0; i < 6000; ++i) {
        const auto who = static_cast<std::uint32_t>(random.below(accounts.size()));
        const bool shares = who < 300 && random.below(3) != 0;
        const std::string prompt = (shares ? heads[who / 8] : std::string()) + words(random, shares ? 8 : 20);
        const store::Event event = event_at(begin + i * 1000, who, prompt, 1);
        const auto sketch = read_sketch(event.sketch);
        ASSERT_TRUE(sketch);
        accounts[who].id = event.account;
        add_event(accounts[who], event, &*sketch, 0);
        counts.add(*sketch, accounts[who], who);
        if (counts.is_crowded()) counts.rebuild(accounts);
    }
    const PastUse past;
    const auto parts = connected_accounts(accounts, past, counts, options);
    EXPECT_GT(parts.size(), 20U);
    TokenCounts anew(options.several);
    anew.rebuild(accounts);
    EXPECT_EQ(connected_accounts(accounts, past, anew, options), parts);
    // One holder is enough: every token is compared.
    TokenCounts all(1);
    all.rebuild(accounts);
    EXPECT_EQ(connected_accounts(accounts, past, all, options), parts);
    // And it is a filter: an account's own words are left out.
    std::size_t kept = 0;
    std::size_t held = 0;
    for (const AccountState& account : accounts) {
        for (const std::uint32_t token : link_tokens(account)) {
            ++held;
            kept += counts.may_link(token) ? 1 : 0;
        }
    }
    EXPECT_LT(kept * 2, held);
}

// Two groups of ten with a template and a client each; `bridges` accounts of each also send nine words of the
// other's template, and one stranger has both templates' words once.
struct TwoGroups {
    std::vector<AccountState> accounts = std::vector<AccountState>(21);
    PastUse past;
    LinkOptions options;
    std::vector<std::vector<std::uint32_t>> parts;

    explicit TwoGroups(int bridges) {
        base::RandomStream random(21);
        const std::string heads[2] = {words(random, 24), words(random, 24)};
        const auto part_of = [](const std::string& head) {
            std::size_t end = 0;
            for (int i = 0; i < 9; ++i) end = head.find(' ', end) + 1;
            return head.substr(0, end);
        };
        const auto send = [&](std::uint32_t who, const std::string& prompt, std::uint64_t client) {
            store::Event event =
                event_at(begin + 1000 * static_cast<std::int64_t>(random.below(100000)), who, prompt, client);
            event.user_agent = name_of(client);
            const auto sketch = read_sketch(event.sketch);
            accounts[who].id = event.account;
            add_event(accounts[who], event, &*sketch, 0);
        };
        for (std::uint32_t who = 0; who < 20; ++who) {
            const std::uint32_t group = who / 10;
            for (int i = 0; i < 5; ++i) send(who, heads[group] + words(random, 8), 1 + group);
            if (static_cast<int>(who % 10) < bridges)
                for (int i = 0; i < 3; ++i)
                    send(who, part_of(heads[1 - group]) + words(random, 8), 1 + group);
        }
        for (int i = 0; i < 3; ++i) send(20, heads[0] + words(random, 8), 9);
        TokenCounts all(1);
        all.rebuild(accounts);
        parts = connected_accounts(accounts, past, all, options);
    }
};

TEST(Links, OneBridgeTiesNoTwoGroups) {
    EXPECT_EQ(TwoGroups(0).parts.size(), 2U);
    EXPECT_EQ(TwoGroups(1).parts.size(), 2U);
    EXPECT_EQ(TwoGroups(5).parts.size(), 1U);
}

TEST(Guard, LeavesAllowedAccountsAlone) {
    Guard guard{GuardOptions{}};
    for (std::uint64_t i = 1000; i < 1040; ++i) guard.set_allowed(name_of(i), true);
    std::size_t count = 0;
    const auto on_verdict = [&](const Verdict& verdict) {
        count += verdict.detector == Detector::cluster ? 1 : 0;
    };
    for (const store::Event& event : traffic(true)) guard.add(event, on_verdict);
    guard.end_tick(on_verdict);
    EXPECT_EQ(count, 0U);
}

TEST(Null, PValuesOfItsOwnScoresAreUniform) {
    base::RandomStream random(5);
    NullDistribution null;
    std::vector<float> scores;
    for (int i = 0; i < 20000; ++i)
        scores.push_back(random.uniform() < 0.5 ? 0 : static_cast<float>(random.normal()));
    null.add_window(scores);
    std::vector<double> p;
    for (int i = 0; i < 5000; ++i) {
        const double score = random.uniform() < 0.5 ? 0 : static_cast<float>(random.normal());
        p.push_back(null.p_value(score, random.uniform()));
    }
    std::sort(p.begin(), p.end());
    double distance = 0;
    for (std::size_t i = 0; i < p.size(); ++i)
        distance =
            std::max(distance, std::abs(p[i] - static_cast<double>(i) / static_cast<double>(p.size())));
    // Two samples, 20,000 and 5,000: the 0.1 % point of Kolmogorov's distance, 1.95 sqrt(1/n + 1/m).
    EXPECT_LT(distance, 1.95 * std::sqrt(1.0 / 20000 + 1.0 / 5000));
}

TEST(Null, FallsOffBeyondTheLargestButNotToNothing) {
    NullDistribution null;
    std::vector<float> scores;
    for (int i = 0; i < 1000; ++i) scores.push_back(static_cast<float>(i) / 100);
    null.add_window(scores);
    EXPECT_NEAR(null.p_value(5, 1), 0.5, 0.01);
    EXPECT_LT(null.p_value(11, 1), null.p_value(10, 1));
    EXPECT_GT(null.p_value(11, 1), 0);
}

TEST(Multiplicity, BenjaminiHochberg) {
    const std::vector<double> p = {0.01, 0.9, 0.02, 0.029, 0.5};
    EXPECT_EQ(benjamini_hochberg(p, 0.05), (std::vector<bool>{true, false, true, true, false}));
    EXPECT_EQ(benjamini_hochberg(std::vector<double>{0.2, 0.3}, 0.05), (std::vector<bool>{false, false}));
}

}  // namespace
}  // namespace retort::guard
