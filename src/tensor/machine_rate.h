// What this machine can do at most: the rate of its matrix products and of reading its memory, which every
// figure of speed states its share of. Knows no model.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "tensor/buffer.h"

namespace retort::tensor {

// C (m, n) = A (m, k) by B (n, k) transposed, as in every linear layer, in f32 or bf16 with f32 sums.
struct GemmSize {
    std::int64_t m = 2048;
    std::int64_t n = 2048;
    std::int64_t k = 2048;
};

// Keeps its operands, so that a long run can measure between its own steps: what slows those slows the
// product too.
class GemmProbe {
  public:
    GemmProbe(GemmSize size, bool bf16);

    // One product; in floating-point operations a second.
    double measure();
    // The best so far: whatever else runs on the machine can only slow one down.
    [[nodiscard]] double best() const { return best_; }
    [[nodiscard]] std::size_t bytes() const;

  private:
    GemmSize size_;
    Buffer<float> a_, b_, c_;
    Buffer<std::uint16_t> a16_, b16_;
    double best_ = 0;
};

// The best product of `seconds` of them, after one that warms up; in floating-point operations a second.
// cancelled when interrupted.
Result<double> gemm_rate(GemmSize size, bool bf16, double seconds);

// Best of `rounds` passes over `bytes` of freshly written memory, in bytes a second: the limit of decoding
// one sequence.
Result<double> memory_read_rate(std::int64_t bytes, int rounds);

}  // namespace retort::tensor
