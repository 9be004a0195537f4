// Block-quantised weights repacked for products, and the activations that meet them. Internal to the part:
// tensor/linear.h is the door.
//
// Sixteen rows are interleaved, so that a vector's 32-bit lanes are rows: no sum across lanes, and scales
// load as vectors. A group of 16 rows is one stream of units; a unit is a run of 32 columns or, for formats
// whose scales share a factor over 256 columns (K-quants), eight of them:
//   factors   K only: 16 × f16, and 16 × f16 of the minimums if the format has them
//   codes     of each run, 64·bits bytes
//   scales    of the runs, as the format has them: see ScaleKind
// A repacked matrix is exactly as large as the file's, but for q2_k and q3_k. Codes are whole numbers without
// sign: an excess is subtracted from the sum. They come in quads, columns 4q … 4q+3 of a run, byte k of a
// row's 32 bits being column 4q+k. Lines of 64 bytes hold 16 rows × 32 bits:
//   8-bit codes  8 lines, a quad each
//   4-bit codes  4 lines, quad 2l in the low halves of line l's bytes and quad 2l+1 in the high halves
//   fifth bit    1 more line: bit q of byte k belongs to column 4q+k
//   bits 5, 6    2 more lines: line j's byte k has those of columns 4(4j+i)+k, i = 0 … 3, two bits each
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/buffer.h"
#include "tensor/matrix.h"

namespace retort::tensor {

constexpr std::int64_t packed_rows = 16;

enum class ScaleKind {
    half,   // a run: 16 × f16, then 16 × f16 minimums if any
    six,    // two runs: 16 bytes of each (low 4 bits of scale, of minimum), 16 bytes of all high bits
    eight,  // a run: for each 16 columns 16 × int8
    wide,   // a run: for each block 16 × f32, then the minimums the same
};

struct PackedFormat {
    int low_bits = 8;   // 4 or 8
    int high_bits = 0;  // 0, 1 or 2 beyond 4
    int block = 32;     // columns a scale covers, 16 or 32
    ScaleKind scales = ScaleKind::half;
    bool has_minimum = false;
    int excess = 0;

    [[nodiscard]] constexpr bool shares_factor() const {
        return scales == ScaleKind::six || scales == ScaleKind::eight;
    }
    [[nodiscard]] constexpr int blocks() const { return 32 / block; }  // a run
    [[nodiscard]] constexpr std::int64_t unit_runs() const { return shares_factor() ? 8 : 1; }
    [[nodiscard]] constexpr std::int64_t factor_bytes() const {
        return shares_factor() ? 2 * packed_rows * (has_minimum ? 2 : 1) : 0;
    }
    [[nodiscard]] constexpr std::int64_t code_bytes() const {
        return std::int64_t{64} * (low_bits + high_bits);
    }
    // Bytes of scales (and minimums) of a unit.
    [[nodiscard]] constexpr std::int64_t scale_bytes() const {
        switch (scales) {
            case ScaleKind::half:
                return 2 * packed_rows * (has_minimum ? 2 : 1);
            case ScaleKind::six:
                return 4 * 3 * packed_rows;
            case ScaleKind::eight:
                return 8 * 2 * packed_rows;
            case ScaleKind::wide:
                break;
        }
        return 4 * packed_rows * blocks() * (has_minimum ? 2 : 1);
    }
    [[nodiscard]] constexpr std::int64_t scales_begin() const {
        return factor_bytes() + unit_runs() * code_bytes();
    }
    [[nodiscard]] constexpr std::int64_t unit_bytes() const { return scales_begin() + scale_bytes(); }
    friend constexpr bool operator==(const PackedFormat&, const PackedFormat&) = default;
};

constexpr PackedFormat packed_q8_0{.excess = 128};
constexpr PackedFormat packed_q4_0{.low_bits = 4, .excess = 8};
constexpr PackedFormat packed_q4_1{.low_bits = 4, .has_minimum = true};
constexpr PackedFormat packed_q5_0{.low_bits = 4, .high_bits = 1, .excess = 16};
constexpr PackedFormat packed_q5_1{.low_bits = 4, .high_bits = 1, .has_minimum = true};
constexpr PackedFormat packed_q2_k{
    .low_bits = 4, .block = 16, .scales = ScaleKind::wide, .has_minimum = true};
constexpr PackedFormat packed_q3_k{.low_bits = 4, .block = 16, .scales = ScaleKind::wide, .excess = 4};
constexpr PackedFormat packed_q4_k{.low_bits = 4, .scales = ScaleKind::six, .has_minimum = true};
constexpr PackedFormat packed_q5_k{
    .low_bits = 4, .high_bits = 1, .scales = ScaleKind::six, .has_minimum = true};
constexpr PackedFormat packed_q6_k{
    .low_bits = 4, .high_bits = 2, .block = 16, .scales = ScaleKind::eight, .excess = 32};

PackedFormat packed_format(DType dtype);

// Calls body.template operator()<format>() with the constant that equals `format`.
template <typename Body>
void with_packed_format(const PackedFormat& format, const Body& body) {
    if (format == packed_q8_0) return body.template operator()<packed_q8_0>();
    if (format == packed_q4_0) return body.template operator()<packed_q4_0>();
    if (format == packed_q4_1) return body.template operator()<packed_q4_1>();
    if (format == packed_q5_0) return body.template operator()<packed_q5_0>();
    if (format == packed_q5_1) return body.template operator()<packed_q5_1>();
    if (format == packed_q2_k) return body.template operator()<packed_q2_k>();
    if (format == packed_q3_k) return body.template operator()<packed_q3_k>();
    if (format == packed_q4_k) return body.template operator()<packed_q4_k>();
    if (format == packed_q5_k) return body.template operator()<packed_q5_k>();
    return body.template operator()<packed_q6_k>();
}

struct PackedMatrix {
    PackedFormat format;
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    Buffer<std::uint8_t> data;

