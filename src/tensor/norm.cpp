#include "tensor/norm.h"

#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

float dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, std::int64_t size) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto sum0 = hn::Zero(d);
    auto sum1 = hn::Zero(d);
    std::int64_t i = 0;
    for (; i + 2 * lanes <= size; i += 2 * lanes) {
        sum0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum0);
        sum1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), sum1);
    }
    float total = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
    for (; i < size; ++i) total += a[i] * b[i];
    return total;
}

float dot3(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, const float* HWY_RESTRICT c,
           std::int64_t size) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto sum = hn::Zero(d);
    std::int64_t i = 0;
    for (; i + lanes <= size; i += lanes) {
        sum = hn::MulAdd(hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), hn::LoadU(d, c + i), sum);
    }
    float total = hn::GetLane(hn::SumOfLanes(d, sum));
    for (; i < size; ++i) total += a[i] * b[i] * c[i];
    return total;
}

// The loops below carry no reduction, so the compiler vectorises them for each target by itself.
void NormRows(const float* x, std::int64_t x_stride, const float* HWY_RESTRICT weight, float epsilon,
              std::int64_t rows, std::int64_t size, float* y, std::int64_t y_stride, float* rstd) {
    for (std::int64_t r = 0; r < rows; ++r) {
        const float* row = x + r * x_stride;
        float* out = y + r * y_stride;
        const float scale = 1.0F / std::sqrt(dot(row, row, size) / static_cast<float>(size) + epsilon);
        if (rstd != nullptr) rstd[r] = scale;
        for (std::int64_t i = 0; i < size; ++i) out[i] = row[i] * scale * weight[i];
    }
}

void NormBackwardRows(const float* x, std::int64_t x_stride, const float* HWY_RESTRICT weight,
                      const float* rstd, const float* dy, std::int64_t dy_stride, std::int64_t rows,
                      std::int64_t size, float* dx, std::int64_t dx_stride, float* HWY_RESTRICT d_weight) {
    for (std::int64_t r = 0; r < rows; ++r) {
        const float* row = x + r * x_stride;
        const float* dy_row = dy + r * dy_stride;
        float* dx_row = dx + r * dx_stride;
        const float scale = rstd[r];
        const float pull = dot3(weight, dy_row, row, size) * scale * scale * scale / static_cast<float>(size);
        for (std::int64_t i = 0; i < size; ++i) {
            d_weight[i] += dy_row[i] * row[i] * scale;
            dx_row[i] += scale * weight[i] * dy_row[i] - row[i] * pull;
        }
    }
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(NormRows);
HWY_EXPORT(NormBackwardRows);

void rms_norm(const float* x, std::int64_t x_stride, const float* weight, float epsilon, std::int64_t rows,
              std::int64_t size, float* y, std::int64_t y_stride, float* rstd) {
    base::parallel_ranges(rows, 16, [&](std::int64_t begin, std::int64_t end) {
        HWY_DYNAMIC_DISPATCH(NormRows)
        (x + begin * x_stride, x_stride, weight, epsilon, end - begin, size, y + begin * y_stride, y_stride,
         rstd == nullptr ? nullptr : rstd + begin);
    });
}

void rms_norm_backward(const float* x, std::int64_t x_stride, const float* weight, const float* rstd,
                       const float* dy, std::int64_t dy_stride, std::int64_t rows, std::int64_t size,
                       float* dx, std::int64_t dx_stride, float* d_weight) {
    // Each share of rows sums its own part of dw; the parts are added in order, so the result does not depend
    // on timing.
    const std::int64_t shares =
        std::min<std::int64_t>(base::thread_count(), std::max<std::int64_t>(1, rows / 16));
    std::vector<float> parts(static_cast<std::size_t>(shares * size), 0.0F);
    base::parallel_ranges(shares, 1, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t s = first; s < last; ++s) {
            const std::int64_t begin = rows * s / shares;
            const std::int64_t end = rows * (s + 1) / shares;
            HWY_DYNAMIC_DISPATCH(NormBackwardRows)
            (x + begin * x_stride, x_stride, weight, rstd + begin, dy + begin * dy_stride, dy_stride,
             end - begin, size, dx + begin * dx_stride, dx_stride, parts.data() + s * size);
        }
    });
    if (d_weight == nullptr) return;
    for (std::int64_t s = 0; s < shares; ++s) {
        for (std::int64_t i = 0; i < size; ++i) d_weight[i] += parts[static_cast<std::size_t>(s * size + i)];
    }
}

void rms_norm_reference(const float* x, const float* weight, float epsilon, std::int64_t rows,
                        std::int64_t size, float* y) {
    for (std::int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (std::int64_t i = 0; i < size; ++i)
            squares += static_cast<double>(x[r * size + i]) * x[r * size + i];
        const double scale =
            1.0 / std::sqrt(squares / static_cast<double>(size) + static_cast<double>(epsilon));
        for (std::int64_t i = 0; i < size; ++i) {
            y[r * size + i] = static_cast<float>(x[r * size + i] * scale * weight[i]);
        }
    }
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
