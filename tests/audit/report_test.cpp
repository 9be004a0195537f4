// A whole bundle on disk, and the report that it gets or is refused: each wrong null is one thing done
// wrong to an audit that is otherwise in order.
#include "audit/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"

namespace retort::audit {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view tokenizer = "of-the-teacher";

class ReportOfBundle : public testing::Test {
  protected:
    void SetUp() override {
        folder_ =
            fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
        fs::remove_all(folder_);
        fs::create_directories(folder_);
        // Nothing of it is drawn, so that what a check finds is the same on every day.
        plant_.settings.scheme = watermark::Scheme{};
        plant_.settings.twin_share = 1;
        plant_.escrow_key = escrow::public_key_of(escrow::secret_key_from_hex(std::string(64, '5')).value());
        plant_.master_key = watermark::MasterKey::from_hex(std::string(64, '3')).value();
        plant_.coins = escrow::CoinStream::from_hex(std::string(64, '7')).value();
        for (int i = 0; i < 4; ++i) {
            escrow::Canary canary{"canary-" + std::to_string(i), "prompt", "answer {}", {}, 3 * i};
            for (int k = 0; k < 20; ++k) canary.candidates.push_back("code " + std::to_string(20 * i + k));
            plant_.canaries.push_back(canary);
        }
        subkey_ = plant_.master_key->subkey(watermark::SchemeKind::red_green, "");
    }

    // Twins whose coin is chosen by `next_index(coins, the longer answer, last index)` and followed or not.
    using NextIndex = std::function<std::uint64_t(const escrow::CoinStream&, std::int64_t, std::uint64_t)>;
    using Served = std::function<std::int64_t(std::int64_t coin, std::int64_t longer)>;
    Bundle make(const NextIndex& next_index, const Served& served) {
        escrow::OpenedVault vault;
        base::RandomStream random(1);
        std::uint64_t index = 0;
        for (int i = 0; i < 400; ++i) {
            escrow::Record record;
            record.nonce = std::to_string(i);
            record.scheme = "red-green";
            record.prompt = "question " + std::to_string(i);
            record.answers = {std::string(20 + random.below(30), 'a'),
                              std::string(20 + random.below(30), 'b')};
            const std::int64_t longer = record.answers[1].size() > record.answers[0].size() ? 1 : 0;
            index = next_index(plant_.coins, longer, index);
            record.index = index++;
            record.served = served(plant_.coins.at(record.index).served, longer);
            vault.leaves.push_back(base::merkle_leaf(escrow::write_record(record)));
            vault.records.push_back(std::move(record));
        }
        vault.roots = {{"2026-11-29", 0, 400, base::to_hex(base::merkle_root(vault.leaves)), ""}};
        Plan plan;
        plan.suspect = "suspect.gguf";
        plan.created = "2026-11-29T00:00:00Z";
        plan.primary = "twin-likelihood";
        plan.tests = {"twin-likelihood", "radioactivity-open", "canary"};
        plan.tokenizer = tokenizer;
        plan.commitment = base::sha256_hex(escrow::commitment_text(plant_));
        std::string roots;
        for (const escrow::DayRoot& root : vault.roots) roots += escrow::write_root(root) + "\n";
        plan.roots = base::sha256_hex(roots);
        plan.leaves = base::to_hex(base::merkle_root(vault.leaves));
        EXPECT_TRUE(write_bundle(folder_ / "case", plan, plant_, vault, plant_.canaries));
        Bundle bundle = read_bundle(folder_ / "case").value();
        Json pairs = Json::array();
        for (int i = 0; i < 400; ++i)
            pairs.push_back(
                {{"record", i}, {"served", random.normal() + 0.5}, {"withheld", random.normal()}});
        write("twin-likelihood", {{"test", "twin-likelihood"}, {"pairs", pairs}});
        write("radioactivity-open", marked("radioactivity-open", 0.6));
        write("control", marked("radioactivity-closed", 0.6));
        Json canaries = Json::array();
        for (const escrow::Canary& canary : plant_.canaries) {
            std::vector<double> scores(canary.candidates.size());
            for (double& score : scores) score = random.normal();
            canaries.push_back({{"id", canary.id}, {"planted", canary.planted}, {"scores", scores}});
        }
        write("canary", {{"test", "canary"}, {"canaries", canaries}});
        return bundle;
    }
    Bundle honest() {
        return make([](const auto&, std::int64_t, std::uint64_t last) { return last; },
                    [](std::int64_t coin, std::int64_t) { return coin; });
    }

