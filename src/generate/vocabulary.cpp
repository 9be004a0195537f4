#include "generate/vocabulary.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "tensor/dispatch.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "generate/vocabulary.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace retort::generate::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Max alone would lose a NaN, depending on its place: a sum that it poisons does not.
float Largest(const float* logits, std::int64_t count) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto largest = hn::Set(d, -std::numeric_limits<float>::infinity());
    auto poison = hn::Zero(d);
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        const auto x = hn::LoadU(d, logits + i);
        largest = hn::Max(largest, x);
        poison = hn::Add(poison, hn::Mul(x, hn::Zero(d)));  // NaN from NaN and from an infinity
    }
    float best = hn::GetLane(hn::MaxOfLanes(d, largest));
    float spoiled = hn::GetLane(hn::SumOfLanes(d, poison));
    for (; i < count; ++i) {
        best = logits[i] > best ? logits[i] : best;
        spoiled += logits[i] * 0.0F;
    }
    // −infinity is a token that a hook forbids: no fault.
    if (std::isnan(spoiled)) {
        for (i = 0; i < count; ++i) {
            if (std::isnan(logits[i])) return logits[i];
        }
    }
    return best;
}

// Sums of 4096 in f32 lanes, added up in double.
double Exponentials(const float* logits, std::int64_t count, float largest, float inverse_temperature,
                    float* weights) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto shift = hn::Set(d, largest);
    const auto scale = hn::Set(d, inverse_temperature);
    double total = 0;
    std::int64_t i = 0;
    while (i + lanes <= count) {
        auto sum = hn::Zero(d);
        for (std::int64_t end = i + 4096 < count ? i + 4096 : count; i + lanes <= end; i += lanes) {
            const auto weight = hn::Exp(d, hn::Mul(hn::Sub(hn::LoadU(d, logits + i), shift), scale));
            sum = hn::Add(sum, weight);
            if (weights != nullptr) hn::StoreU(weight, d, weights + i);
        }
        total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
    }
    for (; i < count; ++i) {
        const float weight = std::exp((logits[i] - largest) * inverse_temperature);
        total += static_cast<double>(weight);
        if (weights != nullptr) weights[i] = weight;
    }
    return total;
}

}  // namespace retort::generate::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::generate {

HWY_EXPORT(Largest);
HWY_EXPORT(Exponentials);

LargestLogit largest_logit(std::span<const float> logits) {
    tensor::apply_isa_limit();
    const auto count = static_cast<std::int64_t>(logits.size());
    const float value = HWY_DYNAMIC_DISPATCH(Largest)(logits.data(), count);
    for (std::size_t i = 0; i < logits.size(); ++i) {
        if (logits[i] == value) return {value, static_cast<std::int32_t>(i)};
    }
    return {value, 0};
}

double exponentials(std::span<const float> logits, float largest, float inverse_temperature,
                    std::span<float> weights) {
    tensor::apply_isa_limit();
    return HWY_DYNAMIC_DISPATCH(Exponentials)(logits.data(), static_cast<std::int64_t>(logits.size()),
                                              largest, inverse_temperature, weights.data());
}

float lower_bound_of_largest(std::span<const float> values, std::int64_t count) {
    // The largest of each block: `count` blocks have one that reaches the count-th largest of these.
    constexpr std::size_t block = 64;
    const std::size_t blocks = (values.size() + block - 1) / block;
    if (count < 1 || static_cast<std::size_t>(count) > blocks) return -std::numeric_limits<float>::infinity();
    std::vector<float> largest(blocks);
    for (std::size_t b = 0; b < blocks; ++b) {
        const auto part = values.subspan(b * block, std::min(block, values.size() - b * block));
        largest[b] = part[0];
        for (const float value : part) largest[b] = value > largest[b] ? value : largest[b];
    }
    const auto at = largest.begin() + (count - 1);
    std::nth_element(largest.begin(), at, largest.end(), std::greater<>());
    return *at;
}

std::int32_t draw(std::span<const float> weights, double uniform) {
    // Sums of blocks first: the chain of additions in double is what a plain scan would wait for.
    constexpr std::size_t block = 256;
    std::vector<double> sums;
    double total = 0;
    for (std::size_t begin = 0; begin < weights.size(); begin += block) {
        const auto part = weights.subspan(begin, std::min(block, weights.size() - begin));
        double partial[4] = {};
        for (std::size_t i = 0; i < part.size(); ++i) partial[i % 4] += static_cast<double>(part[i]);
        sums.push_back((partial[0] + partial[1]) + (partial[2] + partial[3]));
        total += sums.back();
    }
    double left = uniform * total;
    std::size_t chosen = 0;
    while (chosen + 1 < sums.size() && left >= sums[chosen]) left -= sums[chosen++];
    std::size_t last = 0;  // should rounding eat the rest
    for (std::size_t i = chosen * block; i < std::min(weights.size(), (chosen + 1) * block); ++i) {
        if (weights[i] <= 0.0F) continue;
        last = i;
        left -= static_cast<double>(weights[i]);
        if (left < 0) break;
    }
    return static_cast<std::int32_t>(last);
}

double log_sum_exp(std::span<const float> logits, float largest) {
    tensor::apply_isa_limit();
    return static_cast<double>(largest) +
           std::log(HWY_DYNAMIC_DISPATCH(Exponentials)(
               logits.data(), static_cast<std::int64_t>(logits.size()), largest, 1.0F, nullptr));
}

}  // namespace retort::generate
#endif  // HWY_ONCE
