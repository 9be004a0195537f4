#include "tensor/quantised_blocks.h"

#include <cstdint>
#include <cstring>

#include "tensor/quantised.h"

namespace retort::tensor {

namespace {

float half_at(const std::byte* block, int offset) {
    std::uint16_t value = 0;
    std::memcpy(&value, block + offset, sizeof value);
    return f16_to_f32(value);
}

std::uint32_t u32_at(const std::byte* block, int offset) {
    std::uint32_t value = 0;
    std::memcpy(&value, block + offset, sizeof value);
    return value;
}

int byte_at(const std::byte* block, int offset) {
    return static_cast<int>(block[offset]);
}

// Every formula multiplies scale by code first and adds the offset last, in f32: the results are bit-equal to
// the reference's.

void unpack_q8_0(const std::byte* block, float* to) {
    const float d = half_at(block, 0);
    for (int i = 0; i < 32; ++i) to[i] = static_cast<float>(static_cast<std::int8_t>(block[2 + i])) * d;
}

void unpack_q4_0(const std::byte* block, float* to) {
    const float d = half_at(block, 0);
    for (int i = 0; i < 16; ++i) {
        const int pair = byte_at(block, 2 + i);
        to[i] = d * static_cast<float>((pair & 15) - 8);
        to[i + 16] = d * static_cast<float>((pair >> 4) - 8);
    }
}

void unpack_q4_1(const std::byte* block, float* to) {
    const float d = half_at(block, 0);
    const float m = half_at(block, 2);
    for (int i = 0; i < 16; ++i) {
        const int pair = byte_at(block, 4 + i);
        to[i] = d * static_cast<float>(pair & 15) + m;
        to[i + 16] = d * static_cast<float>(pair >> 4) + m;
    }
}

void unpack_q5_0(const std::byte* block, float* to) {
    const float d = half_at(block, 0);
    const std::uint32_t high = u32_at(block, 2);
    for (int i = 0; i < 16; ++i) {
        const int pair = byte_at(block, 6 + i);
        const int low_code = (pair & 15) | static_cast<int>(((high >> i) & 1U) << 4U);
        const int high_code = (pair >> 4) | static_cast<int>(((high >> (i + 16)) & 1U) << 4U);
        to[i] = d * static_cast<float>(low_code - 16);
        to[i + 16] = d * static_cast<float>(high_code - 16);
    }
}

void unpack_q5_1(const std::byte* block, float* to) {
    const float d = half_at(block, 0);
    const float m = half_at(block, 2);
    const std::uint32_t high = u32_at(block, 4);
    for (int i = 0; i < 16; ++i) {
        const int pair = byte_at(block, 8 + i);
        const int low_code = (pair & 15) | static_cast<int>(((high >> i) & 1U) << 4U);
        const int high_code = (pair >> 4) | static_cast<int>(((high >> (i + 16)) & 1U) << 4U);
        to[i] = d * static_cast<float>(low_code) + m;
        to[i + 16] = d * static_cast<float>(high_code) + m;
    }
}

// scales[16] (scale in the low nibble, minimum in the high), qs[64], d, dmin.
void unpack_q2_k(const std::byte* block, float* to) {
    const float d = half_at(block, 80);
    const float dmin = half_at(block, 82);
    for (int group = 0; group < 16; ++group) {  // 16 elements each
        const int half = group / 8;
        const int shift = 2 * (group % 8 / 2);
        const int scales = byte_at(block, group);
        const float scale = d * static_cast<float>(scales & 15);
        const float minimum = dmin * static_cast<float>(scales >> 4);
        const std::byte* codes = block + 16 + 32 * half + 16 * (group % 2);
        for (int i = 0; i < 16; ++i) {
            to[16 * group + i] = scale * static_cast<float>((byte_at(codes, i) >> shift) & 3) - minimum;
        }
    }
}

// hmask[32], qs[64], scales[12] (sixteen of 6 bits: the low 4 in the first 8 bytes, the high 2 in the last
// 4), d.
void unpack_q3_k(const std::byte* block, float* to) {
    const float d = half_at(block, 108);
    const std::byte* packed_scales = block + 96;
    for (int group = 0; group < 16; ++group) {
        const int low_bits = (byte_at(packed_scales, group % 8) >> (group < 8 ? 0 : 4)) & 15;
        const int high_bits = (byte_at(packed_scales, 8 + group % 4) >> (2 * (group / 4))) & 3;
        const float scale = d * static_cast<float>((low_bits | (high_bits << 4)) - 32);
        const int shift = 2 * (group % 8 / 2);
        const std::byte* codes = block + 32 + 32 * (group / 8) + 16 * (group % 2);
        const std::byte* mask = block + 16 * (group % 2);
        for (int i = 0; i < 16; ++i) {
            const int low = (byte_at(codes, i) >> shift) & 3;
            const int set = (byte_at(mask, i) >> (group / 2)) & 1;  // a set bit means: nothing to subtract
            to[16 * group + i] = scale * static_cast<float>(low - 4 * (1 - set));
        }
    }
}

struct ScaleAndMinimum {
    int scale;
    int minimum;
};

// The eight pairs of 6 bits in the 12 bytes that q4_k and q5_k share.
ScaleAndMinimum scale_and_minimum(const std::byte* packed, int index) {
    if (index < 4) return {byte_at(packed, index) & 63, byte_at(packed, index + 4) & 63};
    const int low = byte_at(packed, index + 4);
    return {(low & 15) | (byte_at(packed, index - 4) >> 6 << 4),
            (low >> 4) | (byte_at(packed, index) >> 6 << 4)};
}

// d, dmin, scales[12], qs[128].
void unpack_q4_k(const std::byte* block, float* to) {
    const float d = half_at(block, 0);
    const float dmin = half_at(block, 2);
    for (int group = 0; group < 8; ++group) {  // 32 elements each
        const ScaleAndMinimum pair = scale_and_minimum(block + 4, group);
        const float scale = d * static_cast<float>(pair.scale);
        const float minimum = dmin * static_cast<float>(pair.minimum);
        const std::byte* codes = block + 16 + 32 * (group / 2);
        const int shift = 4 * (group % 2);
        for (int i = 0; i < 32; ++i) {
            to[32 * group + i] = scale * static_cast<float>((byte_at(codes, i) >> shift) & 15) - minimum;
        }
    }
}

// d, dmin, scales[12], qh[32] (bit `group` of byte i is the fifth bit), qs[128].
void unpack_q5_k(const std::byte* block, float* to) {
    const float d = half_at(block, 0);
    const float dmin = half_at(block, 2);
    for (int group = 0; group < 8; ++group) {
        const ScaleAndMinimum pair = scale_and_minimum(block + 4, group);
        const float scale = d * static_cast<float>(pair.scale);
        const float minimum = dmin * static_cast<float>(pair.minimum);
        const std::byte* codes = block + 48 + 32 * (group / 2);
        const int shift = 4 * (group % 2);
        for (int i = 0; i < 32; ++i) {
            const int code =
                ((byte_at(codes, i) >> shift) & 15) | (((byte_at(block, 16 + i) >> group) & 1) << 4);
            to[32 * group + i] = scale * static_cast<float>(code) - minimum;
        }
    }
}

// ql[128], qh[64], scales[16] signed, d.
void unpack_q6_k(const std::byte* block, float* to) {
    const float d = half_at(block, 208);
    for (int group = 0; group < 16; ++group) {
        const float scale = d * static_cast<float>(static_cast<std::int8_t>(block[192 + group]));
        const int half = group / 8;
        const int lane = group % 8 / 2;  // which 32 of the half's 128
        const std::byte* low = block + 64 * half + 32 * (lane % 2) + 16 * (group % 2);
        const std::byte* high = block + 128 + 32 * half + 16 * (group % 2);
        const int low_shift = 4 * (lane / 2);
        for (int i = 0; i < 16; ++i) {
            const int code =
                ((byte_at(low, i) >> low_shift) & 15) | (((byte_at(high, i) >> (2 * lane)) & 3) << 4);
            to[16 * group + i] = scale * static_cast<float>(code - 32);
        }
    }
}

}  // namespace

BlockUnpacker block_unpacker(DType dtype) {
    switch (dtype) {
        case DType::f32:
        case DType::f16:
        case DType::bf16:
            return nullptr;
        case DType::q8_0:
            return unpack_q8_0;
        case DType::q4_0:
            return unpack_q4_0;
        case DType::q4_1:
            return unpack_q4_1;
        case DType::q5_0:
            return unpack_q5_0;
        case DType::q5_1:
            return unpack_q5_1;
        case DType::q2_k:
            return unpack_q2_k;
        case DType::q3_k:
            return unpack_q3_k;
        case DType::q4_k:
            return unpack_q4_k;
        case DType::q5_k:
            return unpack_q5_k;
        case DType::q6_k:
            return unpack_q6_k;
    }
    return nullptr;
}

}  // namespace retort::tensor
