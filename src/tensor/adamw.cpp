#include "tensor/adamw.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/adamw.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void UpdateRange(float* HWY_RESTRICT value, float* HWY_RESTRICT gradient, float* HWY_RESTRICT m,
                 float* HWY_RESTRICT v, std::int64_t count, float beta1, float beta2, float epsilon,
                 float scale, float step_size, float inverse_root_v, float keep) {
    for (std::int64_t i = 0; i < count; ++i) {
        const float g = gradient[i] * scale;
        const float new_m = beta1 * m[i] + (1.0F - beta1) * g;
        const float new_v = beta2 * v[i] + (1.0F - beta2) * g * g;
        m[i] = new_m;
        v[i] = new_v;
        value[i] = value[i] * keep - step_size * new_m / (std::sqrt(new_v) * inverse_root_v + epsilon);
        gradient[i] = 0.0F;
    }
}

float SquaresRange(const float* x, std::int64_t count) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto sum0 = hn::Zero(d);
    auto sum1 = hn::Zero(d);
    std::int64_t i = 0;
    for (; i + 2 * lanes <= count; i += 2 * lanes) {
        const auto a = hn::LoadU(d, x + i);
        const auto b = hn::LoadU(d, x + i + lanes);
        sum0 = hn::MulAdd(a, a, sum0);
        sum1 = hn::MulAdd(b, b, sum1);
    }
    float total = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
    for (; i < count; ++i) total += x[i] * x[i];
    return total;
}

void RoundToBf16(const float* HWY_RESTRICT from, std::uint16_t* HWY_RESTRICT to, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, from + i, 4);
        const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16U) & 1U)) >> 16U;
        // A NaN's rounding could carry into infinity: keep it quiet instead.
        const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
        to[i] = static_cast<std::uint16_t>(is_nan ? (bits >> 16U) | 0x40U : rounded);
    }
}

void WidenBf16(const std::uint16_t* HWY_RESTRICT from, float* HWY_RESTRICT to, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        const std::uint32_t bits = static_cast<std::uint32_t>(from[i]) << 16U;
        std::memcpy(to + i, &bits, 4);
    }
}

void SplitRange(const float* HWY_RESTRICT from, std::uint16_t* HWY_RESTRICT high,
                std::int16_t* HWY_RESTRICT low, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, from + i, 4);
        const std::uint32_t top = (bits + 0x8000U) >> 16U;
        high[i] = static_cast<std::uint16_t>(top);
        low[i] = static_cast<std::int16_t>(bits & 0xffffU);
    }
}

void JoinRange(const std::uint16_t* HWY_RESTRICT high, const std::int16_t* HWY_RESTRICT low,
               float* HWY_RESTRICT to, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        const std::uint32_t bits =
            (static_cast<std::uint32_t>(high[i]) << 16U) + static_cast<std::uint32_t>(std::int32_t{low[i]});
        std::memcpy(to + i, &bits, 4);
    }
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(UpdateRange);
HWY_EXPORT(SquaresRange);
HWY_EXPORT(RoundToBf16);
HWY_EXPORT(WidenBf16);
HWY_EXPORT(SplitRange);
HWY_EXPORT(JoinRange);

namespace {

struct UpdateTerms {
    float step_size;
    float inverse_root_v;
    float keep;
};

UpdateTerms update_terms(const AdamwStep& step) {
    const auto t = static_cast<double>(step.step);
    const double correction1 = 1.0 - std::pow(static_cast<double>(step.beta1), t);
    const double correction2 = 1.0 - std::pow(static_cast<double>(step.beta2), t);
    return {static_cast<float>(static_cast<double>(step.learning_rate) / correction1),
            static_cast<float>(1.0 / std::sqrt(correction2)), 1.0F - step.learning_rate * step.weight_decay};
}

// Blocks that stay in the first cache between the update and what is made of it.
constexpr std::int64_t update_block = 2048;
using Block = std::array<float, update_block>;

// Of elements [at, at + size), whose values are given.
void update_block_at(float* value, const GradientView& gradient, const Moments& moments, std::int64_t at,
                     std::int64_t size, const AdamwStep& step, const UpdateTerms& terms) {
    Block g;
    Block m;
    Block v;
    const bool narrow_gradient = gradient.f32 == nullptr;
    const bool narrow_moments = moments.m == nullptr;
    if (narrow_gradient) {
        HWY_DYNAMIC_DISPATCH(WidenBf16)(gradient.bf16 + at, g.data(), size);
        std::fill_n(gradient.bf16 + at, size, std::uint16_t{0});
    }
    if (narrow_moments) {
        HWY_DYNAMIC_DISPATCH(WidenBf16)(moments.m_bf16 + at, m.data(), size);
        HWY_DYNAMIC_DISPATCH(WidenBf16)(moments.v_bf16 + at, v.data(), size);
    }
    HWY_DYNAMIC_DISPATCH(UpdateRange)
    (value, narrow_gradient ? g.data() : gradient.f32 + at, narrow_moments ? m.data() : moments.m + at,
     narrow_moments ? v.data() : moments.v + at, size, step.beta1, step.beta2, step.epsilon,
     step.gradient_scale, terms.step_size, terms.inverse_root_v, terms.keep);
    if (!narrow_moments) return;
    round_stochastically(m.data(), moments.m_bf16 + at, size, moments.m_key, moments.first + at);
    round_stochastically(v.data(), moments.v_bf16 + at, size, moments.v_key, moments.first + at);
}

// Σ x² of blocks of 4096, of which of_block(first, count) gives one's.
template <typename OfBlock>
double sum_of_blocks(std::int64_t count, const OfBlock& of_block) {
    constexpr std::int64_t block = 4096;
    const std::int64_t blocks = (count + block - 1) / block;
    std::vector<double> sums(static_cast<std::size_t>(blocks));
    base::parallel_ranges(blocks, 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            sums[static_cast<std::size_t>(b)] =
                static_cast<double>(of_block(b * block, std::min(block, count - b * block)));
        }
    });
    double total = 0;
    for (const double sum : sums) total += sum;
    return total;
}

}  // namespace

