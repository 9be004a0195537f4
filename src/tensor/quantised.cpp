#include "tensor/quantised.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "tensor/quantised_blocks.h"

namespace retort::tensor {

namespace {

std::uint16_t load_u16(const std::byte* from) {
    std::uint16_t value = 0;
    std::memcpy(&value, from, sizeof value);
    return value;
}

void store_u16(std::uint16_t value, std::byte* to) {
    std::memcpy(to, &value, sizeof value);
}

constexpr float largest_f16 = 65504.0F;

// A value that rounds to infinity would make a model that loads and speaks nonsense: an error instead.
Status check_f16(float value) {
    if (std::isfinite(value) && std::isinf(f16_to_f32(f32_to_f16(value)))) {
        return fail(ErrorCode::unsupported,
                    "the value {} is beyond f16's largest, {}; write f32 or bf16 instead", value,
                    largest_f16);
    }
    return {};
}

Status quantise_f16(const float* from, std::byte* to, std::int64_t elements) {
    for (std::int64_t i = 0; i < elements; ++i) {
        RETORT_CHECK(check_f16(from[i]));
        store_u16(f32_to_f16(from[i]), to + 2 * i);
    }
    return {};
}

Status check_finite(const float* block) {
    for (int i = 0; i < 32; ++i) {
        if (!std::isfinite(block[i]))
            return fail(ErrorCode::invalid_argument, "a value is {}: block formats hold finite numbers only",
                        block[i]);
    }
    return {};
}

// Half away from zero, as the format's own writers round. |x| < 2^31.
int round_half_away(float x) {
    const float magnitude = std::fabs(x);
    int whole = static_cast<int>(magnitude);
    if (magnitude - static_cast<float>(whole) >= 0.5F) ++whole;
    return x < 0 ? -whole : whole;
}

int clamp_nibble(float x) {
    return x <= 0.0F ? 0 : (x >= 15.0F ? 15 : static_cast<int>(x));
}

// d is chosen so that ±amax maps to ±127; the quotients use d before its rounding to f16.
Status quantise_q8_0(const float* x, std::byte* to) {
    float largest = 0.0F;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float d = largest / 127.0F;
    RETORT_CHECK(check_f16(d));
    const float inverse = d == 0.0F ? 0.0F : 1.0F / d;
    store_u16(f32_to_f16(d), to);
    for (int i = 0; i < 32; ++i) {
        // 1/d overflows when d is subnormal; the product is then infinite and the block as good as zero.
        const float scaled = x[i] * inverse;
        const int q = std::isfinite(scaled) ? round_half_away(scaled) : 0;
        to[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(q));
    }
    return {};
}

void store_nibbles(const int* q, std::byte* to) {
    for (int i = 0; i < 16; ++i) to[i] = static_cast<std::byte>(q[i] | (q[i + 16] << 4));
}

// The element of largest magnitude maps to code 0, that is -8·d: the sign of d is the opposite of its sign.
Status quantise_q4_0(const float* x, std::byte* to) {
    float extreme = x[0];
    for (int i = 1; i < 32; ++i) {
        if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
    }
    const float d = extreme / -8.0F;
    RETORT_CHECK(check_f16(d));
    const float inverse = d == 0.0F ? 0.0F : 1.0F / d;
    store_u16(f32_to_f16(d), to);
    int q[32];
    for (int i = 0; i < 32; ++i) {
        const float scaled = x[i] * inverse;
        q[i] = std::isfinite(scaled) ? clamp_nibble(scaled + 8.5F) : 8;
    }
    store_nibbles(q, to + 2);
    return {};
}

Status quantise_q4_1(const float* x, std::byte* to) {
    float smallest = x[0];
    float largest = x[0];
    for (int i = 1; i < 32; ++i) {
        smallest = std::min(smallest, x[i]);
        largest = std::max(largest, x[i]);
    }
    const float d = (largest - smallest) / 15.0F;
    RETORT_CHECK(check_f16(d));
    RETORT_CHECK(check_f16(smallest));
    if (!std::isfinite(d)) return fail(ErrorCode::unsupported, "the range of a block is beyond f16");
    const float inverse = d == 0.0F ? 0.0F : 1.0F / d;
    store_u16(f32_to_f16(d), to);
    store_u16(f32_to_f16(smallest), to + 2);
    int q[32];
    for (int i = 0; i < 32; ++i) {
        const float scaled = (x[i] - smallest) * inverse;
        q[i] = std::isfinite(scaled) ? clamp_nibble(scaled + 0.5F) : 0;
    }
    store_nibbles(q, to + 4);
    return {};
}

template <typename QuantiseBlock>
Status quantise_blocks(const float* from, std::byte* to, std::int64_t elements, std::int64_t block_bytes,
                       QuantiseBlock quantise_block) {
    for (std::int64_t i = 0; i < elements; i += 32, to += block_bytes) {
        RETORT_CHECK(check_finite(from + i));
        RETORT_CHECK(quantise_block(from + i, to));
    }
    return {};
}

}  // namespace

float f16_to_f32(std::uint16_t value) {
    const std::uint32_t sign = (value & 0x8000U) << 16U;
    const std::uint32_t rest = value & 0x7fffU;
    if (rest < 0x0400U) {  // zero or subnormal: rest · 2^-24, exact
        return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(rest) * 0x1p-24F));
    }
    const std::uint32_t rebias =
        rest >= 0x7c00U ? 0x70000000U : 0x38000000U;  // 224 or 112, in the exponent's place
    return std::bit_cast<float>(sign | ((rest << 13U) + rebias));
}