    // Distinct pairs; beyond those green by chance, a share of the others is drawn again.
    [[nodiscard]] Json marked(std::string_view test, double again) const {
        base::RandomStream random(4);
        std::vector<watermark::Pair> pairs;
        for (std::int32_t i = 0; i < 600; ++i) {
            watermark::Pair pair{i, static_cast<std::int32_t>(random.below(1000))};
            const bool green =
                watermark::is_green(watermark::pair_hash(subkey_, std::span(pair).first(1), pair[1]), 0.25);
            if (!green && random.uniform() < again) pair[1] = static_cast<std::int32_t>(random.below(1000));
            pairs.push_back(pair);
        }
        return {{"test", test},
                {"scheme", write_scheme(watermark::Scheme{})},
                {"subkey", watermark::subkey_hex(subkey_)},
                {"tokenizer", tokenizer},
                {"pairs", write_pairs(pairs)}};
    }
    Json read(const std::string& name) {
        return formats::read_json_file(folder_ / "case/evidence" / (name + ".json")).value();
    }
    void write(const std::string& name, const Json& evidence) {
        ASSERT_TRUE(write_json_file(folder_ / "case/evidence" / (name + ".json"), evidence));
    }

    // The reason why no report is issued; empty: one is. A calibration.json that says it holds helps nobody.
    std::string refused(const Bundle& bundle) {
        EXPECT_TRUE(write_json_file(folder_ / "case/calibration.json", Json{{"holds", true}}));
        const SigningKey key = load_or_create_signing_key(folder_ / "report.key").value();
        const Status issued = write_report(bundle, key);
        EXPECT_EQ(fs::exists(folder_ / "case/report.html"), static_cast<bool>(issued));
        return issued ? "" : issued.error().message;
    }

    fs::path folder_;
    escrow::Plant plant_;
    watermark::Subkey subkey_;
};

TEST_F(ReportOfBundle, IsIssuedWhereAllIsAsItMustBe) {
    const Bundle bundle = honest();
    EXPECT_EQ(refused(bundle), "");
    const auto verified = verify_bundle(folder_ / "case");
    ASSERT_TRUE(verified) << verified.error().message;
    EXPECT_EQ(verified->decision, "positive");
    EXPECT_LT(verified->results[1].log_p, std::log(1e-6));
}

TEST_F(ReportOfBundle, IsRefusedWhereEvidenceIsInAnotherTokenizer) {
    const Bundle bundle = honest();
    Json evidence = read("radioactivity-open");
    evidence["tokenizer"] = "of-another-model";
    write("radioactivity-open", evidence);
    EXPECT_NE(refused(bundle).find("tokenizer is not the one that the plan names"), std::string::npos);
}

// The plan named the wrong teacher: hashes agree, and the marked answers, cut by its tokenizer, hold no mark.
TEST_F(ReportOfBundle, IsRefusedWhereTheMarkedAnswersAreNotFound) {
    const Bundle bundle = honest();
    Json evidence = read("control");
    for (Json& pair : evidence["pairs"]) pair[1] = (pair[1].get<std::int32_t>() + 517) % 1000;
    write("control", evidence);
    EXPECT_NE(refused(bundle).find("the marked answers are found"), std::string::npos);
}

TEST_F(ReportOfBundle, IsRefusedWhereWindowsAreCountedAgain) {
    const Bundle bundle = honest();
    Json evidence = read("radioactivity-open");
    const Json pairs = evidence["pairs"];
    for (int i = 0; i < 300; ++i) evidence["pairs"].push_back(pairs[static_cast<std::size_t>(i)]);
    write("radioactivity-open", evidence);
    EXPECT_NE(refused(bundle).find("counted twice"), std::string::npos);
}

TEST_F(ReportOfBundle, IsRefusedWhereTheCoinIsNotFollowed) {
    const Bundle bundle = make([](const auto&, std::int64_t, std::uint64_t last) { return last; },
                               [](std::int64_t, std::int64_t) { return 0; });
    EXPECT_NE(refused(bundle).find("not served by their coin"), std::string::npos);
}

// Every twin is served by a committed coin, and only those coins are used that fall as the owner likes.
TEST_F(ReportOfBundle, IsRefusedWhereCoinsAreChosen) {
    const auto wanting = [](bool the_longer) {
        return [the_longer](const escrow::CoinStream& coins, std::int64_t longer, std::uint64_t last) {
            while (coins.at(last).served != (the_longer ? longer : 0)) ++last;
            return last;
        };
    };
    const auto followed = [](std::int64_t coin, std::int64_t) { return coin; };
    EXPECT_NE(refused(make(wanting(false), followed)).find("the coins are fair"), std::string::npos);
    fs::remove_all(folder_ / "case");
    EXPECT_NE(refused(make(wanting(true), followed)).find("of one length"), std::string::npos);
}

TEST_F(ReportOfBundle, IsRefusedWhereTwinsOrCanariesAreNotOfThisEscrow) {
    const Bundle bundle = honest();
    Json evidence = read("canary");
    evidence["canaries"][0]["planted"] = (plant_.canaries[0].planted + 1) % 20;
    write("canary", evidence);
    EXPECT_NE(refused(bundle).find("not the canary that was committed to"), std::string::npos);
    evidence["canaries"][0]["planted"] = plant_.canaries[0].planted;
    write("canary", evidence);
    evidence = read("twin-likelihood");
    evidence["pairs"][7]["record"] = 400;
    write("twin-likelihood", evidence);
    EXPECT_NE(refused(bundle).find("no twin of this escrow"), std::string::npos);
}

}  // namespace
}  // namespace retort::audit
