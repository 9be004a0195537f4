// Plain 16-bit weights as machines with bf16 products want them: 16 rows interleaved, two columns a lane, and
// activations rounded to bf16. f16 weights are rounded to bf16 too. Internal to the part: tensor/linear.h is
// the door, and uses this only where kernel_isa() has bf16 products.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/buffer.h"
#include "tensor/matrix.h"

namespace retort::tensor {

constexpr std::int64_t pair_rows = 16;

// Group g of 16 rows is pairs() lines of 64 bytes: line p holds columns 2p, 2p+1 of each row.
struct PairMatrix {
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    Buffer<std::uint16_t> data;

    [[nodiscard]] std::int64_t pairs() const { return (cols + 1) / 2; }
    [[nodiscard]] std::int64_t groups() const { return (rows + pair_rows - 1) / pair_rows; }
    [[nodiscard]] std::int64_t group_size() const { return pairs() * 2 * pair_rows; }
};

// Whether `matrix` can be used so on this machine: f16 or bf16.
bool pairs_fit(const MatrixView& matrix);
PairMatrix pack_pairs(const MatrixView& matrix);
void unpack_pairs_row(const PairMatrix& matrix, std::int64_t row, float* to);

// Activations in bf16: (tokens, 2·pairs).
struct PairActivations {
    std::int64_t tokens = 0;
    std::int64_t cols = 0;
    std::vector<std::uint16_t> values;

    void reserve(std::int64_t new_tokens, std::int64_t new_cols);
    [[nodiscard]] std::int64_t stride() const { return (cols + 1) / 2 * 2; }
};

// Fills tokens first … last−1; reserve() came before.
void pack_pair_activations(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t last,
                           PairActivations& to);

// out (tokens, 16·(last − first)) with row stride out_stride: groups first … last−1 times every token. Each
// sum runs along the row pair by pair in f32, so a result does not depend on how many tokens or groups there
// are.
void pair_products(const PairMatrix& matrix, std::int64_t first, std::int64_t last, const PairActivations& x,
                   float* out, std::int64_t out_stride);

}  // namespace retort::tensor
