#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/journal.h"
#include "base/random.h"

namespace retort::base {
namespace {

namespace fs = std::filesystem;

fs::path scratch(const std::string& name) {
    const fs::path path = fs::path(::testing::TempDir()) / ("retort_base_" + name);
    fs::remove_all(path);
    return path;
}

Result<std::vector<std::string>> frames_of(const fs::path& path) {
    std::vector<std::string> frames;
    RETORT_CHECK(read_journal(path, [&](std::string_view frame) -> Status {
        frames.emplace_back(frame);
        return {};
    }));
    return frames;
}

TEST(AtomicFile, nothing_appears_before_commit) {
    const fs::path path = scratch("atomic") / "file";
    {
        auto file = AtomicFile::create(path);
        ASSERT_TRUE(file);
        ASSERT_TRUE(file->write("half"));
    }
    EXPECT_FALSE(fs::exists(path));
    EXPECT_TRUE(fs::is_empty(path.parent_path()));
    ASSERT_TRUE(write_file_atomic(path, "whole"));
    EXPECT_EQ(*read_file(path), "whole");
}

TEST(Journal, every_cut_keeps_the_whole_frames_before_it) {
    const fs::path path = scratch("journal");
    std::vector<std::uint64_t> ends;
    {
        auto journal = Journal::open(path, [](std::string_view) -> Status { return {}; });
        ASSERT_TRUE(journal);
        for (const char* text : {"first", "", "a third, longer frame"}) {
            ASSERT_TRUE(journal->append(text));
            ends.push_back(fs::file_size(path));
        }
    }
    const std::string whole = *read_file(path);
    for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
        std::ofstream(path, std::ios::binary | std::ios::trunc) << whole.substr(0, cut);
        JournalRecovery recovery;
        auto journal = Journal::open(
            path, [](std::string_view) -> Status { return {}; }, &recovery);
        ASSERT_TRUE(journal) << cut;
        std::size_t expected = 0;
        for (const std::uint64_t end : ends) expected += cut >= end ? 1 : 0;
        EXPECT_EQ(recovery.frames, expected) << cut;
        ASSERT_TRUE(journal->append("after"));
        EXPECT_EQ(frames_of(path)->back(), "after");
        EXPECT_EQ(frames_of(path)->size(), expected + 1);
    }
}

TEST(Journal, damage_in_the_middle_is_an_error_and_not_a_torn_tail) {
    const fs::path path = scratch("damaged");
    {
        auto journal = Journal::open(path, [](std::string_view) -> Status { return {}; });
        ASSERT_TRUE(journal->append("first frame"));
        ASSERT_TRUE(journal->append("second frame"));
    }
    std::string bytes = *read_file(path);
    bytes[8 + 12 + 3] ^= 1;
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    EXPECT_FALSE(frames_of(path));
    EXPECT_EQ(*read_file(path), bytes);
}

TEST(Sha256, known_answer) {
    EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(MerkleRoot, changes_with_any_leaf_and_with_order) {
    const std::vector<Sha256> leaves = {merkle_leaf("a"), merkle_leaf("b"), merkle_leaf("c")};
    const std::vector<Sha256> swapped = {merkle_leaf("b"), merkle_leaf("a"), merkle_leaf("c")};
    EXPECT_NE(merkle_root(leaves), merkle_root(swapped));
    EXPECT_NE(merkle_root(leaves), merkle_root(std::span(leaves).first(2)));
}

TEST(RandomStream, counter_restores_the_stream) {
    RandomStream stream(7, 3);
    for (int i = 0; i < 10; ++i) stream.next_u64();
    RandomStream again(7, 3);
    again.set_counter(stream.counter());
    EXPECT_EQ(again.next_u64(), stream.next_u64());
    EXPECT_NE(RandomStream(7, 4).next_u64(), RandomStream(7, 3).next_u64());
}

TEST(RandomStream, moments_of_normal_and_below) {
    RandomStream stream(1);
    constexpr int n = 200000;
    double sum = 0;
    double squares = 0;
    std::vector<int> counts(7);
    for (int i = 0; i < n; ++i) {
        const double x = stream.normal();
        sum += x;
        squares += x * x;
        ++counts[stream.below(7)];
    }
    // Five standard errors of the mean (1/sqrt(n)), of the variance (sqrt(2/n)) and of a binomial count.
    EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
    EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2.0 / n));
    for (const int count : counts) EXPECT_NEAR(count, n / 7.0, 5 * std::sqrt(n * 6.0 / 49));
}

}  // namespace
}  // namespace retort::base