std::uint16_t f32_to_f16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 16U) & 0x8000U);
    const std::uint32_t magnitude = bits & 0x7fffffffU;
    if (magnitude > 0x7f800000U) {
        return static_cast<std::uint16_t>(sign | 0x7e00U | ((magnitude >> 13U) & 0x3ffU));
    }
    if (magnitude >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);  // 65520 and above
    if (magnitude < 0x38800000U) {  // below 2^-14: the result is subnormal, units of 2^-24
        // Adding 0.5 puts the unit of 2^-24 at the last place of the float, so the addition does the
        // rounding.
        const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
        return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000U));
    }
    const std::uint32_t odd = (magnitude >> 13U) & 1U;
    return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000U + 0xfffU + odd) >> 13U));
}

float bf16_to_f32(std::uint16_t value) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16U);
}

std::uint16_t f32_to_bf16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16U) | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16U) & 1U)) >> 16U);
}

void dequantise(DType dtype, const std::byte* from, float* to, std::int64_t elements) {
    switch (dtype) {
        case DType::f32:
            std::memcpy(to, from, static_cast<std::size_t>(elements) * sizeof(float));
            return;
        case DType::f16:
            for (std::int64_t i = 0; i < elements; ++i) to[i] = f16_to_f32(load_u16(from + 2 * i));
            return;
        case DType::bf16:
            for (std::int64_t i = 0; i < elements; ++i) to[i] = bf16_to_f32(load_u16(from + 2 * i));
            return;
        default:
            break;
    }
    const DTypeInfo& info = dtype_info(dtype);
    const auto unpack = block_unpacker(dtype);
    for (std::int64_t i = 0; i < elements; i += info.block_elements, from += info.block_bytes) {
        unpack(from, to + i);
    }
}

Status quantise(DType dtype, const float* from, std::byte* to, std::int64_t elements) {
    switch (dtype) {
        case DType::f32:
            std::memcpy(to, from, static_cast<std::size_t>(elements) * sizeof(float));
            return {};
        case DType::f16:
            return quantise_f16(from, to, elements);
        case DType::bf16:
            for (std::int64_t i = 0; i < elements; ++i) store_u16(f32_to_bf16(from[i]), to + 2 * i);
            return {};
        case DType::q8_0:
            return quantise_blocks(from, to, elements, 34, quantise_q8_0);
        case DType::q4_0:
            return quantise_blocks(from, to, elements, 18, quantise_q4_0);
        case DType::q4_1:
            return quantise_blocks(from, to, elements, 20, quantise_q4_1);
        default:
            return fail(ErrorCode::unsupported,
                        "{} is read but not written; choose f32, f16, bf16, q8_0, q4_0 or q4_1",
                        dtype_info(dtype).name);
    }
}

}  // namespace retort::tensor
