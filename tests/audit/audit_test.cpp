// The audit's arithmetic: p-values from evidence, uniform nulls, and wrong nulls that must be caught.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <filesystem>

#include "audit/bundle.h"
#include "audit/power.h"
#include "audit/report.h"
#include "base/file.h"
#include "base/random.h"
#include "stats/exact_tests.h"

namespace retort::audit {
namespace {

Json pair_evidence(const std::vector<watermark::Pair>& pairs, const watermark::Scheme& scheme) {
    return {{"test", "radioactivity-open"},
            {"scheme", write_scheme(scheme)},
            {"subkey", "000102030405060708090a0b0c0d0e0f"},
            {"tokenizer", "t"},
            {"pairs", write_pairs(pairs)}};
}

std::vector<watermark::Pair> some_pairs(std::size_t count, std::size_t distinct) {
    std::vector<watermark::Pair> pairs;
    for (std::size_t i = 0; i < count; ++i) {
        const auto n = static_cast<std::int32_t>(i % distinct);
        pairs.push_back({n / 64, n % 64});
    }
    return pairs;
}

Json twin_evidence(std::size_t count, double shift) {
    base::RandomStream random(3);
    Json pairs = Json::array();
    for (std::size_t i = 0; i < count; ++i) {
        pairs.push_back({{"record", i}, {"served", random.normal() + shift}, {"withheld", random.normal()}});
    }
    return {{"test", "twin-likelihood"}, {"pairs", pairs}};
}

TEST(Evidence, TwinsThatAllPreferTheServedAnswerHaveTwoToTheMinusN) {
    Json pairs = Json::array();
    for (int i = 0; i < 12; ++i) pairs.push_back({{"record", i}, {"served", -1.0}, {"withheld", -2.0}});
    const auto result = test_evidence(Json{{"test", "twin-likelihood"}, {"pairs", pairs}});
    ASSERT_TRUE(result);
    EXPECT_NEAR(result->log_p, 12 * std::log(0.5), 1e-12);
}

TEST(Evidence, ReferencesAreSubtractedAndBytesDivide) {
    const Json pair{
        {"record", 0},         {"served", -10.0},          {"withheld", -12.0},         {"served_bytes", 2},
        {"withheld_bytes", 4}, {"served_reference", -6.0}, {"withheld_reference", -4.0}};
    const auto differences = twin_differences(Json{{"pairs", Json::array({pair})}});
    ASSERT_TRUE(differences);
    EXPECT_DOUBLE_EQ(differences->front(), -4.0 / 2 + 8.0 / 4);
}

TEST(Evidence, ARecordThatStandsTwiceIsRefused) {
    Json evidence = twin_evidence(10, 0);
    evidence["pairs"][4]["record"] = 3;
    EXPECT_FALSE(test_evidence(evidence));
}

// Asked until it is enough: a bet, which under wrong keys reaches 1/α no more often than α, and with the
// right one does so after a part of the pairs.
TEST(Evidence, WhatMayStopEarlyIsABet) {
    for (const auto kind : {watermark::SchemeKind::red_green, watermark::SchemeKind::gumbel,
                            watermark::SchemeKind::tournament}) {
        watermark::Scheme scheme;
        scheme.kind = kind;
        const std::vector<watermark::Pair> pairs = some_pairs(400, 400);
        base::RandomStream random(9);
        int rejected = 0;
        stats::BettingMartingale last = bettor_against(scheme);
        Json evidence = pair_evidence(pairs, scheme);
        for (int trial = 0; trial < 2000; ++trial) {
            watermark::Subkey key;
            for (std::uint8_t& byte : key.bytes) byte = static_cast<std::uint8_t>(random.next_u64() >> 32U);
            last = bettor_against(scheme);
            for (const watermark::Pair& pair : pairs) last.observe(bet_outcome(scheme, key, pair));
            rejected += last.log_p() <= std::log(0.05) ? 1 : 0;
            evidence["subkey"] = watermark::subkey_hex(key);
        }
        EXPECT_LE(rejected, 132) << watermark::kind_name(kind);  // Binomial(2000, .05) exceeds it at 4e-4
        evidence["stopping"] = true;
        const auto result = test_evidence(evidence);
        ASSERT_TRUE(result);
        EXPECT_TRUE(result->stopping);
        EXPECT_EQ(result->log_p, last.log_p());
    }
    watermark::Scheme scheme;
    const watermark::Subkey key = watermark::subkey_from_hex("000102030405060708090a0b0c0d0e0f").value();
    std::vector<watermark::Pair> green;
    for (std::int32_t i = 0; green.size() < 40; ++i) {
        if (bet_outcome(scheme, key, {i, i + 1}) == 1) green.push_back({i, i + 1});
    }
    stats::BettingMartingale bettor = bettor_against(scheme);
    std::size_t needed = 0;
    while (bettor.log_p() > std::log(1e-3)) bettor.observe(bet_outcome(scheme, key, green.at(needed++)));
    EXPECT_LT(needed, green.size());
}

// A bettor who does not know the coin wins nothing on average; one e-value of many is as bad as their
// average.
TEST(Evidence, WhatABettorWinsUnderTheNullIsOneOnAverage) {
    watermark::Scheme scheme;
    base::RandomStream random(21);
    constexpr int trials = 4000;
    std::array<double, 4> sums{};
    std::array<double, 4> squares{};
    Json marked = pair_evidence(some_pairs(60, 60), scheme);
    Json contexts{{"test", "green-mass"}, {"scheme", write_scheme(scheme)}, {"contexts", Json::array()}};
    for (int i = 0; i < 40; ++i)
        contexts["contexts"].push_back(
            {{"window", {i}}, {"tokens", {1, 2, 3}}, {"weights", {700, 200, 100}}});
    for (int trial = 0; trial < trials; ++trial) {
        Json tossed = Json::array();
        Json ranked = Json::array();
        for (int i = 0; i < 40; ++i) {
            const double size = 1.0 + i % 7;
            tossed.push_back(
                {{"record", i}, {"served", random.uniform() < 0.5 ? size : -size}, {"withheld", 0.0}});
            ranked.push_back({{"id", std::to_string(i)},
                              {"planted", random.below(5)},
                              {"scores", {5.0, 4.0, 3.0, 2.0, 1.0}}});
        }
        watermark::Subkey key;
        for (std::uint8_t& byte : key.bytes) byte = static_cast<std::uint8_t>(random.next_u64() >> 32U);
        contexts["subkey"] = marked["subkey"] = watermark::subkey_hex(key);
        const std::array<Json, 4> each{Json{{"test", "twin-likelihood"}, {"pairs", tossed}},
                                       Json{{"test", "canary"}, {"canaries", ranked}}, marked, contexts};
        for (std::size_t k = 0; k < each.size(); ++k) {
            const double wealth = std::exp(log_e_value(each[k]).value());
            sums[k] += wealth;
            squares[k] += wealth * wealth;
        }
    }
    for (std::size_t k = 0; k < sums.size(); ++k) {
        const double mean = sums[k] / trials;
        const double error = std::sqrt((squares[k] / trials - mean * mean) / trials);
        EXPECT_NEAR(mean, 1, 4 * error) << k;
        EXPECT_LT(error, 0.2) << k;
    }
}

TEST(Evidence, TokensAndWeightsOfAContextAreAsMany) {
    for (const std::size_t weights : {2, 4}) {
        Json evidence{{"test", "green-mass"}, {"scheme", write_scheme({})}, {"subkey", std::string(32, '0')}};
        evidence["contexts"] = Json::array(
            {{{"window", {1}}, {"tokens", {1, 2, 3}}, {"weights", std::vector<int>(weights, 5)}}});
        EXPECT_FALSE(test_evidence(evidence)) << weights;
    }
}

TEST(Evidence, WhoKnowsTheCoinWins) {
    const auto won = log_e_value(twin_evidence(200, 1));
    ASSERT_TRUE(won);
    EXPECT_GT(*won, std::log(1e6));
    EXPECT_LT(log_e_value(twin_evidence(200, -1)).value(), 0.1);
}

TEST(Evidence, ACanaryIsABetOnTheShareOfDecoysThatItBeats) {
    const std::vector<std::vector<double>> scores{{5, 1, 2, 3, 4}, {3, 1, 2, 4, 5}, {5, 1, 2, 5, 4}};
    Json canaries = Json::array();
    stats::BettingMartingale bettor(0.5);
    for (std::size_t i = 0; i < 12; ++i) {
        canaries.push_back({{"id", std::to_string(i)}, {"planted", 0}, {"scores", scores[i % 3]}});
        bettor.observe(std::array{1.0, 0.5, 0.75}[i % 3]);
    }
    EXPECT_NEAR(log_e_value({{"test", "canary"}, {"canaries", canaries}}).value(), bettor.log_wealth(),
                1e-12);
}

TEST(Evidence, CanariesThatAllComeFirstMultiplyTheirRanks) {
    Json canaries = Json::array();
    for (int i = 0; i < 3; ++i) {
        canaries.push_back({{"id", std::to_string(i)}, {"planted", 1}, {"scores", {-5.0, -1.0, -3.0, -2.0}}});
    }
    const auto result = test_evidence(Json{{"test", "canary"}, {"canaries", canaries}});
    ASSERT_TRUE(result);
    // Q(3, s) = e^-s (1 + s + s²/2) with s = 3 ln 4.
    const double s = 3 * std::log(4.0);
    EXPECT_NEAR(result->log_p, -s + std::log(1 + s + s * s / 2), 1e-12);
}

// Every test's p-values under its null are uniform, whatever the evidence.
TEST(Calibration, HoldsForHonestEvidence) {
    watermark::Scheme scheme;
    for (const auto kind : {watermark::SchemeKind::red_green, watermark::SchemeKind::gumbel,
                            watermark::SchemeKind::tournament}) {
        scheme.kind = kind;
        const auto found = calibrate_evidence(pair_evidence(some_pairs(300, 300), scheme), 300, 5);
        ASSERT_TRUE(found);
        EXPECT_TRUE(found->holds) << watermark::kind_name(kind) << " KS " << found->ks_distance;
    }
    EXPECT_TRUE(calibrate_evidence(twin_evidence(80, 1), 300, 5)->holds);
    Json contexts = Json::array();
    for (int i = 0; i < 60; ++i) {
        contexts.push_back(
            {{"window", {i}}, {"tokens", {1, 2, 3, 4, 5}}, {"weights", {500, 200, 150, 90, 20}}});
    }
    scheme.kind = watermark::SchemeKind::red_green;
    EXPECT_TRUE(calibrate_evidence(Json{{"test", "green-mass"},
                                        {"scheme", write_scheme(scheme)},
                                        {"subkey", "000102030405060708090a0b0c0d0e0f"},
                                        {"contexts", contexts}},
                                   300, 5)
                    ->holds);
}

TEST(Calibration, PairsCountedAgainAndAgainAreCaught) {
    const Json evidence = pair_evidence(some_pairs(2000, 200), watermark::Scheme{});
    const auto refused = test_evidence(evidence);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("counted twice"), std::string::npos);
    // And without that look the wrong keys tell it.
    const auto found = calibrate_evidence(evidence, 300, 5);
    ASSERT_TRUE(found);
    EXPECT_FALSE(found->holds) << found->ks_p;
}

// A bundle whose twins are served by `served_of(coin, longer)`.
template <typename ServedOf>
Bundle twin_bundle(const ServedOf& served_of) {
    Bundle bundle;
    bundle.coins = escrow::CoinStream::from_hex(std::string(64, '7')).value();
    base::RandomStream random(1);
    for (std::uint64_t i = 0; i < 400; ++i) {
        escrow::Record record;
        record.index = i;
        record.answers = {std::string(20 + random.below(30), 'a'), std::string(20 + random.below(30), 'b')};
        const std::int64_t longer = record.answers[1].size() > record.answers[0].size() ? 1 : 0;
        record.served = served_of(bundle.coins->at(i).served, longer);
        bundle.records.push_back(std::move(record));
    }
    return bundle;
}

bool all_hold(const std::vector<CheckLine>& checks) {
    return std::all_of(checks.begin(), checks.end(), [](const CheckLine& check) { return check.holds; });
}

TEST(Calibration, ABiasedCoinIsCaught) {
    EXPECT_TRUE(all_hold(check_coins(twin_bundle([](std::int64_t coin, std::int64_t) { return coin; }))));
    const auto always_first = check_coins(twin_bundle([](std::int64_t, std::int64_t) { return 0; }));
    ASSERT_EQ(always_first.size(), 4U);
    EXPECT_FALSE(always_first[0].holds);  // not the committed coins
    EXPECT_FALSE(always_first[2].holds);  // nor fair ones
    const auto the_longer =
        check_coins(twin_bundle([](std::int64_t, std::int64_t longer) { return longer; }));
    EXPECT_FALSE(the_longer[0].holds);
    EXPECT_FALSE(the_longer[3].holds);
}

// The published figures: a lift of .0088 on .25 needs 23k windows for 1e-3 and 55k for 1e-6, for half the
// audits.
TEST(Power, AgreesWithThePublishedFigures) {
    EXPECT_NEAR(static_cast<double>(*green_windows(0.25, 0.0088, 1e-3, 0.5)), 23'100, 400);
    EXPECT_NEAR(static_cast<double>(*green_windows(0.25, 0.0088, 1e-6, 0.5)), 54'800, 800);
    EXPECT_FALSE(green_windows(0.25, 0, 1e-3, 0.5));
    EXPECT_EQ(*twin_pairs(100, 1e-6, 0.9), 20);  // 2^-20 is the first below it
}

TEST(Report, TextOfAPValueIsRightFarBelowADouble) {
    EXPECT_EQ(p_text(std::log(0.25)), "0.2500");
    EXPECT_EQ(p_text(-1000 * std::log(10.0)), "1.0e-1000");
}

TEST(Report, APValueIsSaidInWords) {
    const auto said = [](double p) { return chance_text(std::log(p)); };
    EXPECT_EQ(said(1), "about 100 chances in a hundred");
    EXPECT_EQ(said(0.254), "about 25 chances in a hundred");
    EXPECT_EQ(said(0.031), "about 3 chances in a hundred");
    EXPECT_EQ(said(0.0097), "about 1 chance in a hundred");
    EXPECT_EQ(said(4e-4), "about 4 chances in ten thousand");
    EXPECT_EQ(said(2e-5), "about 2 chances in a hundred thousand");
    EXPECT_EQ(said(1.1e-6), "about 1 chance in a million");
    EXPECT_EQ(said(3.2e-13), "about 3 chances in ten thousand billion");
    EXPECT_EQ(said(5e-17), "about 5 chances in a hundred million billion");
    EXPECT_EQ(said(7e-20), "about 7 chances in a number written as 1 and 20 zeros");
    EXPECT_EQ(chance_text(-1143.61), "about 2 chances in a number written as 1 and 497 zeros");
}

}  // namespace
}  // namespace retort::audit
