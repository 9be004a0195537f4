#include "tensor/quantised.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

namespace retort::tensor {
namespace {

std::vector<std::byte> golden(const std::string& name) {
    std::ifstream in(std::string(RETORT_TEST_DATA "/tensor/quantised/") + name, std::ios::binary);
    EXPECT_TRUE(in.good()) << name;
    std::vector<std::byte> bytes;
    for (std::istreambuf_iterator<char> c(in), end; c != end; ++c)
        bytes.push_back(static_cast<std::byte>(*c));
    return bytes;
}

std::vector<float> golden_floats(const std::string& name) {
    const auto bytes = golden(name);
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
}

class Unpacking : public testing::TestWithParam<DType> {};

TEST_P(Unpacking, IsBitEqualToTheReference) {
    const std::string name(dtype_info(GetParam()).name);
    const auto blocks = golden(name + ".blocks");
    const auto expected = golden_floats(name + ".f32");
    const auto elements = static_cast<std::int64_t>(expected.size());
    ASSERT_EQ(static_cast<std::int64_t>(blocks.size()), dtype_bytes(GetParam(), elements));
    std::vector<float> got(expected.size());
    dequantise(GetParam(), blocks.data(), got.data(), elements);
    for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(expected[i]))
            << name << " element " << i << ": " << got[i] << " for " << expected[i];
    }
}

INSTANTIATE_TEST_SUITE_P(EveryBlockFormat, Unpacking,
                         testing::Values(DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                                         DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k),
                         [](const auto& test) { return std::string(dtype_info(test.param).name); });

class Packing : public testing::TestWithParam<DType> {};

TEST_P(Packing, IsByteEqualToTheReference) {
    const std::string name(dtype_info(GetParam()).name);
    const auto values = golden_floats("values.f32");
    const auto expected = golden("values." + name);
    std::vector<std::byte> got(expected.size());
    ASSERT_TRUE(quantise(GetParam(), values.data(), got.data(), static_cast<std::int64_t>(values.size())));
    EXPECT_EQ(got, expected);
}

INSTANTIATE_TEST_SUITE_P(EveryWrittenFormat, Packing,
                         testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0,
                                         DType::q4_1),
                         [](const auto& test) { return std::string(dtype_info(test.param).name); });

TEST(Quantised, ErrorIsWithinHalfACode) {
    const auto values = golden_floats("values.f32");
    struct Case {
        DType dtype;
        float codes;  // the range of a block divided by its step
    };
    for (const Case& test : {Case{DType::q8_0, 254.0F}, Case{DType::q4_1, 15.0F}}) {
        std::vector<std::byte> packed(
            static_cast<std::size_t>(dtype_bytes(test.dtype, static_cast<std::int64_t>(values.size()))));
        std::vector<float> unpacked(values.size());
        ASSERT_TRUE(
            quantise(test.dtype, values.data(), packed.data(), static_cast<std::int64_t>(values.size())));
        dequantise(test.dtype, packed.data(), unpacked.data(), static_cast<std::int64_t>(values.size()));
        for (std::size_t block = 0; block < values.size(); block += 32) {
            float largest = 0.0F;
            for (std::size_t i = block; i < block + 32; ++i)
                largest = std::max(largest, std::fabs(values[i]));
            // Half a step of a range of twice `largest`, and scale and minimum rounded to halves: relative
            // 2^-11 each, absolute 2^-25 where they are subnormal, times the largest code.
            const float bound = largest / test.codes + 3.0F * largest * 0x1p-11F + 128.0F * 0x1p-25F;
            for (std::size_t i = block; i < block + 32; ++i)
                EXPECT_LE(std::fabs(unpacked[i] - values[i]), bound);
        }
    }
}

TEST(Quantised, RefusesWhatItCannotHold) {
    std::vector<float> values(32, 1.0F);
    std::vector<std::byte> packed(128);
    values[5] = std::numeric_limits<float>::infinity();
    EXPECT_FALSE(quantise(DType::q8_0, values.data(), packed.data(), 32));
    values[5] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(quantise(DType::q4_0, values.data(), packed.data(), 32));
    values[5] = 1e30F;  // finite, but the scale is no half
    EXPECT_FALSE(quantise(DType::q4_1, values.data(), packed.data(), 32));
    EXPECT_FALSE(quantise(DType::f16, values.data(), packed.data(), 32));
    EXPECT_TRUE(quantise(DType::bf16, values.data(), packed.data(), 32));
    const auto status = quantise(DType::q6_k, values.data(), packed.data(), 256);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::unsupported);
    EXPECT_NE(status.error().message.find("q6_k"), std::string::npos);
}

TEST(Quantised, TinyBlocksDoNotOverflow) {  // 1/d is infinite for a subnormal d
    const std::vector<float> values(32, 1e-44F);
    std::vector<std::byte> packed(34);
    std::vector<float> unpacked(32);
    for (const DType dtype : {DType::q8_0, DType::q4_0, DType::q4_1}) {
        ASSERT_TRUE(quantise(dtype, values.data(), packed.data(), 32));
        dequantise(dtype, packed.data(), unpacked.data(), 32);
        for (const float value : unpacked) EXPECT_LT(std::fabs(value), 1e-6F);
    }
}

TEST(Half, EveryValueSurvivesTheWayThereAndBack) {
    for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
        const auto half = static_cast<std::uint16_t>(bits);
        const float value = f16_to_f32(half);
        if (std::isnan(value)) {
            EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value))));
        } else {
            ASSERT_EQ(f32_to_f16(value), half) << value;
        }
    }
    EXPECT_EQ(f16_to_f32(0x0001), 0x1p-24F);
    EXPECT_EQ(f16_to_f32(0x7bff), 65504.0F);
    EXPECT_EQ(f16_to_f32(0xfc00), -std::numeric_limits<float>::infinity());
}

TEST(Half, RoundsToNearestEven) {
    EXPECT_EQ(f32_to_f16(1.0F + 0x1p-11F), 0x3c00);             // a tie, down to even
    EXPECT_EQ(f32_to_f16(1.0F + 3 * 0x1p-11F), 0x3c02);         // a tie, up to even
    EXPECT_EQ(f32_to_f16(1.0F + 0x1p-11F + 0x1p-20F), 0x3c01);  // above the tie
    EXPECT_EQ(f32_to_f16(65519.0F), 0x7bff);
    EXPECT_EQ(f32_to_f16(65520.0F), 0x7c00);
    EXPECT_EQ(f32_to_f16(0x1p-25F), 0x0000);  // a tie between 0 and the least
    EXPECT_EQ(f32_to_f16(0x1.8p-25F), 0x0001);
    EXPECT_EQ(f32_to_bf16(1.0F + 0x1p-8F), 0x3f80);
    EXPECT_EQ(f32_to_bf16(1.0F + 3 * 0x1p-8F), 0x3f82);
    EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001U)))));
}

}  // namespace
}  // namespace retort::tensor
