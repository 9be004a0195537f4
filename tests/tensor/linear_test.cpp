// Products of generation against the dequantised matrix in double precision: every format, every path that
// the machine has, every batch size.
#include "tensor/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/cpu.h"
#include "base/parallel.h"
#include "base/random.h"
#include "tensor/dispatch.h"
#include "tensor/linear_codes.h"
#include "tensor/linear_packed.h"
#include "tensor/linear_pairs.h"
#include "tensor/quantised.h"

namespace retort::tensor {
namespace {

constexpr double epsilon = 5.96e-8;  // half an ulp of 1 in f32

constexpr DType quantised_types[] = {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                                     DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k};
constexpr DType plain_types[] = {DType::f32, DType::f16, DType::bf16};
constexpr base::Isa isas[] = {base::Isa::scalar, base::Isa::avx2, base::Isa::avx512, base::Isa::avx512_bf16,
                              base::Isa::amx};

// Where a format keeps its f16 numbers: random bytes there would be infinities.
std::vector<int> half_offsets(DType dtype) {
    switch (dtype) {
        case DType::q8_0:
        case DType::q4_0:
        case DType::q5_0:
            return {0};
        case DType::q4_1:
        case DType::q5_1:
        case DType::q4_k:
        case DType::q5_k:
            return {0, 2};
        case DType::q2_k:
            return {80, 82};
        case DType::q3_k:
            return {108};
        case DType::q6_k:
            return {208};
        default:
            return {};
    }
}

// A matrix of random bits in any format, its values of about unit size or, every seventh block, tiny or zero.
struct RandomMatrix {
    std::vector<std::byte> bytes;
    MatrixView view;

    RandomMatrix(DType dtype, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
        base::RandomStream random(seed, static_cast<std::uint64_t>(dtype));
        bytes.resize(static_cast<std::size_t>(rows * dtype_bytes(dtype, cols)));
        view = {dtype, rows, cols, bytes.data()};
        if (!is_quantised(dtype)) {
            std::vector<float> values(static_cast<std::size_t>(rows * cols));
            for (float& value : values) value = static_cast<float>(random.normal());
            EXPECT_TRUE(quantise(dtype, values.data(), bytes.data(), rows * cols));
            return;
        }
        for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next_u64());
        const DTypeInfo& info = dtype_info(dtype);
        for (std::int64_t block = 0; block < rows * cols / info.block_elements; ++block) {
            for (const int offset : half_offsets(dtype)) {
                auto value = static_cast<float>(random.normal() * 0.02);
                if (block % 7 == 3) value *= 1e-5F;  // a subnormal f16
                if (block % 7 == 5) value = 0;
                const std::uint16_t half = f32_to_f16(value);
                std::memcpy(bytes.data() + block * info.block_bytes + offset, &half, 2);
            }
        }
    }
};

// Runs of very different size, as activations have: one is a hundred times the others, one is zero.
std::vector<float> random_activations(std::int64_t tokens, std::int64_t cols, std::uint64_t seed) {
    base::RandomStream random(seed, 77);
    std::vector<float> x(static_cast<std::size_t>(tokens * cols));
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t run = i / 32;
        const double size = run % 5 == 1 ? 100.0 : (run % 5 == 3 ? 0.0 : 1.0);
        x[i] = static_cast<float>(random.normal() * size);
    }
    return x;
}

