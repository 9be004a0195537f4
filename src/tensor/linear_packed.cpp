#include "tensor/linear_packed.h"

#include <algorithm>
#include <cstring>

#include "tensor/linear_codes.h"
#include "tensor/quantised.h"
#include "tensor/team.h"

namespace retort::tensor {

namespace {

void write_half(float value, std::uint8_t* base, std::int64_t index) {
    const std::uint16_t half = f32_to_f16(value);  // exact: it was read from f16
    std::memcpy(base + 2 * index, &half, 2);
}

float read_half(const std::uint8_t* base, std::int64_t index) {
    std::uint16_t half = 0;
    std::memcpy(&half, base + 2 * index, 2);
    return f16_to_f32(half);
}

float read_wide(const std::uint8_t* base, std::int64_t index) {
    float value = 0;
    std::memcpy(&value, base + 4 * index, 4);
    return value;
}

void pack_codes(const PackedFormat& format, const std::int8_t* codes, int row, std::uint8_t* run) {
    std::uint32_t quads[8];
    std::memcpy(quads, codes, 32);
    // Codes with their excess, a byte each: no sum reaches the next byte.
    const auto excess = static_cast<std::uint32_t>(format.excess) * 0x01010101U;
    for (std::uint32_t& quad : quads) {
        quad = format.low_bits == 8 ? quad ^ 0x80808080U
                                    : ((quad & 0x7f7f7f7fU) + excess) ^ (quad & 0x80808080U);
    }
    std::uint8_t* line = run + row * 4;
    const auto write = [&line](std::uint32_t word) {
        std::memcpy(line, &word, 4);
        line += 64;
    };
    if (format.low_bits == 8) {
        for (const std::uint32_t quad : quads) write(quad);
        return;
    }
    for (int l = 0; l < 4; ++l) write((quads[2 * l] & 0x0f0f0f0fU) | (quads[2 * l + 1] & 0x0f0f0f0fU) << 4U);
    if (format.high_bits == 1) {
        std::uint32_t word = 0;
        for (unsigned q = 0; q < 8; ++q) word |= (quads[q] >> 4U & 0x01010101U) << q;
        write(word);
    } else if (format.high_bits == 2) {
        for (unsigned j = 0; j < 2; ++j) {
            std::uint32_t word = 0;
            for (unsigned i = 0; i < 4; ++i) word |= (quads[4 * j + i] >> 4U & 0x03030303U) << (2 * i);
            write(word);
        }
    }
}

// The scales of one row and run.
void pack_scales(const PackedFormat& format, const CodeRun& codes, int row, std::int64_t run,
                 std::uint8_t* unit) {
    std::uint8_t* scales = unit + format.scales_begin();
    switch (format.scales) {
        case ScaleKind::half:
            write_half(codes.scale[0], scales, row);
            if (format.has_minimum) write_half(codes.minimum[0], scales + 32, row);
            return;
        case ScaleKind::six: {
            write_half(codes.factor, unit, row);
            write_half(codes.minimum_factor, unit + 32, row);
            const int scale = static_cast<std::uint8_t>(codes.raw_scale[0]);  // of six bits, as the minimum
            const int minimum = static_cast<std::uint8_t>(codes.raw_minimum);
            std::uint8_t* pair = scales + run / 2 * 48;
            pair[16 * (run % 2) + row] = static_cast<std::uint8_t>((scale & 15) | (minimum & 15) << 4);
            const int high = scale >> 4 | minimum >> 4 << 2;
            pair[32 + row] = static_cast<std::uint8_t>(pair[32 + row] | high << (4 * (run % 2)));
            return;
        }
        case ScaleKind::eight:
            write_half(codes.factor, unit, row);
            for (int b = 0; b < 2; ++b) {
                scales[run * 32 + b * packed_rows + row] = static_cast<std::uint8_t>(codes.raw_scale[b]);
            }
            return;
        case ScaleKind::wide:
            for (std::int64_t b = 0; b < format.blocks(); ++b) {
                const std::int64_t at = b * packed_rows + row;
                std::memcpy(scales + 4 * at, &codes.scale[b], 4);
                if (format.has_minimum) {
                    std::memcpy(scales + 4 * (at + format.blocks() * packed_rows), &codes.minimum[b], 4);
                }
            }
            return;
    }
}

struct ScaleAndMinimum {
    float scale;
    float minimum;
};

ScaleAndMinimum read_scales(const PackedFormat& format, const std::uint8_t* unit, std::int64_t run, int row,
                            int block) {
    const std::uint8_t* scales = unit + format.scales_begin();
    switch (format.scales) {
        case ScaleKind::half:
            return {read_half(scales, row), format.has_minimum ? read_half(scales + 32, row) : 0.0F};
        case ScaleKind::six: {
            const std::uint8_t* pair = scales + run / 2 * 48;
            const int low = pair[16 * (run % 2) + row];
            const int high = pair[32 + row] >> (4 * (run % 2));
            const int scale = (low & 15) | (high & 3) << 4;
            const int minimum = low >> 4 | (high >> 2 & 3) << 4;
            return {read_half(unit, row) * static_cast<float>(scale),
                    -(read_half(unit + 32, row) * static_cast<float>(minimum))};
        }
        case ScaleKind::eight:
            return {read_half(unit, row) * static_cast<float>(static_cast<std::int8_t>(
                                               scales[run * 32 + block * packed_rows + row])),
                    0.0F};
        case ScaleKind::wide:
            break;
    }
    const std::int64_t at = block * packed_rows + row;
    return {read_wide(scales, at),
            format.has_minimum ? read_wide(scales, at + format.blocks() * packed_rows) : 0.0F};
}

// Column `i` of a run's codes, its excess still in it.
int read_code(const PackedFormat& format, const std::uint8_t* run, int row, int i) {
    const int quad = i / 4;
    const std::uint8_t* bytes = run + row * 4 + i % 4;
    if (format.low_bits == 8) return bytes[quad * 64];
    int code = bytes[quad / 2 * 64] >> (4 * (quad % 2)) & 15;
    if (format.high_bits == 1) code |= (bytes[4 * 64] >> quad & 1) << 4;
    if (format.high_bits == 2) code |= (bytes[(4 + quad / 4) * 64] >> (2 * (quad % 4)) & 3) << 4;
    return code;
}

}  // namespace

PackedFormat packed_format(DType dtype) {
    switch (dtype) {
        case DType::q4_0:
            return packed_q4_0;
        case DType::q4_1:
            return packed_q4_1;
        case DType::q5_0:
            return packed_q5_0;
        case DType::q5_1:
            return packed_q5_1;
        case DType::q2_k:
            return packed_q2_k;
        case DType::q3_k:
            return packed_q3_k;
        case DType::q4_k:
            return packed_q4_k;
        case DType::q5_k:
            return packed_q5_k;
        case DType::q6_k:
            return packed_q6_k;
        default:
            return packed_q8_0;
    }
}

PackedMatrix pack_matrix(const MatrixView& matrix) {
    PackedMatrix packed;
    packed.format = packed_format(matrix.dtype);
    packed.rows = matrix.rows;
    packed.cols = matrix.cols;
    packed.data = Buffer<std::uint8_t>(packed.groups() * packed.group_bytes());
    const PackedFormat& format = packed.format;
    team_each(packed.groups(), [&](std::int64_t group_index) {
        CodeRun codes{};
        const std::int64_t first = group_index * packed_rows;
        std::uint8_t* group = packed.data.data() + group_index * packed.group_bytes();
        for (std::int64_t row = first; row < std::min(first + packed_rows, matrix.rows); ++row) {
            const auto lane = static_cast<int>(row - first);
            for (std::int64_t run = 0; run < matrix.cols / 32; ++run) {
                read_codes(matrix.dtype, matrix.row(row), run, codes);
                std::uint8_t* unit = group + run / format.unit_runs() * format.unit_bytes();
                const std::int64_t within = run % format.unit_runs();
                pack_codes(format, codes.code, lane,
                           unit + format.factor_bytes() + within * format.code_bytes());
                pack_scales(format, codes, lane, within, unit);
            }
        }
    });
    return packed;
}

void unpack_row(const PackedMatrix& matrix, std::int64_t row, float* to) {
    const PackedFormat& format = matrix.format;
    const auto lane = static_cast<int>(row % packed_rows);
    const std::uint8_t* group = matrix.data.data() + row / packed_rows * matrix.group_bytes();
    for (std::int64_t r = 0; r < matrix.cols / 32; ++r, to += 32) {
        const std::uint8_t* unit = group + r / format.unit_runs() * format.unit_bytes();
        const std::int64_t within = r % format.unit_runs();
        const std::uint8_t* run = unit + format.factor_bytes() + within * format.code_bytes();
        for (int b = 0; b < format.blocks(); ++b) {
            const auto [scale, minimum] = read_scales(format, unit, within, lane, b);
            for (int i = b * format.block; i < (b + 1) * format.block; ++i) {
                to[i] = scale * static_cast<float>(read_code(format, run, lane, i) - format.excess);
                if (format.has_minimum) to[i] += minimum;
            }
        }
    }
}

void PackedActivations::reserve(std::int64_t new_tokens, std::int64_t new_cols) {
    tokens = new_tokens;
    cols = new_cols;
    const auto count = static_cast<std::size_t>(tokens * cols);
    codes.resize(count);
    high.resize(count);
    low.resize(count);
    wide.resize(count / 32);
    scales.resize(count / 32);
    sums32.resize(count / 32);
    values32.resize(count / 32);
    sums16.resize(count / 16);
    values16.resize(count / 16);
    if (tokens < tiled_from) return;
    const auto all = static_cast<std::size_t>((tokens + tile_tokens - 1) / tile_tokens * tile_tokens * cols);
    tiles.high.resize(all / 4);
    tiles.low.resize(all / 4);
    tiles.wide.resize(all / 32);
    tiles.scales.resize(all / 32);
    tiles.sums32.resize(all / 32);
    tiles.values32.resize(all / 32);
    tiles.sums16.resize(all / 16);
    tiles.values16.resize(all / 16);
}

void mark_wide_runs(PackedActivations& to, std::int64_t token) {
    const std::int64_t runs = to.cols / 32;
    const float* largest = to.scales.data() + token * runs;
    std::uint8_t* wide = to.wide.data() + token * runs;
    constexpr float most = 2;
    float squares = 0;
    for (std::int64_t r = 0; r < runs; ++r) squares += largest[r] * largest[r];
    const float bound = most * squares / static_cast<float>(runs);
    for (std::int64_t r = 0; r < runs; ++r) wide[r] = to.all_wide || largest[r] * largest[r] > bound ? 1 : 0;
}

}  // namespace retort::tensor
