// Linear layers of a model that runs: y = x·Wᵀ with W in the format of the model file, y in f32, sums in f32.
// Block-quantised weights are repacked once and meet activations rounded to 16 bits, which is some hundred
// times finer than the weights' own rounding, or to 8 where set_activation_bits() says so. Plain weights
// (f32, f16, bf16) are read where they lie and meet f32 activations; but on machines with bf16 products f16
// and bf16 ones are repacked as bf16 and meet activations rounded to bf16. Training's products are
// tensor/gemm.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "tensor/matrix.h"

namespace retort::tensor {

struct PackedMatrix;
struct PairMatrix;

// Bits of the whole numbers that activations are rounded to where they meet block-quantised weights: 16, or 8
// but for runs of 32 that are far larger than the others. Of the whole program, from the next product on.
void set_activation_bits(int bits);
int activation_bits();

// A weight matrix ready for products. Unless repacked it stays a view, whose memory must outlive the
// object: needs_source() says so.
class LinearWeight {
  public:
    LinearWeight();
    explicit LinearWeight(const MatrixView& matrix);
    LinearWeight(LinearWeight&&) noexcept;
    LinearWeight& operator=(LinearWeight&&) noexcept;
    LinearWeight(const LinearWeight&) = delete;
    LinearWeight& operator=(const LinearWeight&) = delete;
    ~LinearWeight();

    [[nodiscard]] std::int64_t rows() const { return view_.rows; }
    [[nodiscard]] std::int64_t cols() const { return view_.cols; }
    [[nodiscard]] bool needs_source() const { return packed_ == nullptr && pairs_ == nullptr; }
    [[nodiscard]] const PackedMatrix* packed() const { return packed_.get(); }
    [[nodiscard]] const PairMatrix* pairs() const { return pairs_.get(); }
    [[nodiscard]] const MatrixView& plain() const { return view_; }  // only while needs_source()

    // One row as f32 (cols): an embedding.
    void fetch_row(std::int64_t row, float* to) const;

  private:
    MatrixView view_;
    std::unique_ptr<PackedMatrix> packed_;
    std::unique_ptr<PairMatrix> pairs_;
};

struct LinearTask {
    const LinearWeight* weight = nullptr;  // (rows, cols)
    float* y = nullptr;                    // (tokens, rows), row stride y_stride
    std::int64_t y_stride = 0;             // at least rows
    const float* bias = nullptr;           // (rows), may be null
    bool add = false;                      // y += instead of y =
};

// All tasks read the same x (tokens, cols), row stride x_stride, and have the same cols. A token's result has
// the same bits whatever the other tokens are; for plain weights that are not repacked only up to
// linear_exact_tokens tokens, beyond which a dense product with an order of its own takes over.
void linear(std::span<const LinearTask> tasks, const float* x, std::int64_t x_stride, std::int64_t tokens);
void linear(const LinearTask& task, const float* x, std::int64_t x_stride, std::int64_t tokens);

constexpr std::int64_t linear_exact_tokens = 32;

// Plain loops over the dequantised matrix, in double precision.
void linear_reference(const MatrixView& weight, const float* x, std::int64_t x_stride, std::int64_t tokens,
                      float* y, std::int64_t y_stride);

}  // namespace retort::tensor