// How far y may be from the exact product. Plain weights: each of cols products and sums rounds once. Packed
// ones: x is off by at most half a step, 1/65024 of its run's largest, or 1/254 of it where 8 bits were asked
// for and the run is not far larger than the others; beyond that, sums of whole numbers are exact, and about
// six roundings a run act on the parts that scale·code and minimum contribute. Where f16 and bf16 weights
// meet bf16 activations, these round once by 2⁻⁸ of themselves, f16 weights too.
double tolerance(const MatrixView& w, std::int64_t row, const float* x) {
    std::vector<float> values(static_cast<std::size_t>(w.cols));
    dequantise(w.dtype, w.row(row), values.data(), w.cols);
    double bound = 0;
    double size = 0;
    double squares = 0;
    for (std::int64_t run = 0; run + 32 <= w.cols; run += 32) {
        double peak = 0;
        for (std::int64_t i = 0; i < 32; ++i)
            peak = std::max(peak, std::abs(static_cast<double>(x[run + i])));
        squares += peak * peak / static_cast<double>(w.cols / 32);
    }
    for (std::int64_t run = 0; run < w.cols; run += 32) {
        const std::int64_t count = std::min<std::int64_t>(32, w.cols - run);
        double peak = 0;
        for (std::int64_t i = 0; i < count; ++i)
            peak = std::max(peak, std::abs(static_cast<double>(x[run + i])));
        CodeRun codes{};
        if (is_quantised(w.dtype)) read_codes(w.dtype, w.row(row), run / 32, codes);
        for (std::int64_t i = 0; i < count; ++i) {
            const double value = values[static_cast<std::size_t>(run + i)];
            if (is_quantised(w.dtype)) {
                const bool narrow = activation_bits() == 8 && peak * peak < 2.0001 * squares;
                bound += std::abs(value) * peak / (narrow ? 254 : 65024) * 1.001;
                size += (std::abs(static_cast<double>(codes.scale[i / 16]) * codes.code[i]) +
                         8 * std::abs(static_cast<double>(codes.scale[i / 16])) +
                         std::abs(static_cast<double>(codes.minimum[i / 16]))) *
                        peak;
            } else {
                size += std::abs(value * x[run + i]);
            }
        }
    }
    const double roundings =
        is_quantised(w.dtype) ? 6 * (static_cast<double>(w.cols) / 32 + 2) : static_cast<double>(w.cols) + 2;
    if (pairs_fit(w)) bound += (w.dtype == DType::f16 ? 2.004 : 1.0) / 256 * size;
    return bound + roundings * epsilon * size + 1e-30;
}

std::vector<float> run(const LinearWeight& weight, const std::vector<float>& x, std::int64_t tokens) {
    std::vector<float> y(static_cast<std::size_t>(tokens * weight.rows()), -1.0F);
    linear({&weight, y.data(), weight.rows()}, x.data(), weight.cols(), tokens);
    return y;
}

void expect_product(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t tokens) {
    const RandomMatrix matrix(dtype, rows, cols, 1);
    const LinearWeight weight(matrix.view);
    const auto x = random_activations(tokens, cols, 2);
    const auto y = run(weight, x, tokens);
    std::vector<float> expected(y.size());
    linear_reference(matrix.view, x.data(), cols, tokens, expected.data(), rows);
    for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t r = 0; r < rows; ++r) {
            const auto at = static_cast<std::size_t>(t * rows + r);
            ASSERT_NEAR(y[at], expected[at], tolerance(matrix.view, r, x.data() + t * cols))
                << dtype_info(dtype).name << ", token " << t << " of " << tokens << ", row " << r;
        }
    }
}

class EveryIsa : public ::testing::TestWithParam<base::Isa> {
  protected:
    void SetUp() override {
        if (GetParam() > base::detected_isa()) GTEST_SKIP() << "not on this machine";
        apply_isa_limit();
        limit_isa(GetParam());
    }
    void TearDown() override {
        limit_isa(base::active_isa());
        set_activation_bits(16);
    }
};

TEST_P(EveryIsa, quantised_products_are_those_of_the_dequantised_matrix) {
    for (const int bits : {16, 8}) {
        set_activation_bits(bits);
        for (const DType dtype : quantised_types) {
            for (const std::int64_t tokens : {1, 2, 3, 7, 21, 40}) expect_product(dtype, 37, 512, tokens);
            expect_product(dtype, 16, 256, 4);
            expect_product(dtype, 1, 256, 1);
        }
    }
}

