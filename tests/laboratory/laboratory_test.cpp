// Laboratory traffic: reproducible, in any order, labelled, and what the kinds promise.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "base/random.h"
#include "laboratory/baselines.h"
#include "laboratory/evaluation.h"
#include "laboratory/traffic.h"
#include "laboratory/wording.h"

namespace retort::laboratory {
namespace {

const PromptLibrary& library() {
    static const PromptLibrary loaded = [] {
        auto read = load_prompts(std::string(RETORT_TEST_DATA) + "/guard_prompts");
        if (!read) throw std::runtime_error(read.error().message);
        return std::move(*read);
    }();
    return loaded;
}

TrafficOptions small() {
    TrafficOptions options;
    options.seed = 3;
    options.people = 400;
    options.days = 28;
    return options;
}

std::string text_of(const std::vector<store::Event>& events) {
    return store::write_block(events);
}

TEST(Prompts, EverySetNamesItsLicence) {
    EXPECT_GE(library().sets.size(), 5U);
    for (const PromptSet& set : library().sets) {
        EXPECT_FALSE(set.licence.empty());
        EXPECT_FALSE(set.texts.empty());
        EXPECT_TRUE(set.source == "pypi" || set.source == "debian");
    }
    EXPECT_FALSE(load_prompts("/nonexistent"));
}

TEST(Traffic, IsAFunctionOfTheSeedAlone) {
    const Traffic one(library(), small());
    const Traffic two(library(), small());
    const std::string later = text_of(one.day(20));
    EXPECT_EQ(text_of(one.day(9)), text_of(two.day(9)));  // whatever was made before
    EXPECT_EQ(later, text_of(two.day(20)));
    TrafficOptions other = small();
    other.seed = 4;
    EXPECT_NE(later, text_of(Traffic(library(), other).day(20)));
}

TEST(Traffic, EveryKindIsThereAndDoesWhatItsNameSays) {
    const Traffic traffic(library(), small());
    std::map<Honest, std::size_t> requests;
    std::map<Honest, std::size_t> follow_ups;
    std::map<std::uint32_t, std::set<std::uint64_t>> payments;
    for (const Person& person : traffic.people()) {
        if (person.kind == Honest::bureau) payments[person.group].insert(person.payment);
        for (std::int32_t day = 0; day < 28; ++day) {
            for (const Request& request : traffic.requests_of(person, day)) {
                ++requests[person.kind];
                follow_ups[person.kind] += request.follow_up ? 1 : 0;
                const std::int64_t since =
                    request.time_ms - small().begin_ms - day * std::int64_t{86'400'000};
                ASSERT_GE(since, 0);
                ASSERT_LT(since, std::int64_t{86'400'000});
            }
        }
    }
    for (std::size_t kind = 0; kind < honest_kinds; ++kind)
        EXPECT_GT(requests[static_cast<Honest>(kind)], 0U) << honest_name(kind);
    EXPECT_GT(follow_ups[Honest::agent] * 10, requests[Honest::agent] * 7);
    EXPECT_EQ(follow_ups[Honest::batch], 0U);
    EXPECT_EQ(follow_ups[Honest::harness], 0U);
    for (const auto& [group, all] : payments) EXPECT_EQ(all.size(), 1U);
}

TEST(Campaign, KeepsToItsPlanAndItsFamily) {
    const Traffic traffic(library(), small());
    for (std::size_t f = 0; f < attacks; ++f) {
        const auto family = static_cast<Attack>(f);
        const Campaign campaign(traffic, {family, 50, 1, 21, 650, 20});
        std::size_t count = 0;
        std::size_t bias = 0;
        std::set<store::ShortHash> keys;
        for (std::int32_t day = 21; day < 24; ++day) {
            for (const store::Event& event : campaign.day(day)) {
                ++count;
                bias += event.logit_bias ? 1 : 0;
                keys.insert(event.account);
            }
        }
        // 50 keys, 20 a day, three days: a key-day's number has deviation 2.3, so the sum 28.
        EXPECT_NEAR(static_cast<double>(count), 3000, 140) << attack_name(family);
        EXPECT_EQ(keys.size(), 50U);
        EXPECT_EQ(bias, family == Attack::logits ? count : 0U);
        const bool aged = !campaign.day(14).empty();
        EXPECT_EQ(aged, family == Attack::adaptive);
        EXPECT_EQ(text_of(campaign.day(22)),
                  text_of(Campaign(traffic, {family, 50, 1, 21, 650, 20}).day(22)));
    }
}

TEST(Wording, ParaphrasesShareFewGrams) {
    const guard::SketchKey key{5, 6};
    base::RandomStream random(1);
    const auto grams = [&](const std::string& text) {
        const auto all = guard::head_grams(key, text).grams;
        return std::set<std::uint32_t>(all.begin(), all.end());
    };
    const auto plain = grams(scaffold_text(7, 1, "a b c"));
    EXPECT_EQ(plain, grams(scaffold_text(7, 1, "a b c")));
    std::size_t shared = 0;
    for (const std::uint32_t gram :
         grams(perturbed(scaffold_text(7, 1, "a b c"), random, 6, "one two three four five")))
        shared += plain.count(gram);
    EXPECT_LT(shared * 2, plain.size());
}

// Shapiro and Wilk's own example (1965): the weights of eleven men, W = 0.79.
TEST(Baselines, ShapiroWilk) {
    EXPECT_NEAR(shapiro_wilk({148, 154, 158, 160, 161, 162, 166, 170, 182, 195, 236}), 0.7888, 0.002);
    base::RandomStream random(2);
    std::vector<double> normal;
    std::vector<double> uniform;
    for (int i = 0; i < 200; ++i) {
        normal.push_back(random.normal());
        uniform.push_back(random.uniform());
    }
    EXPECT_GT(shapiro_wilk(normal), 0.98);
    EXPECT_LT(shapiro_wilk(uniform), 0.97);
}

TEST(Evaluation, FindsAPlainCampaignAndCountsByKind) {
    EvaluationOptions options;
    options.traffic = small();
    options.traffic.people = 600;
    options.traffic.days = 42;
    options.past_weeks = 4;
    options.small_campaigns = 1;
    options.large_campaigns = 0;
    options.families = {Attack::scaffold};
    // So few accounts calibrate nothing stricter.
    options.guard.rates[2] = 1e-2;
    options.guard.rates[1] = 5e-2;
    const auto result = evaluate(library(), options, [](const std::string&) {});
    ASSERT_TRUE(result) << result.error().message;
    ASSERT_EQ(result->campaigns.size(), 2U);
    EXPECT_GT(result->by_kind.at("all").months, 100);
    EXPECT_GT(result->ks_accounts, 400U);
    for (const CampaignResult& each : result->campaigns) {
        if (each.keys == 50) {
            EXPECT_GE(each.at(guard::Level::throttle).share, 0);
            // A higher level is never reached before a lower one.
            EXPECT_LE(each.at(guard::Level::review).share, each.at(guard::Level::throttle).share);
        }
    }
    const std::string text = report(*result, options);
    for (const std::string_view name : {"chat", "class of students", "scaffold", "PRADA", "review, 1 %"})
        EXPECT_NE(text.find(name), std::string::npos);
    options.past_weeks = 6;
    EXPECT_FALSE(evaluate(library(), options, [](const std::string&) {}));
}

}  // namespace
}  // namespace retort::laboratory