    [[nodiscard]] bool empty() const { return data.empty(); }
    [[nodiscard]] std::int64_t groups() const { return (rows + packed_rows - 1) / packed_rows; }
    [[nodiscard]] std::int64_t group_bytes() const {
        return cols / (32 * format.unit_runs()) * format.unit_bytes();
    }
};

PackedMatrix pack_matrix(const MatrixView& matrix);
void unpack_row(const PackedMatrix& matrix, std::int64_t row, float* to);

// Activations as whole numbers with one scale a run of 32: x ≈ scale·code. Codes of a wide run have 16 bits
// and reach ±32512 = 127·256, so that a code is 256·high + low with both in 8 bits: wrong by at most 1/65024
// of the run's largest. Those of any other run are multiples of 256, with a low byte of 0: wrong by at most
// 1/254. Sums of codes serve minimums and excesses.
struct PackedActivations {
    bool all_wide = true;  // else only the runs that mark_wide_runs() chooses
    std::int64_t tokens = 0;
    std::int64_t cols = 0;
    std::vector<std::int16_t> codes;   // (tokens, cols), each quad of columns in the order 0, 2, 1, 3
    std::vector<std::int8_t> high;     // (tokens, cols), columns in order
    std::vector<std::int8_t> low;      // the same
    std::vector<std::uint8_t> wide;    // (tokens, cols/32)
    std::vector<float> scales;         // (tokens, cols/32)
    std::vector<std::int32_t> sums32;  // (tokens, cols/32)
    std::vector<std::int32_t> sums16;  // (tokens, cols/16)
    std::vector<float> values32;       // sums32 · scale
    std::vector<float> values16;

    // For the kernels of AVX-512, which have no use for `codes`: from tiled_from tokens on all but the
    // largest values and the marks stands here instead, by tiles of 12 tokens that are neighbours at every
    // place.
    struct Tiles {
        std::vector<std::int32_t> high;    // (tiles, cols/4, 12): four columns' bytes
        std::vector<std::int32_t> low;     // the same
        std::vector<std::uint8_t> wide;    // (tiles, cols/32, 12)
        std::vector<float> scales;         // (tiles, cols/32, 12)
        std::vector<std::int32_t> sums32;  // the same
        std::vector<std::int32_t> sums16;  // (tiles, cols/16, 12)
        std::vector<float> values32;
        std::vector<float> values16;
    } tiles;
    static constexpr std::int64_t tile_tokens = 12;
    static constexpr std::int64_t tiled_from = 6;

    void reserve(std::int64_t new_tokens, std::int64_t new_cols);
};

// Where column c of a row is in `codes`.
constexpr std::int64_t code_index(std::int64_t c) {
    return c % 4 == 1 || c % 4 == 2 ? c ^ 3 : c;
}

// For kernels that pack: chooses a token's wide runs, whose largest values stand in `scales`. What a run's
// rounding adds to the error grows with the square of its largest value, and a few dimensions of a
// transformer are far larger than all others: where a run's square is more than twice the mean of all, it is
// wide. That is one run in nine of SmolLM2-135M's, and takes three quarters of the KL that 8 bits for all
// would cost.
void mark_wide_runs(PackedActivations& to, std::int64_t token);

// Fills tokens first … last−1; reserve() came before.
void pack_activations(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t last,
                      PackedActivations& to);

// out (tokens, 16·(last − first)) with row stride out_stride: groups first … last−1 times every token. A
// result does not depend on how many tokens or groups there are.
void packed_products(const PackedMatrix& matrix, std::int64_t first, std::int64_t last,
                     const PackedActivations& x, float* out, std::int64_t out_stride);

}  // namespace retort::tensor