TEST_P(EveryIsa, plain_products_are_those_of_the_matrix) {
    for (const DType dtype : plain_types) {
        for (const std::int64_t tokens : {1, 2, 3, 7, 40}) expect_product(dtype, 37, 70, tokens);
        expect_product(dtype, 5, 3, 2);
        expect_product(dtype, 300, 2048, 33);  // more than one panel
    }
}

// What 8 bits cost is what the runs that stay narrow do: of activations with a few large dimensions, as
// transformers have, it is near what 16 bits cost, and not 256 times as much.
TEST_P(EveryIsa, eight_bits_leave_large_runs_whole) {
    set_activation_bits(8);
    const RandomMatrix matrix(DType::q8_0, 16, 256, 5);
    const LinearWeight weight(matrix.view);
    for (const std::int64_t tokens : {1, 3, 9, 30}) {
        auto x = random_activations(tokens, 256, 6);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] *= i / 32 % 8 == 3 ? 1000.0F : 0.001F;
        const auto y = run(weight, x, tokens);
        std::vector<float> expected(y.size());
        linear_reference(matrix.view, x.data(), 256, tokens, expected.data(), 16);
        double error = 0;
        double size = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            error += std::pow(static_cast<double>(y[i]) - expected[i], 2);
            size += std::pow(static_cast<double>(expected[i]), 2);
        }
        EXPECT_LT(std::sqrt(error / size), 1e-4) << tokens;
    }
}

