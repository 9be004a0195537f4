#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/random.h"
#include "stats/exact_tests.h"
#include "watermark/detect.h"
#include "watermark/mark.h"

namespace retort::watermark {
namespace {

const nlohmann::json& golden() {
    static const nlohmann::json values =
        nlohmann::json::parse(std::ifstream(RETORT_TEST_DATA "/watermark/detection.json"));
    return values;
}

Scheme scheme_of(const nlohmann::json& json) {
    Scheme scheme;
    scheme.kind = *kind_from_name(json["kind"].get<std::string>());
    scheme.window = json["window"];
    scheme.gamma = json.value("gamma", scheme.gamma);
    scheme.layers = json.value("layers", scheme.layers);
    return scheme;
}

TEST(Watermark, subkeys_and_hashes_are_those_of_the_independent_reference) {
    for (const auto& row : golden()["kdf"]) {
        const auto master = MasterKey::from_hex(row[0].get<std::string>());
        ASSERT_TRUE(master);
        EXPECT_EQ(
            subkey_hex(master->subkey(*kind_from_name(row[1].get<std::string>()), row[2].get<std::string>())),
            row[3].get<std::string>());
    }
    for (const auto& row : golden()["hashes"]) {
        const std::vector<std::int32_t> window = row[1];
        EXPECT_EQ(std::to_string(pair_hash(*subkey_from_hex(row[0].get<std::string>()), window, row[2])),
                  row[3].get<std::string>());
    }
}

TEST(Watermark, detection_is_that_of_the_independent_reference) {
    for (const auto& row : golden()["detection"]) {
        const Scheme scheme = scheme_of(row["scheme"]);
        PairBook book(scheme.window);
        for (const std::vector<std::int32_t> text : row["texts"]) book.add(text);
        const Detection found = detect(scheme, *subkey_from_hex(row["key"].get<std::string>()), book.pairs());
        EXPECT_EQ(found.pairs, row["pairs"].get<std::int64_t>());
        const double score = row["score"];
        EXPECT_NEAR(found.score, score, 1e-11 * score);
        const double log_p = row["log_p"];
        EXPECT_NEAR(found.log_p / log_p, 1, 1e-6) << row["scheme"].dump() << log_p;
        EXPECT_LE(found.log_p_beyond, found.log_p);
    }
}

TEST(Watermark, keys_that_are_no_keys_are_named) {
    EXPECT_FALSE(subkey_from_hex("abc"));
    EXPECT_FALSE(subkey_from_hex("zz0102030405060708090a0b0c0d0e0f"));
    EXPECT_FALSE(MasterKey::from_hex("00"));
    const MasterKey key = MasterKey::random();
    EXPECT_EQ(MasterKey::from_hex(key.hex())->hex(), key.hex());
    EXPECT_FALSE(kind_from_name("red"));
    EXPECT_FALSE(check_scheme({.gamma = 1}));
    EXPECT_FALSE(check_scheme({.window = 9}));
    EXPECT_TRUE(check_scheme({}));
}

Subkey key_number(std::uint64_t number) {
    Subkey key;
    for (std::size_t i = 0; i < 8; ++i) key.bytes[i] = static_cast<std::uint8_t>(number >> (8 * i));
    return key;
}

// Over random keys a distortion-free scheme draws each token as often as its probability says.
TEST(Watermark, gumbel_and_tournament_keep_the_distribution) {
    const std::vector<std::int32_t> tokens{4, 9, 1, 7};
    const std::vector<float> probabilities{0.5F, 0.3F, 0.15F, 0.05F};
    const std::vector<std::int32_t> context{3, 1, 4};
    for (const SchemeKind kind : {SchemeKind::gumbel, SchemeKind::tournament}) {
        std::vector<double> count(10);
        constexpr int draws = 20000;
        for (int i = 0; i < draws; ++i) {
            Marker marker({kind}, key_number(static_cast<std::uint64_t>(i) * 77 + 1),
                          static_cast<std::uint64_t>(i));
            ++count[static_cast<std::size_t>(*marker.choose(context, tokens, probabilities))];
        }
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            const double p = static_cast<double>(probabilities[i]);
            // Five standard deviations of a share of 20,000.
            EXPECT_NEAR(count[static_cast<std::size_t>(tokens[i])] / draws, p,
                        5 * std::sqrt(p * (1 - p) / draws))
                << kind_name(kind);
        }
    }
}

// Draws 300 tokens from a flat distribution over 50 under each scheme, and finds the mark in them.
TEST(Watermark, what_is_marked_is_found_and_by_its_own_key_only) {
    for (const SchemeKind kind : {SchemeKind::red_green, SchemeKind::gumbel, SchemeKind::tournament}) {
        const Scheme scheme{kind, 2};
        const Subkey key = key_number(5);
        Marker marker(scheme, key, 3);
        base::RandomStream random(9);
        std::vector<std::int32_t> tokens(50);
        for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i);
        std::vector<std::int32_t> text{1, 2};
        while (text.size() < 300) {
            std::vector<float> weights(50, 0.0F);
            if (marker.changes_logits()) marker.change_logits(text, weights);
            double total = 0;
            for (float& weight : weights) total += static_cast<double>(weight = std::exp(weight));
            for (float& weight : weights) weight = static_cast<float>(static_cast<double>(weight) / total);
            double left = random.uniform();
            std::int32_t token = 0;
            while (token < 49 && (left -= static_cast<double>(weights[static_cast<std::size_t>(token)])) >= 0)
                ++token;
            if (!marker.changes_logits()) token = *marker.choose(text, tokens, weights);
            text.push_back(token);
        }
        PairBook book(scheme.window);
        book.add(text);
        EXPECT_LT(detect(scheme, key, book.pairs()).log_p, std::log(1e-12)) << kind_name(kind);
        EXPECT_GT(detect(scheme, key_number(6), book.pairs()).log_p, std::log(1e-4)) << kind_name(kind);
        EXPECT_FALSE(marker.choose(std::vector<std::int32_t>{1}, tokens, std::vector<float>(50, 0.02F)));
    }
}

