// Attention over pages against the dense reference in double precision, and the threads that share it out.
#include "tensor/decode_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "base/parallel.h"
#include "base/random.h"
#include "tensor/dispatch.h"
#include "tensor/quantised.h"
#include "tensor/team.h"

namespace retort::tensor {
namespace {

constexpr double epsilon = 5.96e-8;

// One sequence of `length` tokens, its pages in a shuffled order among others that hold large numbers.
struct Sequence {
    AttentionShape shape;
    std::int64_t length;
    std::vector<float> qkv;
    std::vector<std::int32_t> pages;
    std::vector<std::byte> memory;
    PagedKeyValues cache;

    Sequence(const AttentionShape& with, std::int64_t tokens, DType dtype = DType::f32)
        : shape(with), length(tokens) {
        base::RandomStream random(static_cast<std::uint64_t>(tokens), 5);
        qkv.resize(static_cast<std::size_t>(length * shape.row_size()));
        for (float& value : qkv) value = static_cast<float>(random.normal());
        // What a cache of bf16 holds, so that storing rounds nothing; with bf16 products no query is rounded
        // either, and what is left to round are the softmax weights.
        if (dtype == DType::bf16) {
            for (float& value : qkv) value = bf16_to_f32(f32_to_bf16(value));
        }
        const std::int64_t count = (length + kv_page_tokens - 1) / kv_page_tokens;
        pages.resize(static_cast<std::size_t>(count));
        std::iota(pages.begin(), pages.end(), 1);
        for (std::size_t i = pages.size(); i > 1; --i) std::swap(pages[i - 1], pages[random.below(i)]);
        const std::int64_t stride = kv_page_bytes(shape, dtype) + 28;
        // No number anywhere but in what is stored.
        memory.assign(static_cast<std::size_t>((count + 2) * stride), std::byte{0xff});
        cache = {memory.data(), stride, dtype};
        store({3, 30, 1, 64});
    }

    // In pieces of these sizes, over and over.
    void store(const std::vector<std::int64_t>& pieces) {
        const std::int64_t kv_size = shape.kv_heads * shape.head_dim;
        std::size_t piece = 0;
        for (std::int64_t t = 0, count = 0; t < length; t += count) {
            count = std::min(pieces[piece++ % pieces.size()], length - t);
            const float* key = qkv.data() + t * shape.row_size() + shape.query_size();
            store_key_values(cache, shape, pages.data(), t, count, key, key + kv_size, shape.row_size());
        }
    }

    std::vector<float> attend(std::int64_t first, std::int64_t last) const {
        std::vector<PagedQuery> queries;
        for (std::int64_t t = first; t < last; ++t) queries.push_back({pages.data(), t + 1});
        std::vector<float> out(static_cast<std::size_t>((last - first) * shape.query_size()));
        paged_attention(cache, shape, queries, qkv.data() + first * shape.row_size(), shape.row_size(),
                        out.data(), shape.query_size());
        return out;
    }
};

// A score of head_dim products of numbers up to 4.5 is off by at most (head_dim + 2)·ε·Σ|q·k|/√head_dim, for
// which head_dim·2/√head_dim is ample; weights by twice that relatively, plus a few ε for exp and length·ε
// for sums; values are below 5.
double tolerance(const AttentionShape& shape, std::int64_t length) {
    const auto dim = static_cast<double>(shape.head_dim);
    const double score = (dim + 2) * epsilon * 2 * std::sqrt(dim);
    return 5 * (2 * score + (static_cast<double>(length) + 16) * epsilon);
}

// bf16 keys and values: the same, but that bf16 products meet softmax weights rounded by 2^-9 of each, which
// a row's rounded sum divides; values are below 5, and roundings of some hundred weights cancel in part at
// least.
double bf16_tolerance(const AttentionShape& shape, std::int64_t length) {
    return tolerance(shape, length) + (kernel_isa() >= base::Isa::avx512_bf16 ? 5.0 / 256 : 0.0);
}

class EveryIsaAttention : public ::testing::TestWithParam<base::Isa> {};

TEST_P(EveryIsaAttention, over_pages_is_that_of_the_reference) {
    if (GetParam() > base::detected_isa()) GTEST_SKIP() << "not on this machine";
    apply_isa_limit();
    limit_isa(GetParam());
    for (const AttentionShape& shape : {AttentionShape{9, 3, 64}, AttentionShape{4, 4, 8},
                                        AttentionShape{8, 2, 20}, AttentionShape{10, 2, 32}}) {
        for (const auto& [length, dtype] : std::vector<std::pair<std::int64_t, DType>>{{1, DType::f32},
                                                                                       {16, DType::f32},
                                                                                       {17, DType::f32},
                                                                                       {255, DType::f32},
                                                                                       {257, DType::f32},
                                                                                       {530, DType::f32},
                                                                                       {1, DType::bf16},
                                                                                       {16, DType::bf16},
                                                                                       {17, DType::bf16},
                                                                                       {255, DType::bf16},
                                                                                       {258, DType::bf16},
                                                                                       {531, DType::bf16}}) {
            const Sequence sequence(shape, length, dtype);
            const double bound =
                dtype == DType::f32 ? tolerance(shape, length) : bf16_tolerance(shape, length);
            std::vector<float> expected(static_cast<std::size_t>(length * shape.query_size()));
            const std::int32_t starts[] = {0, static_cast<std::int32_t>(length)};
            attention_reference(sequence.qkv.data(), starts, shape, expected.data());
            const std::int64_t first = std::max<std::int64_t>(0, length - 40);
            const auto out = sequence.attend(first, length);
            for (std::size_t i = 0; i < out.size(); ++i) {
                ASSERT_NEAR(out[i], expected[static_cast<std::size_t>(first * shape.query_size()) + i], bound)
                    << "head_dim " << shape.head_dim << ", length " << length << ", "
                    << dtype_info(dtype).name;
            }
        }
    }
    limit_isa(base::active_isa());
}

TEST_P(EveryIsaAttention, keys_and_values_lie_the_same_however_they_are_stored) {
    if (GetParam() > base::detected_isa()) GTEST_SKIP() << "not on this machine";
    apply_isa_limit();
    limit_isa(GetParam());
    for (const AttentionShape& shape :
         {AttentionShape{9, 3, 64}, AttentionShape{3, 1, 16}, AttentionShape{4, 4, 8}}) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
            Sequence one(shape, 85, dtype);
            for (std::size_t i = 0; i < one.qkv.size(); ++i)
                one.qkv[i] *= 1.0F + static_cast<float>(i) * 1e-4F;
            Sequence other = one;
            other.cache.data = other.memory.data();
            one.store({1});
            other.store({100});
            EXPECT_EQ(one.memory, other.memory) << shape.head_dim << ", " << dtype_info(dtype).name;
        }
    }
    limit_isa(base::active_isa());
}

