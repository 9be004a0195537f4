#include "tensor/linear_packed.h"

#include <algorithm>
#include <cstring>

#include "tensor/linear_codes.h"
#include "tensor/quantised.h"
#include "tensor/team.h"

namespace retort::tensor {

namespace {

// Where the code of column `i` of a run lies: the byte within the run for row `row` of the group, and the
// shift.
struct CodePlace {
    std::int64_t byte;
    int shift;
};

CodePlace place_of(const PackedFormat& format, int row, int i) {
    const int per_half = 16 / format.bits;
    const int pair = i / 2;
    const int bit = 16 * (i % 2) + pair % per_half * format.bits;
    return {pair / per_half * 64 + row * 4 + bit / 8, bit % 8};
}

void write_scale(const PackedFormat& format, float value, std::uint8_t* base, std::int64_t index) {
    if (format.wide_scales) {
        std::memcpy(base + 4 * index, &value, 4);
    } else {
        const std::uint16_t half = f32_to_f16(value);  // exact: it was read from f16
        std::memcpy(base + 2 * index, &half, 2);
    }
}

float read_scale(const PackedFormat& format, const std::uint8_t* base, std::int64_t index) {
    if (format.wide_scales) {
        float value = 0;
        std::memcpy(&value, base + 4 * index, 4);
        return value;
    }
    std::uint16_t half = 0;
    std::memcpy(&half, base + 2 * index, 2);
    return f16_to_f32(half);
}

// Eight 4-bit codes, one a byte, as the 32 bits of a line: even columns in the low half, odd ones in the
// high.
std::uint32_t line_of_nibbles(std::uint64_t bytes) {
    const auto gather = [](std::uint64_t v) {  // bytes 0, 2, 4, 6 to nibbles 0 … 3
        v &= 0x000f000f000f000fULL;
        v = (v | v >> 12U) & 0x000000ff000000ffULL;
        return static_cast<std::uint32_t>((v | v >> 24U) & 0xffffU);
    };
    return gather(bytes) | gather(bytes >> 8U) << 16U;
}

// Four 8-bit codes: columns 0, 2, 1, 3.
std::uint32_t line_of_bytes(std::uint32_t bytes) {
    return (bytes & 0xff0000ffU) | (bytes & 0x0000ff00U) << 8U | (bytes & 0x00ff0000U) >> 8U;
}

void pack_run(const PackedFormat& format, const CodeRun& codes, int row, std::uint8_t* run) {
    std::uint8_t* lines = run + row * 4;
    if (format.bits == 4) {
        // In four bits, code + 8 is code with its sign bit flipped.
        const std::uint64_t flip = format.excess_eight ? 0x0808080808080808ULL : 0;
        for (int line = 0; line < 4; ++line) {
            std::uint64_t bytes = 0;
            std::memcpy(&bytes, codes.code + 8 * line, 8);
            const std::uint32_t word = line_of_nibbles((bytes & 0x0f0f0f0f0f0f0f0fULL) ^ flip);
            std::memcpy(lines + line * 64, &word, 4);
        }
    } else {
        for (int line = 0; line < 8; ++line) {
            std::uint32_t bytes = 0;
            std::memcpy(&bytes, codes.code + 4 * line, 4);
            const std::uint32_t word = line_of_bytes(bytes);
            std::memcpy(lines + line * 64, &word, 4);
        }
    }
    std::uint8_t* scales = run + format.code_bytes();
    std::uint8_t* minimums = scales + format.scale_bytes();
    for (int b = 0; b < 32 / format.block; ++b) {
        write_scale(format, codes.scale[b], scales, b * packed_rows + row);
        if (format.has_minimum) write_scale(format, codes.minimum[b], minimums, b * packed_rows + row);
    }
}

}  // namespace

PackedFormat packed_format(DType dtype) {
    switch (dtype) {
        case DType::q4_0:
            return {.bits = 4, .excess_eight = true};
        case DType::q4_1:
            return {.bits = 4, .has_minimum = true};
        case DType::q5_1:
            return {.has_minimum = true};
        case DType::q2_k:
            return {.bits = 4, .block = 16, .wide_scales = true, .has_minimum = true};
        case DType::q3_k:
            return {.bits = 4, .block = 16, .wide_scales = true, .excess_eight = true};
        case DType::q4_k:
            return {.bits = 4, .wide_scales = true, .has_minimum = true};
        case DType::q5_k:
            return {.wide_scales = true, .has_minimum = true};
        case DType::q6_k:
            return {.block = 16, .wide_scales = true};
        default:
            return {};
    }
}

PackedMatrix pack_matrix(const MatrixView& matrix) {
    PackedMatrix packed;
    packed.format = packed_format(matrix.dtype);
    packed.rows = matrix.rows;
    packed.cols = matrix.cols;
    packed.data = Buffer<std::uint8_t>(packed.groups() * packed.group_bytes());
    team_each(packed.groups(), [&](std::int64_t group_index) {
        CodeRun codes{};
        const std::int64_t first = group_index * packed_rows;
        for (std::int64_t row = first; row < std::min(first + packed_rows, matrix.rows); ++row) {
            std::uint8_t* group = packed.data.data() + row / packed_rows * packed.group_bytes();
            for (std::int64_t run = 0; run < matrix.cols / 32; ++run) {
                read_codes(matrix.dtype, matrix.row(row), run, codes);
                pack_run(packed.format, codes, static_cast<int>(row % packed_rows),
                         group + run * packed.format.run_bytes());
            }
        }
    });
    return packed;
}

void unpack_row(const PackedMatrix& matrix, std::int64_t row, float* to) {
    const PackedFormat& format = matrix.format;
    const auto lane = static_cast<int>(row % packed_rows);
    const std::uint8_t* run = matrix.data.data() + row / packed_rows * matrix.group_bytes();
    for (std::int64_t r = 0; r < matrix.cols / 32; ++r, run += format.run_bytes(), to += 32) {
        const std::uint8_t* scales = run + format.code_bytes();
        for (int i = 0; i < 32; ++i) {
            const CodePlace place = place_of(format, lane, i);
            const std::uint8_t byte = run[place.byte];
            const int nibble = ((byte >> place.shift) & 15) - (format.excess_eight ? 8 : 0);
            const int code = format.bits == 4 ? nibble : byte - (byte >= 128 ? 256 : 0);
            const std::int64_t index = i / format.block * packed_rows + lane;
            to[i] = read_scale(format, scales, index) * static_cast<float>(code);
            if (format.has_minimum) to[i] += read_scale(format, scales + format.scale_bytes(), index);
        }
    }
}

void PackedActivations::reserve(std::int64_t new_tokens, std::int64_t new_cols) {
    tokens = new_tokens;
    cols = new_cols;
    const auto count = static_cast<std::size_t>(tokens * cols);
    codes.resize(count);
    scales.resize(count / 32);
    sums32.resize(count / 32);
    values32.resize(count / 32);
    sums16.resize(count / 16);
    values16.resize(count / 16);
}

}  // namespace retort::tensor
