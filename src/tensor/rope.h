// Rotary position embedding (Su et al. 2021) in Hugging Face's layout: dimensions i and i + head_dim/2 are a
// pair.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace retort::tensor {

// cos and sin for positions 0 … count−1: (count, head_dim/2) each.
struct RopeTable {
    std::int64_t half_dim = 0;
    std::vector<float> cosine;
    std::vector<float> sine;

    // inverse_frequencies (head_dim/2) in radians a position; scale multiplies both tables (yarn).
    void extend(std::int64_t count, std::span<const double> inverse_frequencies, double scale);
    [[nodiscard]] std::int64_t count() const {
        return half_dim == 0 ? 0 : static_cast<std::int64_t>(cosine.size()) / half_dim;
    }
};

// Rotates `heads` heads of each row of x (rows, stride) in place by its position. inverse: rotates back,
// which is the gradient of the rotation.
void rope(float* x, std::int64_t stride, std::int64_t rows, std::int64_t heads, const std::int32_t* positions,
          const RopeTable& table, bool inverse);

}  // namespace retort::tensor