void adamw(float* value, const GradientView& gradient, const Moments& moments, std::uint16_t* value_bf16,
           std::int64_t count, const AdamwStep& step) {
    const UpdateTerms terms = update_terms(step);
    base::parallel_ranges(count, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t at = begin; at < end; at += update_block) {
            const std::int64_t size = std::min(update_block, end - at);
            update_block_at(value + at, gradient, moments, at, size, step, terms);
            if (value_bf16 != nullptr) HWY_DYNAMIC_DISPATCH(RoundToBf16)(value + at, value_bf16 + at, size);
        }
    });
}

void adamw_halves(std::uint16_t* high, std::int16_t* low, const GradientView& gradient,
                  const Moments& moments, std::int64_t count, const AdamwStep& step) {
    const UpdateTerms terms = update_terms(step);
    base::parallel_ranges(count, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
        Block value;
        for (std::int64_t at = begin; at < end; at += update_block) {
            const std::int64_t size = std::min(update_block, end - at);
            HWY_DYNAMIC_DISPATCH(JoinRange)(high + at, low + at, value.data(), size);
            update_block_at(value.data(), gradient, moments, at, size, step, terms);
            HWY_DYNAMIC_DISPATCH(SplitRange)(value.data(), high + at, low + at, size);
        }
    });
}

void split_floats(const float* from, std::uint16_t* high, std::int16_t* low, std::int64_t count) {
    base::parallel_ranges(count, 1 << 15, [&](std::int64_t begin, std::int64_t end) {
        HWY_DYNAMIC_DISPATCH(SplitRange)(from + begin, high + begin, low + begin, end - begin);
    });
}

void join_floats(const std::uint16_t* high, const std::int16_t* low, float* to, std::int64_t count) {
    base::parallel_ranges(count, 1 << 15, [&](std::int64_t begin, std::int64_t end) {
        HWY_DYNAMIC_DISPATCH(JoinRange)(high + begin, low + begin, to + begin, end - begin);
    });
}

double sum_of_squares(const float* x, std::int64_t count) {
    return sum_of_blocks(count, [&](std::int64_t at, std::int64_t size) {
        return HWY_DYNAMIC_DISPATCH(SquaresRange)(x + at, size);
    });
}

double sum_of_squares(const std::uint16_t* x_bf16, std::int64_t count) {
    return sum_of_blocks(count, [&](std::int64_t at, std::int64_t size) {
        std::array<float, 4096> x;
        HWY_DYNAMIC_DISPATCH(WidenBf16)(x_bf16 + at, x.data(), size);
        return HWY_DYNAMIC_DISPATCH(SquaresRange)(x.data(), size);
    });
}

void add_to_bf16(const float* x, std::uint16_t* sum_bf16, std::int64_t count, RoundingKey key,
                 std::int64_t first) {
    base::parallel_ranges(count, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
        Block sum;
        for (std::int64_t at = begin; at < end; at += update_block) {
            const std::int64_t size = std::min(update_block, end - at);
            HWY_DYNAMIC_DISPATCH(WidenBf16)(sum_bf16 + at, sum.data(), size);
            for (std::int64_t i = 0; i < size; ++i) sum[static_cast<std::size_t>(i)] += x[at + i];
            round_stochastically(sum.data(), sum_bf16 + at, size, key, first + at);
        }
    });
}

void convert_to_bf16(const float* from, std::uint16_t* to, std::int64_t count) {
    base::parallel_ranges(count, 1 << 15, [&](std::int64_t begin, std::int64_t end) {
        HWY_DYNAMIC_DISPATCH(RoundToBf16)(from + begin, to + begin, end - begin);
    });
}

void convert_from_bf16(const std::uint16_t* from, float* to, std::int64_t count) {
    base::parallel_ranges(count, 1 << 15, [&](std::int64_t begin, std::int64_t end) {
        HWY_DYNAMIC_DISPATCH(WidenBf16)(from + begin, to + begin, end - begin);
    });
}

void adamw_reference(float* value, const float* gradient, float* m, float* v, std::int64_t count,
                     const AdamwStep& step) {
    const auto t = static_cast<double>(step.step);
    for (std::int64_t i = 0; i < count; ++i) {
        const double g = static_cast<double>(gradient[i]) * step.gradient_scale;
        const double new_m =
            static_cast<double>(step.beta1) * m[i] + (1.0 - static_cast<double>(step.beta1)) * g;
        const double new_v =
            static_cast<double>(step.beta2) * v[i] + (1.0 - static_cast<double>(step.beta2)) * g * g;
        const double m_hat = new_m / (1.0 - std::pow(static_cast<double>(step.beta1), t));
        const double v_hat = new_v / (1.0 - std::pow(static_cast<double>(step.beta2), t));
        const double lr = static_cast<double>(step.learning_rate);
        value[i] = static_cast<float>(value[i] - lr * step.weight_decay * value[i] -
                                      lr * m_hat / (std::sqrt(v_hat) + static_cast<double>(step.epsilon)));
        m[i] = static_cast<float>(new_m);
        v[i] = static_cast<float>(new_v);
    }
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