TEST_P(EveryIsaAttention, of_a_query_has_the_same_bits_in_every_batch) {
    if (GetParam() > base::detected_isa()) GTEST_SKIP() << "not on this machine";
    apply_isa_limit();
    limit_isa(GetParam());
    const AttentionShape shape{6, 2, 32};
    for (const DType dtype : {DType::f32, DType::bf16}) {
        const Sequence sequence(shape, 600, dtype);
        // Past the batch from which the threads share it out, and over where one chunk ends.
        const auto all = sequence.attend(490, 600);
        for (std::int64_t t = 490; t < 600; t += 3) {
            const auto alone = sequence.attend(t, t + 1);
            EXPECT_EQ(0, std::memcmp(alone.data(), all.data() + (t - 490) * shape.query_size(),
                                     alone.size() * sizeof(float)))
                << dtype_info(dtype).name << ", position " << t;
        }
        const auto few = sequence.attend(505, 517);
        EXPECT_EQ(0,
                  std::memcmp(few.data(), all.data() + 15 * shape.query_size(), few.size() * sizeof(float)))
            << dtype_info(dtype).name;
    }
    limit_isa(base::active_isa());
}

INSTANTIATE_TEST_SUITE_P(Isa, EveryIsaAttention,
                         ::testing::Values(base::Isa::scalar, base::Isa::avx2, base::Isa::avx512,
                                           base::Isa::avx512_bf16, base::Isa::amx),
                         [](const auto& suite) { return std::string(base::isa_name(suite.param)); });

TEST(Team, runs_every_item_once) {
    const int threads = base::thread_count();
    for (const int count : {1, 2, 4}) {
        base::set_thread_count(count);
        for (int round = 0; round < 2000; ++round) {
            const std::int64_t items = round % 37;
            std::vector<std::atomic<int>> runs(static_cast<std::size_t>(items));
            team_each(items, [&](std::int64_t i) { runs[static_cast<std::size_t>(i)].fetch_add(1); });
            for (const auto& times : runs) ASSERT_EQ(times.load(), 1);
        }
    }
    base::set_thread_count(threads);
}

TEST(Team, works_from_inside_an_item_and_from_several_threads) {
    std::atomic<std::int64_t> sum = 0;
    const auto job = [&sum] {
        base::set_thread_count(3);
        for (int round = 0; round < 300; ++round) {
            team_each(8,
                      [&sum](std::int64_t i) { team_each(4, [&sum, i](std::int64_t j) { sum += i * j; }); });
        }
    };
    std::thread other(job);
    std::thread another(job);
    job();
    other.join();
    another.join();
    EXPECT_EQ(sum.load(), 3 * 300 * 28 * 6);
}

}  // namespace
}  // namespace retort::tensor
