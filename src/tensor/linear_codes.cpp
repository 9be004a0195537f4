#include "tensor/linear_codes.h"

#include <cassert>
#include <cstring>

#include "tensor/quantised.h"

namespace retort::tensor {

namespace {

float half_at(const std::uint8_t* block, int offset) {
    std::uint16_t value = 0;
    std::memcpy(&value, block + offset, sizeof value);
    return f16_to_f32(value);
}

void set_both(CodeRun& run, float scale, float minimum) {
    run.scale[0] = run.scale[1] = scale;
    run.minimum[0] = run.minimum[1] = minimum;
}

void read_nibbles(const std::uint8_t* packed, int offset, CodeRun& run) {
    for (int i = 0; i < 16; ++i) {
        run.code[i] = static_cast<std::int8_t>((packed[i] & 15) + offset);
        run.code[i + 16] = static_cast<std::int8_t>((packed[i] >> 4) + offset);
    }
}

void add_fifth_bits(const std::uint8_t* bits, CodeRun& run) {
    for (int i = 0; i < 32; ++i) {
        run.code[i] = static_cast<std::int8_t>(run.code[i] + (((bits[i / 8] >> (i % 8)) & 1) << 4));
    }
}

// The eight pairs of 6 bits in the 12 bytes that q4_k and q5_k share.
void read_k_scales(const std::uint8_t* block, int group, CodeRun& run) {
    const std::uint8_t* packed = block + 4;
    int scale = packed[group % 4] & 63;
    int minimum = packed[group % 4 + 4] & 63;
    if (group >= 4) {
        scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6 << 4);
        minimum = (packed[group + 4] >> 4) | (packed[group] >> 6 << 4);
    }
    run.factor = half_at(block, 0);
    run.minimum_factor = half_at(block, 2);
    run.raw_scale[0] = run.raw_scale[1] = static_cast<std::int8_t>(scale);
    run.raw_minimum = static_cast<std::int8_t>(minimum);
    set_both(run, run.factor * static_cast<float>(scale),
             -(run.minimum_factor * static_cast<float>(minimum)));
}

void read_q2_k(const std::uint8_t* block, int group, CodeRun& run) {
    const std::uint8_t* codes = block + 16 + 32 * (group / 4);
    for (int i = 0; i < 32; ++i) run.code[i] = static_cast<std::int8_t>((codes[i] >> (2 * (group % 4))) & 3);
    for (int h = 0; h < 2; ++h) {
        const int packed = block[2 * group + h];
        run.scale[h] = half_at(block, 80) * static_cast<float>(packed & 15);
        run.minimum[h] = -(half_at(block, 82) * static_cast<float>(packed >> 4));
    }
}

void read_q3_k(const std::uint8_t* block, int group, CodeRun& run) {
    const std::uint8_t* codes = block + 32 + 32 * (group / 4);
    for (int i = 0; i < 32; ++i) {
        const int low = (codes[i] >> (2 * (group % 4))) & 3;
        const int set = (block[i] >> group) & 1;
        run.code[i] = static_cast<std::int8_t>(low - 4 * (1 - set));
    }
    const std::uint8_t* packed = block + 96;
    for (int h = 0; h < 2; ++h) {
        const int index = 2 * group + h;
        const int low = (packed[index % 8] >> (index < 8 ? 0 : 4)) & 15;
        const int high = (packed[8 + index % 4] >> (2 * (index / 4))) & 3;
        run.scale[h] = half_at(block, 108) * static_cast<float>((low | (high << 4)) - 32);
        run.minimum[h] = 0.0F;
    }
}

void read_q4_k(const std::uint8_t* block, int group, CodeRun& run) {
    const std::uint8_t* codes = block + 16 + 32 * (group / 2);
    for (int i = 0; i < 32; ++i) run.code[i] = static_cast<std::int8_t>((codes[i] >> (4 * (group % 2))) & 15);
    read_k_scales(block, group, run);
}

void read_q5_k(const std::uint8_t* block, int group, CodeRun& run) {
    const std::uint8_t* codes = block + 48 + 32 * (group / 2);
    for (int i = 0; i < 32; ++i) {
        const int low = (codes[i] >> (4 * (group % 2))) & 15;
        run.code[i] = static_cast<std::int8_t>(low | (((block[16 + i] >> group) & 1) << 4));
    }
    read_k_scales(block, group, run);
}

void read_q6_k(const std::uint8_t* block, int group, CodeRun& run) {
    const int lane = group % 4;  // which 32 of the half's 128
    const std::uint8_t* low = block + 64 * (group / 4) + 32 * (lane % 2);
    const std::uint8_t* high = block + 128 + 32 * (group / 4);
    for (int i = 0; i < 32; ++i) {
        const int code = ((low[i] >> (4 * (lane / 2))) & 15) | (((high[i] >> (2 * lane)) & 3) << 4);
        run.code[i] = static_cast<std::int8_t>(code - 32);
    }
    run.factor = half_at(block, 208);
    for (int h = 0; h < 2; ++h) {
        run.raw_scale[h] = static_cast<std::int8_t>(block[192 + 2 * group + h]);
        run.scale[h] = run.factor * static_cast<float>(run.raw_scale[h]);
        run.minimum[h] = 0.0F;
    }
}

}  // namespace

void read_codes(DType dtype, const std::byte* row, std::int64_t index, CodeRun& run) {
    const DTypeInfo& info = dtype_info(dtype);
    const std::int64_t runs = info.block_elements / 32;
    const auto* block = reinterpret_cast<const std::uint8_t*>(row) + index / runs * info.block_bytes;
    const auto group = static_cast<int>(index % runs);
    switch (dtype) {
        case DType::q8_0:
            std::memcpy(run.code, block + 2, 32);
            return set_both(run, half_at(block, 0), 0.0F);
        case DType::q4_0:
            read_nibbles(block + 2, -8, run);
            return set_both(run, half_at(block, 0), 0.0F);
        case DType::q4_1:
            read_nibbles(block + 4, 0, run);
            return set_both(run, half_at(block, 0), half_at(block, 2));
        case DType::q5_0:
            read_nibbles(block + 6, -16, run);
            add_fifth_bits(block + 2, run);
            return set_both(run, half_at(block, 0), 0.0F);
        case DType::q5_1:
            read_nibbles(block + 8, 0, run);
            add_fifth_bits(block + 4, run);
            return set_both(run, half_at(block, 0), half_at(block, 2));
        case DType::q2_k:
            return read_q2_k(block, group, run);
        case DType::q3_k:
            return read_q3_k(block, group, run);
        case DType::q4_k:
            return read_q4_k(block, group, run);
        case DType::q5_k:
            return read_q5_k(block, group, run);
        case DType::q6_k:
            return read_q6_k(block, group, run);
        case DType::f32:
        case DType::f16:
        case DType::bf16:
            break;
    }
    assert(false && "a plain format has no codes");
}

}  // namespace retort::tensor
