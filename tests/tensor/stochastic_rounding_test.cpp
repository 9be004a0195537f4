// Rounding by chance: the same bits from every vector path, right on average, and AdamW on moments so kept.
#include "tensor/stochastic_rounding.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "base/random.h"
#include "tensor/adamw.h"
#include "tensor/dispatch.h"

namespace retort::tensor {
namespace {

constexpr RoundingKey some_key = 0x0123456789abcdefU;

float widened(std::uint16_t bits) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

std::vector<float> random_vector(std::int64_t count, std::uint64_t seed, double deviation = 1.0) {
    base::RandomStream random(seed);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(random.normal() * deviation);
    return values;
}

std::vector<std::uint16_t> rounded(const std::vector<float>& from, RoundingKey key, std::int64_t first) {
    std::vector<std::uint16_t> to(from.size());
    round_stochastically(from.data(), to.data(), static_cast<std::int64_t>(from.size()), key, first);
    return to;
}

class EachVector : public ::testing::TestWithParam<base::Isa> {
  protected:
    void SetUp() override {
        apply_isa_limit();
        limit_isa(GetParam());
    }
    void TearDown() override { limit_isa(base::active_isa()); }
};

TEST_P(EachVector, rounds_to_the_bits_of_the_reference) {
    for (const std::int64_t count : {0, 1, 7, 16, 33, 4099}) {
        auto from = random_vector(count, 3, 1e-3);
        for (std::size_t i = 0; i < from.size(); i += 5) from[i] *= -1e-37F;  // into the denormals
        if (count > 20) {
            from[0] = std::numeric_limits<float>::quiet_NaN();
            from[1] = std::bit_cast<float>(0x7f800001U);  // a NaN whose upper half alone is infinity
            from[17] = std::numeric_limits<float>::infinity();
            from[18] = -0.0F;
        }
        // The last begins below 2³² and ends above: the numbers wrap.
        for (const std::int64_t first :
             {std::int64_t{0}, std::int64_t{12345}, (std::int64_t{1} << 32U) - 10}) {
            const auto got = rounded(from, some_key, first);
            for (std::size_t i = 0; i < from.size(); ++i) {
                const std::int64_t element = first + static_cast<std::int64_t>(i);
                ASSERT_EQ(got[i], round_stochastically_reference(from[i], some_key, element)) << i;
                ASSERT_EQ(std::isnan(from[i]), std::isnan(widened(got[i]))) << i;
            }
        }
    }
}

TEST_P(EachVector, pieces_draw_what_the_whole_draws) {
    const auto whole = random_vector(1000, 4);
    const auto at_once = rounded(whole, some_key, 7);
    for (const std::int64_t cut : {1, 16, 333}) {
        std::vector<std::uint16_t> got;
        for (std::int64_t at = 0; at < 1000; at += cut) {
            const std::int64_t end = std::min<std::int64_t>(1000, at + cut);
            const auto piece = rounded({whole.begin() + at, whole.begin() + end}, some_key, 7 + at);
            got.insert(got.end(), piece.begin(), piece.end());
        }
        EXPECT_EQ(got, at_once) << cut;
    }
}

INSTANTIATE_TEST_SUITE_P(StochasticRounding, EachVector,
                         ::testing::Values(base::Isa::scalar, base::Isa::avx2, base::Isa::avx512),
                         [](const auto& one) { return std::string(base::isa_name(one.param)); });

TEST(StochasticRounding, is_right_on_average_and_apart_by_element_and_by_key) {
    // A number a quarter of the way between two bf16s goes up one time in four: of n draws, within five
    // standard deviations of sqrt(n·3/16).
    constexpr std::int64_t count = 1 << 20;
    const float quarter = 1.0F + 0x1p-9F;
    const std::vector<float> same(count, quarter);
    const auto ups = [](const std::vector<std::uint16_t>& got) {
        std::vector<int> up;
        for (const std::uint16_t bits : got) up.push_back(bits == 0x3f81U ? 1 : 0);
        return up;
    };
    const auto one = ups(rounded(same, some_key, 0));
    std::int64_t total = 0;
    for (const int up : one) total += up;
    const double within = 5 * std::sqrt(count * 3.0 / 16);
    EXPECT_NEAR(static_cast<double>(total), count / 4.0, within);
    // Where two draws are independent both go up one time in sixteen: a neighbour's, one at a power of two,
    // and the same element's at other steps, whose keys are drawn as a run draws them. The products of one
    // draw with two others are not independent of each other: their variance is at most twice that of n coins
    // of a sixteenth.
    const auto pairs = [&](const std::vector<int>& other, std::size_t shift) {
        std::int64_t sum = 0;
        for (std::size_t i = 0; i < one.size(); ++i) sum += one[i] * other[(i + shift) % other.size()];
        return static_cast<double>(sum);
    };
    const double pairs_within = 5 * std::sqrt(2 * count * 15.0 / 256);
    for (const std::size_t shift : {1U, 2U, 16U, 2048U, 65536U})
        EXPECT_NEAR(pairs(one, shift), count / 16.0, pairs_within) << shift;
    for (std::uint64_t at = 1; at <= 8; ++at) {
        const auto other = ups(rounded(same, base::RandomStream(1, at).next_u64(), 0));
        EXPECT_NEAR(pairs(other, 0), count / 16.0, pairs_within) << at;
    }
    EXPECT_NEAR(pairs(ups(rounded(same, some_key ^ 1U, 0)), 0), count / 16.0, pairs_within);
    EXPECT_NEAR(pairs(ups(rounded(same, some_key ^ (RoundingKey{1} << 32U), 0)), 0), count / 16.0,
                pairs_within);
    // What bf16 has exactly is kept.
    for (const std::uint16_t bits : rounded({1.0F, -0.5F, 0.0F, 3.0F}, some_key, 9))
        EXPECT_TRUE(bits == 0x3f80U || bits == 0xbf00U || bits == 0 || bits == 0x4040U);
}

struct Bf16State {
    std::vector<float> value;
    std::vector<std::uint16_t> high;
    std::vector<std::int16_t> low;
    std::vector<std::uint16_t> m;
    std::vector<std::uint16_t> v;
};

TEST_P(EachVector, adamw_on_bf16_moments_follows_the_reference) {
    constexpr std::int64_t count = 40001;
    constexpr std::int64_t first = 100;
    constexpr auto size = static_cast<std::size_t>(count);
    Bf16State state{random_vector(count, 1), std::vector<std::uint16_t>(size),
                    std::vector<std::int16_t>(size), std::vector<std::uint16_t>(size),
                    std::vector<std::uint16_t>(size)};
    split_floats(state.value.data(), state.high.data(), state.low.data(), count);
    std::int64_t other_bits = 0;
    for (std::int64_t t = 1; t <= 4; ++t) {
        auto gradient = random_vector(count, 10 + static_cast<std::uint64_t>(t));
        AdamwStep step;
        step.learning_rate = 1e-2F;
        step.weight_decay = 0.1F;
        step.gradient_scale = 0.5F;
        step.step = t;
        // From the same bits at each step, so that what one draw of this differs by does not add up.
        std::vector<float> value = state.value;
        std::vector<float> m(size);
        std::vector<float> v(size);
        for (std::size_t i = 0; i < size; ++i) {
            m[i] = widened(state.m[i]);
            v[i] = widened(state.v[i]);
        }
        adamw_reference(value.data(), gradient.data(), m.data(), v.data(), count, step);
        const Moments moments{nullptr,
                              nullptr,
                              state.m.data(),
                              state.v.data(),
                              11U + static_cast<RoundingKey>(t),
                              77U + static_cast<RoundingKey>(t),
                              first};
        auto gradient_of_halves = gradient;
        Bf16State halves = state;
        adamw(state.value.data(), {gradient.data()}, moments, nullptr, count, step);
        adamw_halves(
            halves.high.data(), halves.low.data(), {gradient_of_halves.data()},
            {nullptr, nullptr, halves.m.data(), halves.v.data(), moments.m_key, moments.v_key, first}, count,
            step);
        EXPECT_EQ(halves.m, state.m);
        EXPECT_EQ(halves.v, state.v);
        join_floats(halves.high.data(), halves.low.data(), halves.value.data(), count);
        EXPECT_EQ(halves.value, state.value);
        state.high = halves.high;
        state.low = halves.low;
        for (std::size_t i = 0; i < size; ++i) {
            ASSERT_EQ(gradient[i], 0);
            // A few roundings of f32 of the value and of a step of about lr·|m̂|/√v̂.
            ASSERT_NEAR(state.value[i], value[i], 8 * 0x1p-24 * (std::abs(value[i]) + 1)) << i;
            const std::int64_t element = first + static_cast<std::int64_t>(i);
            const std::uint16_t want_m = round_stochastically_reference(m[i], moments.m_key, element);
            const std::uint16_t want_v = round_stochastically_reference(v[i], moments.v_key, element);
            // A place of bf16 apart at most, but where the terms of a sum cancel: there their own rounding
            // counts.
            ASSERT_NEAR(widened(state.m[i]), widened(want_m), 0x1p-7 * std::abs(m[i]) + 0x1p-22) << i;
            ASSERT_NEAR(widened(state.v[i]), widened(want_v), 0x1p-7 * v[i]) << i;
            other_bits += static_cast<std::int64_t>(state.m[i] != want_m) + (state.v[i] != want_v);
        }
    }
    // The numbers before rounding differ by up to 3 roundings of f32 of terms some times their sum, where
    // they cancel: 2⁻²⁴·3·4 over a bf16 step of 2⁻⁸ is the chance that a draw falls between: 2⁻¹²; twice
    // that.
    EXPECT_LE(static_cast<double>(other_bits), 2 * 4 * 2 * count * 0x1p-12);
}

TEST_P(EachVector, gradients_in_bf16_add_up_by_the_draws_of_the_reference) {
    constexpr std::int64_t count = 20011;
    constexpr std::int64_t first = 64;
    std::vector<std::uint16_t> sum(count);
    std::vector<std::uint16_t> want(count);
    for (RoundingKey pass = 1; pass <= 3; ++pass) {
        const auto x = random_vector(count, 20 + pass, 1e-3);
        add_to_bf16(x.data(), sum.data(), count, pass, first);
        for (std::size_t i = 0; i < x.size(); ++i)
            want[i] = round_stochastically_reference(widened(want[i]) + x[i], pass,
                                                     first + static_cast<std::int64_t>(i));
        ASSERT_EQ(sum, want);
    }
    // What is made of them is what is made of the same numbers in f32.
    std::vector<float> wide(count);
    convert_from_bf16(sum.data(), wide.data(), count);
    EXPECT_EQ(sum_of_squares(sum.data(), count), sum_of_squares(wide.data(), count));
    std::vector<float> value(count, 0.5F);
    std::vector<float> other = value;
    std::vector<float> m(count);
    std::vector<float> v(count);
    std::vector<float> other_m = m;
    std::vector<float> other_v = v;
    adamw(value.data(), {wide.data()}, {m.data(), v.data()}, nullptr, count, {});
    adamw(other.data(), {nullptr, sum.data()}, {other_m.data(), other_v.data()}, nullptr, count, {});
    EXPECT_EQ(other, value);
    EXPECT_EQ(other_m, m);
    EXPECT_EQ(other_v, v);
    for (const std::uint16_t bits : sum) ASSERT_EQ(bits, 0);
}

// What rounding to nearest would get wrong: with β2 = 0.999 an update of v is less than half of its last
// place.
TEST(AdamwInBf16, the_second_moment_follows_a_change_too_small_for_its_last_place) {
    constexpr std::int64_t count = 1 << 14;
    std::vector<float> value(count, 0.0F);
    std::vector<std::uint16_t> m(count, 0);
    std::vector<std::uint16_t> v(count, 0x3f80U);  // 1
    AdamwStep step;
    step.beta2 = 0.999F;
    for (std::int64_t t = 1; t <= 300; ++t) {
        std::vector<float> gradient(count, std::sqrt(0.5F));  // v goes to 1/2
        step.step = 1000 + t;
        adamw(value.data(), {gradient.data()},
              {nullptr, nullptr, m.data(), v.data(), static_cast<RoundingKey>(t) * 7919,
               static_cast<RoundingKey>(t) * 104729, 0},
              nullptr, count, step);
    }
    double mean = 0;
    for (const std::uint16_t bits : v) mean += widened(bits) / static_cast<double>(count);
    // Each step adds at most half a place (2⁻⁸ below 1) as its standard deviation, and shrinks what was
    // there: under 2⁻⁹·sqrt(300) an element, over sqrt(count) elements; five of these.
    const double want = 0.5 + 0.5 * std::pow(0.999, 300);
    EXPECT_NEAR(mean, want, 5 * 0x1p-9 * std::sqrt(300.0 / count));
}

TEST(AdamwInBf16, does_not_depend_on_the_number_of_threads) {
    constexpr std::int64_t count = 100003;
    const int threads = base::thread_count();
    std::vector<std::vector<std::uint16_t>> results;
    for (const int number : {1, 2, 3}) {
        base::set_thread_count(number);
        std::vector<float> value(count, 0.0F);
        std::vector<std::uint16_t> m(count);
        std::vector<std::uint16_t> v(count);
        auto gradient = random_vector(count, 8);
        adamw(value.data(), {gradient.data()}, {nullptr, nullptr, m.data(), v.data(), 5, 6, 0}, nullptr,
              count, {});
        m.insert(m.end(), v.begin(), v.end());
        results.push_back(m);
    }
    base::set_thread_count(threads);
    EXPECT_EQ(results[1], results[0]);
    EXPECT_EQ(results[2], results[0]);
}

}  // namespace
}  // namespace retort::tensor
