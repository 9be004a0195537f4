// Every kernel against its plain reference, at sizes that are and are not multiples of a vector, and every
// backward pass against finite differences of its forward.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <vector>

#include "base/random.h"
#include "tensor/activation.h"
#include "tensor/adamw.h"
#include "tensor/attention.h"
#include "tensor/attention_amx.h"
#include "tensor/gemm.h"
#include "tensor/norm.h"
#include "tensor/quantised.h"
#include "tensor/rope.h"

namespace retort::tensor {
namespace {

constexpr double epsilon = 5.96e-8;  // half an ulp of 1 in f32

std::vector<float> random_vector(std::int64_t count, std::uint64_t seed, double deviation = 1.0) {
    base::RandomStream random(seed);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(random.normal() * deviation);
    return values;
}

double norm(const std::vector<float>& x) {
    double sum = 0;
    for (const float value : x) sum += static_cast<double>(value) * value;
    return std::sqrt(sum);
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_EQ(a.size(), b.size());
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double gap = static_cast<double>(a[i]) - b[i];
        sum += gap * gap;
    }
    return std::sqrt(sum);
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
}

using Function = std::function<std::vector<float>(const std::vector<float>&)>;

// The slope of dot(weights, f(x)) along a random direction, by central differences, against dot(gradient,
// direction). With step h and outputs of norm ‖f‖ rounded at ε each, the difference carries an error of about
// ‖w‖·‖f‖·ε/h, and the cubic term h²: h = 1e-2 leaves about 1e-4 of either at the sizes here; 2e-3 of the
// slope's scale is allowed.
void expect_gradient(const Function& f, const std::vector<float>& x, const std::vector<float>& weights,
                     const std::vector<float>& gradient) {
    const auto size = static_cast<std::int64_t>(x.size());
    for (std::uint64_t trial = 0; trial < 3; ++trial) {
        const std::vector<float> direction = random_vector(size, 1000 + trial);
        constexpr float h = 1e-2F;
        std::vector<float> up = x;
        std::vector<float> down = x;
        for (std::size_t i = 0; i < x.size(); ++i) {
            up[i] += h * direction[i];
            down[i] -= h * direction[i];
        }
        const double slope = (dot(weights, f(up)) - dot(weights, f(down))) / (2 * static_cast<double>(h));
        const double expected = dot(gradient, direction);
        EXPECT_NEAR(slope, expected, 2e-3 * norm(gradient) * norm(direction) / std::sqrt(size) + 2e-3);
    }
}

TEST(Gemm, equals_the_reference_in_every_orientation) {
    for (const auto& [m, n, k] : {std::array{1, 1, 1}, {7, 5, 3}, {64, 48, 32}, {33, 129, 70}}) {
        const auto a = random_vector(m * k, 1);
        const auto b = random_vector(k * n, 2);
        for (int mode = 0; mode < 4; ++mode) {
            const bool ta = (mode & 1) != 0;
            const bool tb = (mode & 2) != 0;
            std::vector<float> fast = random_vector(m * n, 3);
            std::vector<float> slow = fast;
            gemm(ta, tb, m, n, k, 0.5F, a.data(), ta ? m : k, b.data(), tb ? k : n, 1.0F, fast.data(), n);
            gemm_reference(ta, tb, m, n, k, 0.5F, a.data(), ta ? m : k, b.data(), tb ? k : n, 1.0F,
                           slow.data(), n);
            // Each output sums k rounded products: an error of at most k·ε·|a|·|b|, which adds like √k in
            // practice.
            EXPECT_LE(distance(fast, slow),
                      8 * epsilon * std::sqrt(k) * (norm(slow) + norm(a) * norm(b) / std::sqrt(k)));
        }
    }
}

TEST(Gemm, bf16_multiplies_the_rounded_numbers) {
    // The later ones are what AMX's tiles take: whole tiles, ends of rows and of sums, more than one block of
    // rows.
    for (const auto& [m, n, k] : {std::array{19, 40, 65},
                                  {1, 32, 32},
                                  {17, 32, 64},
                                  {50, 64, 96},
                                  {64, 96, 65},
                                  {96, 32, 5},
                                  {300, 64, 1600},
                                  {320, 64, 1601}}) {
        const auto a = random_vector(m * k, 1);
        const auto b = random_vector(k * n, 2);
        std::vector<std::uint16_t> a16(a.size());
        std::vector<std::uint16_t> b16(b.size());
        convert_to_bf16(a.data(), a16.data(), m * k);
        convert_to_bf16(b.data(), b16.data(), k * n);
        std::vector<float> a_rounded(a.size());
        std::vector<float> b_rounded(b.size());
        for (std::size_t i = 0; i < a.size(); ++i) a_rounded[i] = bf16_to_f32(a16[i]);
        for (std::size_t i = 0; i < b.size(); ++i) b_rounded[i] = bf16_to_f32(b16[i]);
        for (int mode = 0; mode < 4; ++mode) {
            const bool ta = (mode & 1) != 0;
            const bool tb = (mode & 2) != 0;
            for (const float beta : {0.0F, 1.0F}) {
                std::vector<float> fast = random_vector(m * n, 3);
                std::vector<float> slow = fast;
                gemm_bf16(ta, tb, m, n, k, a16.data(), ta ? m : k, b16.data(), tb ? k : n, beta, fast.data(),
                          n);
                gemm_reference(ta, tb, m, n, k, 1.0F, a_rounded.data(), ta ? m : k, b_rounded.data(),
                               tb ? k : n, beta, slow.data(), n);
                EXPECT_LE(distance(fast, slow),
                          8 * epsilon * std::sqrt(k) * (norm(slow) + norm(a) * norm(b) / std::sqrt(k)))
                    << m << " " << n << " " << k << " " << mode;
            }
        }
    }
}

TEST(RmsNorm, equals_the_reference_and_its_gradient_the_differences) {
    for (const std::int64_t size : {1, 7, 32, 576, 579}) {
        const std::int64_t rows = 37;
        const auto x = random_vector(rows * size, 1);
        const auto weight = random_vector(size, 2);
        const auto dy = random_vector(rows * size, 3);
        std::vector<float> y(x.size());
        std::vector<float> slow(x.size());
        std::vector<float> rstd(static_cast<std::size_t>(rows));
        rms_norm(x.data(), size, weight.data(), 1e-5F, rows, size, y.data(), size, rstd.data());
        rms_norm_reference(x.data(), weight.data(), 1e-5F, rows, size, slow.data());
        EXPECT_LE(distance(y, slow),
                  8 * epsilon * norm(slow) * std::sqrt(std::log2(static_cast<double>(size) + 2)));
        std::vector<float> dx(x.size(), 0.0F);
        std::vector<float> dw(weight.size(), 0.0F);
        rms_norm_backward(x.data(), size, weight.data(), rstd.data(), dy.data(), size, rows, size, dx.data(),
                          size, dw.data());
        const auto of_x = [&](const std::vector<float>& input) {
            std::vector<float> out(input.size());
            rms_norm_reference(input.data(), weight.data(), 1e-5F, rows, size, out.data());
            return out;
        };
        const auto of_weight = [&](const std::vector<float>& input) {
            std::vector<float> out(x.size());
            rms_norm_reference(x.data(), input.data(), 1e-5F, rows, size, out.data());
            return out;
        };
        if (size > 1)
            expect_gradient(of_x, x, dy, dx);  // of one number, the norm is a sign: no slope to measure
        expect_gradient(of_weight, weight, dy, dw);
    }
}

TEST(Swiglu, equals_the_reference_and_its_gradient_the_differences) {
    for (const std::int64_t size : {1, 9, 40, 1536}) {
        const std::int64_t rows = 19;
        const auto x = random_vector(rows * 2 * size, 1, 2.0);
        const auto dh = random_vector(rows * size, 2);
        std::vector<float> fast(dh.size());
        std::vector<float> slow(dh.size());
        swiglu(x.data(), rows, size, fast.data());
        swiglu_reference(x.data(), rows, size, slow.data());
        EXPECT_LE(distance(fast, slow), 8 * epsilon * norm(slow));
        std::vector<float> dx(x.size());
        std::vector<float> again(dh.size());
        swiglu_backward(x.data(), dh.data(), rows, size, dx.data(), again.data());
        EXPECT_EQ(again, fast);
        const auto of_x = [&](const std::vector<float>& input) {
            std::vector<float> out(dh.size());
            swiglu_reference(input.data(), rows, size, out.data());
            return out;
        };
        expect_gradient(of_x, x, dh, dx);
    }
}

TEST(Rope, turns_back_to_where_it_was_and_keeps_lengths) {
    const std::int64_t dim = 10;
    const std::vector<double> frequencies = {1.0, 0.3, 0.1, 0.02, 0.001};
    RopeTable table;
    table.extend(50, frequencies, 1.0);
    const std::vector<std::int32_t> positions = {0, 1, 49, 7};
    const auto x = random_vector(4 * 3 * dim, 1);
    auto turned = x;
    rope(turned.data(), 3 * dim, 4, 3, positions.data(), table, false);
    EXPECT_NEAR(norm(turned), norm(x), 8 * epsilon * norm(x));
    EXPECT_GT(distance(turned, x), 0.1);
    const double angle = 49 * 0.3;
    const std::size_t row = 2 * 3 * static_cast<std::size_t>(dim);
    EXPECT_NEAR(turned[row + 1], x[row + 1] * std::cos(angle) - x[row + 6] * std::sin(angle), 1e-5);
    rope(turned.data(), 3 * dim, 4, 3, positions.data(), table, true);
    EXPECT_LE(distance(turned, x), 16 * epsilon * norm(x));
}

class AttentionShapes : public ::testing::TestWithParam<AttentionShape> {};

TEST_P(AttentionShapes, equals_the_reference_and_its_gradient_the_differences) {
    const AttentionShape shape = GetParam();
    // One sequence longer than a block of keys, one of a single token, one that ends within a block.
    for (const std::vector<std::int32_t>& starts :
         {std::vector<std::int32_t>{0, 5}, {0, 150, 151, 190}, {0, 64, 128}, {0, 300}}) {
        const std::int64_t tokens = starts.back();
        const auto qkv = random_vector(tokens * shape.row_size(), 1);
        std::vector<float> out(static_cast<std::size_t>(tokens * shape.query_size()));
        std::vector<float> slow(out.size());
        std::vector<float> lse(static_cast<std::size_t>(tokens * shape.heads));
        attention(qkv.data(), starts, shape, out.data(), lse.data());
        attention_reference(qkv.data(), starts, shape, slow.data());
        // Scores of size √d carry errors of d·ε/√d each before the exponential: ε·√d relative, and a sum over
        // keys.
        EXPECT_LE(distance(out, slow), 16 * epsilon * std::sqrt(shape.head_dim) * norm(slow));
        if (tokens > 200) continue;
        const auto d_out = random_vector(tokens * shape.query_size(), 2);
        std::vector<float> d_qkv(qkv.size(), std::nanf(""));
        attention_backward(qkv.data(), out.data(), lse.data(), d_out.data(), starts, shape, d_qkv.data());
        const auto of_qkv = [&](const std::vector<float>& input) {
            std::vector<float> result(out.size());
            attention_reference(input.data(), starts, shape, result.data());
            return result;
        };
        expect_gradient(of_qkv, qkv, d_out, d_qkv);
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionShapes,
                         ::testing::Values(AttentionShape{4, 2, 16}, AttentionShape{9, 3, 64},
                                           AttentionShape{3, 3, 6}, AttentionShape{4, 1, 24}));

// Beside the path of f32, from the same bf16 numbers. Weights of the values, gradients of scores and of the
// output are rounded to bf16 once, by at most 2⁻⁸ of themselves and at random: gaps of 2⁻⁸ of the norm would
// be all of one sign.
TEST(AttentionAmx, follows_attention_in_f32) {
    for (const AttentionShape shape : {AttentionShape{9, 3, 64}, {4, 2, 32}, {2, 1, 96}, {2, 2, 128}}) {
        if (!amx_attention_fits(shape)) GTEST_SKIP() << "no AMX on this machine";
        for (const std::vector<std::int32_t>& starts :
             {std::vector<std::int32_t>{0, 1}, {0, 5}, {0, 150, 151, 190}, {0, 64, 128}, {0, 33, 33, 300}}) {
            const std::int64_t tokens = starts.back();
            auto qkv = random_vector(tokens * shape.row_size(), 1);
            std::vector<std::uint16_t> narrow(qkv.size());
            convert_to_bf16(qkv.data(), narrow.data(), static_cast<std::int64_t>(qkv.size()));
            convert_from_bf16(narrow.data(), qkv.data(), static_cast<std::int64_t>(qkv.size()));
            std::vector<float> expected(static_cast<std::size_t>(tokens * shape.query_size()));
            std::vector<std::uint16_t> out16(expected.size(), 0x7fff);
            std::vector<float> out(expected.size());
            std::vector<float> lse(static_cast<std::size_t>(tokens * shape.heads));
            std::vector<float> lse_amx(lse.size(), std::nanf(""));
            attention(qkv.data(), starts, shape, expected.data(), lse.data());
            attention_amx(narrow.data(), starts, shape, out16.data(), lse_amx.data());
            const auto outputs = static_cast<std::int64_t>(out.size());
            convert_from_bf16(out16.data(), out.data(), outputs);
            EXPECT_LE(distance(out, expected), norm(expected) / 256) << shape.head_dim << " " << tokens;
            EXPECT_LE(distance(lse_amx, lse), 1e-5 * (norm(lse) + 1));
            auto d_out = random_vector(tokens * shape.query_size(), 2);
            std::vector<std::uint16_t> d_out16(d_out.size());
            convert_to_bf16(d_out.data(), d_out16.data(), outputs);
            convert_from_bf16(d_out16.data(), d_out.data(), outputs);
            std::vector<float> gradient(qkv.size());
            std::vector<float> gradient_amx(qkv.size(), std::nanf(""));
            attention_backward(qkv.data(), expected.data(), lse.data(), d_out.data(), starts, shape,
                               gradient.data());
            attention_backward_amx(narrow.data(), out16.data(), lse_amx.data(), d_out16.data(), starts, shape,
                                   gradient_amx.data());
            EXPECT_LE(distance(gradient_amx, gradient), 2 * norm(gradient) / 256)
                << shape.head_dim << " " << tokens;
        }
    }
}

TEST(Adamw, follows_the_reference_and_clears_the_gradient) {
    const std::int64_t count = 40001;
    auto value = random_vector(count, 1);
    auto m = std::vector<float>(value.size(), 0.0F);
    auto v = m;
    auto slow_value = value;
    auto slow_m = m;
    auto slow_v = v;
    std::vector<std::uint16_t> bf16(value.size());
    for (std::int64_t t = 1; t <= 5; ++t) {
        auto gradient = random_vector(count, 10 + static_cast<std::uint64_t>(t));
        AdamwStep step;
        step.learning_rate = 1e-2F;
        step.weight_decay = 0.1F;
        step.gradient_scale = 0.5F;
        step.step = t;
        adamw_reference(slow_value.data(), gradient.data(), slow_m.data(), slow_v.data(), count, step);
        adamw(value.data(), {gradient.data()}, {m.data(), v.data()}, bf16.data(), count, step);
        EXPECT_EQ(norm(gradient), 0);
    }
    EXPECT_LE(distance(value, slow_value), 5 * 8 * epsilon * norm(value));
    for (std::size_t i = 0; i < value.size(); ++i) ASSERT_EQ(bf16[i], f32_to_bf16(value[i]));
}

TEST(SumOfSquares, does_not_depend_on_the_number_of_threads) {
    const auto x = random_vector(100003, 4);
    EXPECT_NEAR(sum_of_squares(x.data(), 100003), norm(x) * norm(x), 64 * epsilon * norm(x) * norm(x));
}

}  // namespace
}  // namespace retort::tensor
