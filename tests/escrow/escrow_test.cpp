#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "escrow/plant.h"
#include "escrow/vault.h"

namespace retort::escrow {
namespace {

std::filesystem::path fresh_folder(const std::string& name) {
    const std::filesystem::path folder = testing::TempDir() + "escrow_" + name;
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    return folder;
}

Record twin(std::uint64_t index) {
    Record record;
    record.nonce = random_nonce();
    record.index = index;
    record.time_ms = 1'700'000'000'000;
    record.channel = "rk-1";
    record.messages = formats::Json::array({{{"role", "user"}, {"content", "Why?"}}});
    record.answers = {"Because.", "It is so."};
    record.served = 1;
    return record;
}

TEST(Coins, are_fixed_by_the_seed_and_fair) {
    const CoinStream stream = CoinStream::random();
    const auto again = CoinStream::from_hex(stream.hex());
    ASSERT_TRUE(again);
    EXPECT_EQ(stream.commitment(), again->commitment());
    EXPECT_NE(stream.commitment(), CoinStream::random().commitment());
    int ones = 0;
    int selected = 0;
    for (std::uint64_t i = 0; i < 10000; ++i) {
        EXPECT_EQ(stream.at(i).served, again->at(i).served);
        ones += static_cast<int>(stream.at(i).served);
        selected += stream.at(i).selection < 0.1;
    }
    // Six standard deviations: 50 and 30.
    EXPECT_NEAR(ones, 5000, 300);
    EXPECT_NEAR(selected, 1000, 180);
    EXPECT_FALSE(CoinStream::from_hex("12"));
}

TEST(Vault, records_come_back_to_the_owner_alone) {
    const auto folder = fresh_folder("vault");
    const KeyPair keys = make_key_pair();
    Record served;
    served.kind = RecordKind::served;
    served.nonce = random_nonce();
    served.answers = {"A marked answer."};
    {
        auto vault = Vault::open(folder, keys.public_key);
        ASSERT_TRUE(vault) << vault.error().message;
        ASSERT_TRUE((*vault)->add(twin(7)));
        ASSERT_TRUE((*vault)->add(served));
        EXPECT_EQ((*vault)->next_index(), 8U);
        EXPECT_FALSE(Vault::open(folder, keys.public_key)) << "two writers";
    }
    {
        auto vault = Vault::open(folder, keys.public_key);
        ASSERT_TRUE(vault) << vault.error().message;
        EXPECT_EQ((*vault)->next_index(), 8U);
        ASSERT_TRUE((*vault)->add(twin(9)));
    }
    const auto opened = read_vault(folder, keys.secret_key);
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_EQ(opened->records.size(), 3U);
    EXPECT_EQ(opened->records[1], served);
    EXPECT_EQ(opened->records[0].served_answer(), "It is so.");
    EXPECT_EQ(opened->records[2].withheld_answer(), "Because.");
    EXPECT_EQ(opened->roots.size(), 2U);
    EXPECT_FALSE(read_vault(folder, make_key_pair().secret_key));
    const auto text = base::read_file(folder / "escrow.journal");
    EXPECT_EQ(text->find("Because"), std::string::npos);
}

TEST(Vault, what_was_published_cannot_be_changed_dropped_or_added_to) {
    const auto folder = fresh_folder("roots");
    const KeyPair keys = make_key_pair();
    for (int run = 0; run < 2; ++run) {
        auto vault = Vault::open(folder, keys.public_key);
        ASSERT_TRUE(vault);
        for (std::uint64_t i = 0; i < 3; ++i) ASSERT_TRUE((*vault)->add(twin(i)));
    }
    const auto opened = read_vault(folder, keys.secret_key);
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_TRUE(check_roots(opened->roots, opened->leaves));
    auto leaves = opened->leaves;
    leaves[1][0] ^= 1;
    EXPECT_FALSE(check_roots(opened->roots, leaves));
    leaves = opened->leaves;
    leaves.pop_back();
    EXPECT_FALSE(check_roots(opened->roots, leaves));
    std::swap(leaves[0], leaves[1]);
    EXPECT_FALSE(check_roots(opened->roots, leaves));
    // A line taken out of the middle breaks the chain.
    const std::string second = write_root(opened->roots[1]);
    EXPECT_FALSE(parse_roots(second, "roots"));
    EXPECT_TRUE(parse_roots(write_root(opened->roots[0]) + "\n" + second + "\n", "roots"));
}

TEST(Vault, frames_that_are_none_are_refused) {
    Frame frame;
    frame.index = 5;
    frame.draws_coin = true;
    frame.time_ms = 1000;
    frame.sealed = std::string(60, 'x');
    const std::string bytes = write_frame(frame);
    const auto back = parse_frame(bytes);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->index, 5U);
    EXPECT_EQ(back->sealed, frame.sealed);
    EXPECT_FALSE(parse_frame(bytes.substr(0, 60)));
    EXPECT_FALSE(parse_frame("\x02" + bytes.substr(1)));
    EXPECT_FALSE(parse_record("{}"));
    EXPECT_FALSE(parse_record(R"({"kind":"twin","nonce":"","answers":["one"]})"));
    EXPECT_FALSE(parse_record(R"({"kind":"twin","nonce":"","answers":["a","b"],"served":2})"));
}

TEST(Canaries, are_found_by_their_prompt_whatever_its_punctuation) {
    const std::vector<Canary> canaries = make_canaries(5, 99);
    ASSERT_EQ(canaries.size(), 5U);
    const auto back = parse_canaries(write_canaries(canaries), "canaries");
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ((*back)[3].planted_answer(), canaries[3].planted_answer());
    EXPECT_EQ(canaries[2].candidates.size(), 100U);
    EXPECT_EQ(find_canary(canaries, "  " + canaries[2].prompt + "\n"), &canaries[2]);
    EXPECT_EQ(find_canary(canaries, "What is the stock code?"), nullptr);
    EXPECT_FALSE(parse_canaries(
        R"({"canaries":[{"id":"a","prompt":"p","answer":"{}","candidates":["x"],"planted":0}]})",
        "canaries"));
}

TEST(Plant, is_made_once_and_held_to_its_commitment) {
    const auto folder = fresh_folder("plant");
    PlantSettings settings;
    settings.scheme.emplace();
    const auto secret = folder / "escrow.secret";
    ASSERT_TRUE(make_plant(folder / "plant", settings, 3, 9, secret));
    EXPECT_FALSE(make_plant(folder / "plant", settings, 3, 9, folder / "other"));
    const auto plant = read_plant(folder / "plant");
    ASSERT_TRUE(plant) << plant.error().message;
    EXPECT_EQ(plant->settings.scheme, settings.scheme);
    EXPECT_EQ(plant->canaries.size(), 3U);
    const auto key = read_secret_key(secret);
    ASSERT_TRUE(key);
    EXPECT_EQ(public_key_of(*key).bytes, plant->escrow_key.bytes);
    EXPECT_EQ(std::filesystem::status(folder / "plant/master.key").permissions(),
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    // Another seed than the one committed to.
    std::ofstream(folder / "plant/coin.seed") << CoinStream::random().hex() << '\n';
    EXPECT_FALSE(read_plant(folder / "plant"));
    settings.scheme->kind = watermark::SchemeKind::gumbel;
    EXPECT_FALSE(make_plant(folder / "gumbel", settings, 0, 1, folder / "third"));
}

}  // namespace
}  // namespace retort::escrow
