// Products of bf16 in AMX's tiles, f32 sums: rows of activations times weights in the layout of
// tensor/linear_pairs.h. Internal to the part; only where amx_fits().
#pragma once

#include <cstdint>

namespace retort::tensor {

// Whether the active path has AMX and rows of `cols` columns can be used by it.
bool amx_fits(std::int64_t cols);

struct AmxWeights {
    const std::uint16_t* data = nullptr;  // group g at g·group_size: cols/2 lines of 16 rows × 2 columns
    std::int64_t group_size = 0;
    std::int64_t groups = 0;
    std::int64_t cols = 0;
};

struct AmxActivations {
    const std::uint16_t* data = nullptr;  // (tokens, cols), row stride `stride`
    std::int64_t stride = 0;
    std::int64_t tokens = 0;
};

// out (tokens, 16·groups), row stride out_stride. Each sum runs along the row in steps of 32 columns, so a
// result depends neither on how many tokens or groups there are nor on where among them it stands.
void amx_products(const AmxWeights& w, const AmxActivations& x, float* out, std::int64_t out_stride);

}  // namespace retort::tensor