TEST_P(EveryIsa, a_token_has_the_same_bits_in_every_batch) {
    for (const int bits : {16, 8}) {
        set_activation_bits(bits);
        constexpr std::int64_t most = 45;
        for (const DType dtype : {DType::q4_1, DType::q8_0, DType::q6_k, DType::q4_0, DType::q4_k,
                                  DType::q5_0, DType::f32, DType::f16, DType::bf16}) {
            const RandomMatrix matrix(dtype, 50, 256, 3);
            const LinearWeight weight(matrix.view);
            const auto x = random_activations(most, 256, 4);
            const std::int64_t last = weight.needs_source() ? linear_exact_tokens : most;
            const auto all = run(weight, std::vector<float>(x.begin(), x.begin() + last * 256), last);
            for (const std::int64_t batch : {1, 2, 3, 5}) {
                for (std::int64_t first = 0; first + batch <= last; ++first) {
                    const std::vector<float> some(x.begin() + first * 256, x.begin() + (first + batch) * 256);
                    const auto y = run(weight, some, batch);
                    ASSERT_EQ(0, std::memcmp(y.data(), all.data() + first * 50, y.size() * sizeof(float)))
                        << dtype_info(dtype).name << ", " << batch << " tokens from " << first;
                }
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Isa, EveryIsa, ::testing::ValuesIn(isas),
                         [](const auto& suite) { return std::string(base::isa_name(suite.param)); });

TEST(Linear, results_do_not_depend_on_the_number_of_threads) {
    const int threads = base::thread_count();
    const RandomMatrix matrix(DType::q4_1, 203, 256, 5);
    const LinearWeight weight(matrix.view);
    const auto x = random_activations(3, 256, 6);
    base::set_thread_count(1);
    const auto one = run(weight, x, 3);
    for (const int count : {2, 3, 5}) {
        base::set_thread_count(count);
        const auto many = run(weight, x, 3);
        EXPECT_EQ(0, std::memcmp(one.data(), many.data(), one.size() * sizeof(float))) << count;
    }
    base::set_thread_count(threads);
}

TEST(Linear, tasks_of_one_group_may_differ_in_format_and_may_add_and_bias) {
    const RandomMatrix a(DType::q4_k, 40, 256, 7);
    const RandomMatrix b(DType::q8_0, 17, 256, 8);
    const RandomMatrix c(DType::f16, 33, 256, 9);
    const LinearWeight weights[] = {LinearWeight(a.view), LinearWeight(b.view), LinearWeight(c.view)};
    const std::int64_t widths[] = {40, 17, 33};
    const std::vector<float> bias(40, 0.5F);
    for (const std::int64_t tokens : {1, 5, 40}) {
        const auto x = random_activations(tokens, 256, 10);
        std::vector<float> y(static_cast<std::size_t>(tokens * 100), 2.0F);
        const LinearTask tasks[] = {{&weights[0], y.data(), 100, bias.data(), false},
                                    {&weights[1], y.data() + 40, 100, nullptr, true},
                                    {&weights[2], y.data() + 57, 100, bias.data(), true}};
        linear(tasks, x.data(), 256, tokens);
        const std::vector<float> alone[] = {run(weights[0], x, tokens), run(weights[1], x, tokens),
                                            run(weights[2], x, tokens)};
        for (std::int64_t t = 0; t < tokens; ++t) {
            std::int64_t column = 0;
            for (std::size_t i = 0; i < 3; ++i) {
                const float added = (tasks[i].add ? 2.0F : 0.0F) + (tasks[i].bias != nullptr ? 0.5F : 0.0F);
                for (std::int64_t r = 0; r < widths[i]; ++r, ++column) {
                    const float value = alone[i][static_cast<std::size_t>(t * widths[i] + r)];
                    // Two more roundings, in an order that a dense product chooses.
                    ASSERT_NEAR(y[static_cast<std::size_t>(t * 100 + column)], value + added,
                                4 * epsilon * (std::abs(value) + 3) + (i == 2 ? 2e-5 * std::abs(value) : 0.0))
                        << i << " " << t << " " << r;
                }
            }
            for (; column < 100; ++column) EXPECT_EQ(y[static_cast<std::size_t>(t * 100 + column)], 2.0F);
        }
    }
}

TEST(Linear, not_a_number_is_not_hidden) {
    const RandomMatrix matrix(DType::q4_1, 16, 64, 11);
    const LinearWeight weight(matrix.view);
    auto x = random_activations(1, 64, 12);
    x[5] = std::numeric_limits<float>::infinity();
    EXPECT_FALSE(std::isfinite(run(weight, x, 1)[0]));
    x[5] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(std::isfinite(run(weight, x, 1)[0]));
}

TEST(LinearCodes, say_what_dequantising_says) {
    for (const DType dtype : quantised_types) {
        const RandomMatrix matrix(dtype, 9, 512, 13);
        std::vector<float> expected(512);
        for (std::int64_t row = 0; row < 9; ++row) {
            dequantise(dtype, matrix.view.row(row), expected.data(), 512);
            for (std::int64_t run_index = 0; run_index < 16; ++run_index) {
                CodeRun codes{};
                read_codes(dtype, matrix.view.row(row), run_index, codes);
                for (int i = 0; i < 32; ++i) {
                    const float value =
                        codes.scale[i / 16] * static_cast<float>(codes.code[i]) + codes.minimum[i / 16];
                    ASSERT_EQ(value, expected[static_cast<std::size_t>(run_index * 32 + i)])
                        << dtype_info(dtype).name << " row " << row << " run " << run_index << " element "
                        << i;
                }
            }
        }
    }
}

TEST(LinearWeight, fetches_the_rows_of_an_embedding_to_the_bit) {
    for (const DType dtype : quantised_types) {
        const RandomMatrix matrix(dtype, 35, 256, 14);
        const LinearWeight weight(matrix.view);
        EXPECT_FALSE(weight.needs_source());
        std::vector<float> expected(256);
        std::vector<float> row(256);
        for (const std::int64_t index : {0, 7, 16, 34}) {
            dequantise(dtype, matrix.view.row(index), expected.data(), 256);
            weight.fetch_row(index, row.data());
            EXPECT_EQ(row, expected) << dtype_info(dtype).name << " row " << index;
        }
    }
}

}  // namespace
}  // namespace retort::tensor
