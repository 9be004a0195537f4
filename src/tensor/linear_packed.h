// Block-quantised weights repacked for products, and the activations that meet them. Internal to the part:
// tensor/linear.h is the door.
//
// Sixteen rows are interleaved, so that a vector's 32-bit lanes are rows: no sum across lanes, and scales
// load as vectors. A group of 16 rows is one stream of runs of 32 columns; a run is
//   codes   8·bits lines of 64 bytes: 16 rows × 32 bits
//   scales  32/block × 16 values, f16 or f32
//   minimums the same, if the format has them
// A row's 32 bits of a line hold 2·(16/bits) codes: code s of the low half is column 2·(line·(16/bits) + s)
// of the run, code s of the high half the column after it, so that shifting both halves by s·bits yields the
// pairs that a multiply-add of neighbouring 16-bit numbers wants.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/buffer.h"
#include "tensor/matrix.h"

namespace retort::tensor {

constexpr std::int64_t packed_rows = 16;

struct PackedFormat {
    int bits = 8;              // 4 or 8
    int block = 32;            // columns a scale covers, 16 or 32
    bool wide_scales = false;  // f32, else f16
    bool has_minimum = false;
    bool excess_eight = false;  // 4-bit codes stand for code − 8

    [[nodiscard]] std::int64_t code_bytes() const { return 64 * bits; }
    [[nodiscard]] std::int64_t scale_bytes() const {
        return 32 / block * packed_rows * (wide_scales ? 4 : 2);
    }
    [[nodiscard]] std::int64_t run_bytes() const {
        return code_bytes() + scale_bytes() * (has_minimum ? 2 : 1);
    }
};

PackedFormat packed_format(DType dtype);

struct PackedMatrix {
    PackedFormat format;
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    Buffer<std::uint8_t> data;

    [[nodiscard]] bool empty() const { return data.empty(); }
    [[nodiscard]] std::int64_t groups() const { return (rows + packed_rows - 1) / packed_rows; }
    [[nodiscard]] std::int64_t group_bytes() const { return cols / 32 * format.run_bytes(); }
};

PackedMatrix pack_matrix(const MatrixView& matrix);
void unpack_row(const PackedMatrix& matrix, std::int64_t row, float* to);

// Activations as 16-bit whole numbers with one scale a run of 32: x ≈ scale·code, wrong by at most 2⁻¹⁶ of
// the run's largest. Sums of codes serve minimums and excess codes.
struct PackedActivations {
    std::int64_t tokens = 0;
    std::int64_t cols = 0;
    std::vector<std::int16_t> codes;   // (tokens, cols)
    std::vector<float> scales;         // (tokens, cols/32)
    std::vector<std::int32_t> sums32;  // (tokens, cols/32)
    std::vector<std::int32_t> sums16;  // (tokens, cols/16)
    std::vector<float> values32;       // sums32 · scale
    std::vector<float> values16;

    void reserve(std::int64_t new_tokens, std::int64_t new_cols);
};

// Fills tokens first … last−1; reserve() came before.
void pack_activations(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t last,
                      PackedActivations& to);

// out (tokens, 16·(last − first)) with row stride out_stride: groups first … last−1 times every token. A
// result does not depend on how many tokens or groups there are.
void packed_products(const PackedMatrix& matrix, std::int64_t first, std::int64_t last,
                     const PackedActivations& x, float* out, std::int64_t out_stride);

}  // namespace retort::tensor
