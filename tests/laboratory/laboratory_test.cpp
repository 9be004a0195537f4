// Laboratory traffic: reproducible, in any order, labelled, and what the kinds promise.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
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
        EXPECT_EQ(aged, family == Attack::adaptive || family == Attack::hydra);
        EXPECT_TRUE(campaign.is_cover(14));  // whatever an aged account asks then
        EXPECT_FALSE(campaign.is_cover(21));
        EXPECT_EQ(text_of(campaign.day(22)),
                  text_of(Campaign(traffic, {family, 50, 1, 21, 650, 20}).day(22)));
    }
}

TEST(Campaign, NoTwoShareAnAccount) {
    const Traffic traffic(library(), small());
    std::set<std::uint64_t> numbers;
    for (const Person& person : traffic.people()) numbers.insert(person.number);
    std::size_t count = numbers.size();
    for (std::size_t f = 0; f < attacks; ++f) {
        for (const std::uint64_t number : {0U, 1U, 2U}) {
            const Campaign campaign(traffic, {static_cast<Attack>(f), 10'000, number, 21, 650, 20});
            for (const Person& person : campaign.people()) numbers.insert(person.number);
            count += 10'000;
        }
    }
    EXPECT_EQ(numbers.size(), count);
}

// A day of fifty keys, with its texts.
struct CampaignDay {
    explicit CampaignDay(Attack family) {
        TrafficOptions options = small();
        options.bodies = true;
        const Traffic traffic(library(), options);
        const Campaign campaign(traffic, {family, 50, 1, 21, 650, 20});
        for (const store::Event& event : campaign.day(22)) {
            ++requests;
            follow_ups += event.messages > 2 ? 1 : 0;
            addresses.insert(event.address);
            payments.insert(event.payment);
            clients.insert(event.user_agent);
            hours.insert((event.time_ms - options.begin_ms) / 3'600'000 % 24);
            ++parameters[event.parameters];
            const auto messages = nlohmann::json::parse(event.body)["messages"];
            const auto asked = messages.back()["content"].get<std::string>();
            ++systems[messages.size() > 1 ? messages[0]["content"].get<std::string>() : ""];
            askers[asked].insert(event.account);
            ++copies[asked];
        }
        for (const auto& [setting, count] : parameters) commonest = std::max(commonest, count);
    }
    std::size_t requests = 0;
    std::size_t follow_ups = 0;
    std::size_t commonest = 0;  // requests of one setting
    std::set<store::ShortHash> addresses;
    std::set<store::ShortHash> payments;
    std::set<store::ShortHash> clients;
    std::set<std::int64_t> hours;
    std::map<std::uint64_t, std::size_t> parameters;
    std::map<std::string, std::size_t> systems;
    std::map<std::string, std::size_t> copies;
    std::map<std::string, std::set<store::ShortHash>> askers;
};

TEST(Campaign, RubricGradesInStepWithFewCards) {
    const CampaignDay day(Attack::rubric);
    EXPECT_LE(day.payments.size(), 9U);
    EXPECT_LE(day.addresses.size(), 13U);
    EXPECT_LE(day.hours.size(), 10U);  // two runs of at most four hours
    EXPECT_EQ(day.parameters.size(), 1U);
    EXPECT_EQ(day.systems.size(), 24U);  // a rubric an area
    EXPECT_EQ(day.systems.count(""), 0U);
}

TEST(Campaign, HydraServesCustomersBesides) {
    const CampaignDay day(Attack::hydra);
    EXPECT_EQ(day.payments.size(), 50U);
    EXPECT_EQ(day.addresses.size(), 50U);
    EXPECT_EQ(day.clients.size(), 1U);
    EXPECT_GT(day.commonest * 2, day.requests);
    EXPECT_LT(day.commonest * 5, day.requests * 4);
    EXPECT_GT(day.parameters.size(), 20U);
    EXPECT_GT(day.follow_ups * 20, day.requests);
    EXPECT_GE(day.systems.size(), 3U);  // customers' tools
}

TEST(Campaign, BootstrapShowsTasksAndWantsTheNext) {
    const CampaignDay day(Attack::bootstrap);
    EXPECT_LE(day.payments.size(), 6U);
    EXPECT_EQ(day.addresses.size(), 50U);
    EXPECT_EQ(day.follow_ups, 0U);
    for (const auto& [text, count] : day.copies) {
        EXPECT_NE(text.find("\nTask 3: "), std::string::npos);
        EXPECT_TRUE(text.ends_with(":"));
    }
}

TEST(Campaign, BacktranslatedLooksLikeFiftySmallTools) {
    const CampaignDay day(Attack::backtranslated);
    EXPECT_EQ(day.payments.size(), 50U);
    EXPECT_EQ(day.addresses.size(), 50U);
    EXPECT_GT(day.clients.size(), 10U);
    EXPECT_GT(day.parameters.size(), 10U);
    EXPECT_NEAR(static_cast<double>(day.follow_ups), static_cast<double>(day.requests) * 0.28, 60);
    EXPECT_GT(day.systems.at(""), day.requests / 2);
    EXPECT_GT(day.systems.size(), 5U);
}

TEST(Campaign, ResampledAsksEachQuestionOfManyKeys) {
    const CampaignDay day(Attack::resampled);
    EXPECT_EQ(day.payments.size(), 50U);
    EXPECT_LE(day.addresses.size(), 11U);
    const double each = static_cast<double>(day.requests) / static_cast<double>(day.copies.size());
    EXPECT_GT(each, 13);  // sixteen, but that two questions may be the same
    EXPECT_LT(each, 30);
    std::size_t askers = 0;
    for (const auto& [text, accounts] : day.askers) askers += accounts.size();
    EXPECT_GT(askers * 4, day.requests * 3);
}

TEST(Campaign, AgenticRunsPublicFrameworks) {
    const CampaignDay day(Attack::agentic);
    EXPECT_EQ(day.payments.size(), 50U);
    EXPECT_EQ(day.addresses.size(), 50U);
    EXPECT_GT(day.follow_ups * 100, day.requests * 85);
    std::set<std::string> frameworks;
    for (std::uint64_t i = 0; i < public_frameworks; ++i)
        frameworks.insert(framework_prompt(library(), small().seed, i));
    for (const auto& [system, count] : day.systems) EXPECT_EQ(frameworks.count(system), 1U) << system;
    std::size_t goals = 0;
    std::size_t runs = 0;
    for (const auto& [text, count] : day.copies) {
        if (!text.starts_with("Goal: ")) continue;
        ++goals;
        runs += count;
    }
    EXPECT_GT(runs, goals * 2);
    EXPECT_LT(runs, goals * 6);
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
