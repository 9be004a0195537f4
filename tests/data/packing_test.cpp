#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/random.h"
#include "data/packing.h"

namespace retort::data {
namespace {

std::vector<Example> random_examples(std::uint64_t seed, std::size_t count, std::int64_t longest) {
    base::RandomStream random(seed);
    std::vector<Example> examples(count);
    for (std::size_t e = 0; e < count; ++e) {
        const auto length = 1 + random.below(static_cast<std::uint64_t>(longest));
        const auto from = random.below(length + 1);
        for (std::uint64_t i = 0; i < length; ++i) {
            examples[e].tokens.push_back(static_cast<std::int32_t>(e * 10'000 + i));
            examples[e].trained.push_back(i >= from ? 1 : 0);
        }
        examples[e].record_id = std::to_string(e);
    }
    return examples;
}

// Every token of every example is there once, in order, in one row; targets are the next tokens that are
// trained.
void check_rows(const std::vector<Example>& examples, const std::vector<PackedBatch>& rows,
                std::int64_t length) {
    std::vector<int> seen(examples.size(), 0);
    for (const PackedBatch& row : rows) {
        ASSERT_LE(static_cast<std::int64_t>(row.tokens.size()), length);
        ASSERT_EQ(row.tokens.size(), row.targets.size());
        ASSERT_EQ(row.tokens.size(), row.positions.size());
        ASSERT_EQ(row.sequence_starts.size(), row.example_indices.size() + 1);
        ASSERT_EQ(row.sequence_starts.front(), 0);
        ASSERT_EQ(row.sequence_starts.back(), static_cast<std::int32_t>(row.tokens.size()));
        std::int64_t trained = 0;
        for (std::size_t s = 0; s < row.example_indices.size(); ++s) {
            const Example& example = examples[static_cast<std::size_t>(row.example_indices[s])];
            ++seen[static_cast<std::size_t>(row.example_indices[s])];
            const auto begin = static_cast<std::size_t>(row.sequence_starts[s]);
            ASSERT_EQ(static_cast<std::size_t>(row.sequence_starts[s + 1]) - begin, example.tokens.size());
            for (std::size_t i = 0; i < example.tokens.size(); ++i) {
                ASSERT_EQ(row.tokens[begin + i], example.tokens[i]);
                ASSERT_EQ(row.positions[begin + i], static_cast<std::int32_t>(i));
                const bool has = i + 1 < example.tokens.size() && example.trained[i + 1] != 0;
                ASSERT_EQ(row.targets[begin + i], has ? example.tokens[i + 1] : -1);
                trained += has ? 1 : 0;
            }
        }
        ASSERT_EQ(row.trained_tokens, trained);
    }
    for (const int count : seen) ASSERT_EQ(count, 1);
}

TEST(Packing, no_token_is_lost_or_doubled) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        const std::int64_t length = 1 + static_cast<std::int64_t>(seed * 7 % 200);
        const auto examples = random_examples(seed, 1 + seed * 5 % 90, length);
        const auto rows = pack(examples, length);
        ASSERT_TRUE(rows);
        check_rows(examples, *rows, length);
    }
}

TEST(Packing, wastes_little) {
    const auto examples = random_examples(7, 2000, 512);
    const auto rows = pack(examples, 512);
    ASSERT_TRUE(rows);
    std::size_t tokens = 0;
    for (const Example& example : examples) tokens += example.tokens.size();
    // Best-fit decreasing needs at most 11/9 of the best number of rows and one more (Johnson 1974); for
    // uniform lengths it comes within a hundredth of it.
    const double best = std::ceil(static_cast<double>(tokens) / 512);
    EXPECT_LE(static_cast<double>(rows->size()), best * 1.01 + 1);
}

TEST(Packing, is_deterministic_and_best_fit) {
    const auto examples = random_examples(3, 200, 64);
    const auto a = pack(examples, 100);
    const auto b = pack(examples, 100);
    ASSERT_TRUE(a && b);
    ASSERT_EQ(a->size(), b->size());
    for (std::size_t i = 0; i < a->size(); ++i) EXPECT_EQ((*a)[i].example_indices, (*b)[i].example_indices);

    // 6, 5, 4, 3 into rows of 10: 6+4 and 5+3.
    std::vector<Example> four(4);
    const std::array<std::size_t, 4> lengths = {3, 6, 4, 5};
    for (std::size_t i = 0; i < 4; ++i) {
        four[i].tokens.assign(lengths[i], 1);
        four[i].trained.assign(lengths[i], 1);
    }
    const auto rows = pack(four, 10);
    ASSERT_TRUE(rows);
    ASSERT_EQ(rows->size(), 2U);
    EXPECT_EQ((*rows)[0].example_indices, (std::vector<std::int32_t>{1, 2}));
    EXPECT_EQ((*rows)[1].example_indices, (std::vector<std::int32_t>{3, 0}));
}

TEST(Packing, too_long_is_named_never_cut) {
    std::vector<Example> examples = random_examples(1, 3, 10);
    examples[1].tokens.assign(11, 1);
    examples[1].trained.assign(11, 1);
    examples[1].record_id = "abc";
    const auto rows = pack(examples, 10);
    ASSERT_FALSE(rows);
    EXPECT_NE(rows.error().message.find("abc"), std::string::npos);
    EXPECT_NE(rows.error().message.find("11 tokens"), std::string::npos);
    examples[1].trained.pop_back();
    EXPECT_FALSE(pack(examples, 20));
    EXPECT_TRUE(pack({}, 10)->empty());
}

}  // namespace
}  // namespace retort::data