TEST(Watermark, pairs_count_once_and_not_from_prompts_or_unknown_windows) {
    const std::vector<std::int32_t> text{1, 2, 3, 1, 2, 3, 1, 9};
    PairBook book(1);
    book.add(text);
    EXPECT_EQ(book.pairs().size(), 4U);  // 12 23 31 19
    EXPECT_EQ(book.repeated(), 3);
    PairBook without(1);
    without.exclude(std::vector<std::int32_t>{2, 3});
    without.add(text);
    EXPECT_EQ(without.pairs().size(), 3U);
    PairBook known(1);
    known.allow_windows_of(std::vector<std::int32_t>{3});
    known.add(text);
    ASSERT_EQ(known.pairs().size(), 1U);
    EXPECT_EQ(known.pairs()[0], (Pair{3, 1}));
}

// Repetition is what breaks the null: the same pairs counted each time they occur are not independent.
TEST(Watermark, without_deduplication_p_values_are_not_uniform) {
    base::RandomStream random(4);
    std::vector<Pair> once;
    std::vector<Pair> often;
    for (int i = 0; i < 60; ++i) {
        const Pair pair{static_cast<std::int32_t>(random.below(1000)),
                        static_cast<std::int32_t>(random.below(1000))};
        once.push_back(pair);
        for (int n = 0; n < 1 + 600 / (i + 1); ++n) often.push_back(pair);  // Zipf
    }
    const auto uniformity = [](const std::vector<Pair>& pairs) {
        base::RandomStream uniform(2);
        std::vector<double> p;
        for (std::uint64_t key = 0; key < 1000; ++key) {
            const Detection found = detect({}, key_number(key), pairs);
            const double beyond = std::exp(found.log_p_beyond);
            p.push_back(beyond + uniform.uniform() * (std::exp(found.log_p) - beyond));
        }
        return stats::kolmogorov_uniformity(p).p;
    };
    EXPECT_GT(uniformity(once), 0.001);
    EXPECT_LT(uniformity(often), 1e-9);
}

}  // namespace
}  // namespace retort::watermark
