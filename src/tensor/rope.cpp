#include "tensor/rope.h"

#include <cmath>

#include "base/parallel.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/rope.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {

void RotateHead(float* HWY_RESTRICT low, float* HWY_RESTRICT high, const float* HWY_RESTRICT cosine,
                const float* HWY_RESTRICT sine, float sign, std::int64_t half) {
    for (std::int64_t i = 0; i < half; ++i) {
        const float a = low[i];
        const float b = high[i];
        const float s = sine[i] * sign;
        low[i] = a * cosine[i] - b * s;
        high[i] = b * cosine[i] + a * s;
    }
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(RotateHead);

void RopeTable::extend(std::int64_t wanted, std::span<const double> inverse_frequencies, double scale) {
    half_dim = static_cast<std::int64_t>(inverse_frequencies.size());
    for (std::int64_t position = count(); position < wanted; ++position) {
        for (const double frequency : inverse_frequencies) {
            // The angle is rounded to f32 first, as the reference implementation does: far positions need the
            // same rounding to give the same logits.
            const float angle = static_cast<float>(position) * static_cast<float>(frequency);
            cosine.push_back(static_cast<float>(std::cos(static_cast<double>(angle)) * scale));
            sine.push_back(static_cast<float>(std::sin(static_cast<double>(angle)) * scale));
        }
    }
}

void rope(float* x, std::int64_t stride, std::int64_t rows, std::int64_t heads, const std::int32_t* positions,
          const RopeTable& table, bool inverse) {
    const std::int64_t half = table.half_dim;
    base::parallel_ranges(rows, 32, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const float* cosine = table.cosine.data() + positions[r] * half;
            const float* sine = table.sine.data() + positions[r] * half;
            for (std::int64_t h = 0; h < heads; ++h) {
                float* head = x + r * stride + h * 2 * half;
                HWY_DYNAMIC_DISPATCH(RotateHead)
                (head, head + half, cosine, sine, inverse ? -1.0F : 1.0F, half);
            }
        }
    });
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
