#include "tensor/stochastic_rounding.h"

#include <cstring>

#include "tensor/dispatch.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/stochastic_rounding.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rounds of a 32-bit finaliser (the constants of Wellons' lowbias32), the second half of the key between
// them, so that two keys do not only permute one table of draws.
void RoundStochastically(const float* HWY_RESTRICT from, std::uint16_t* HWY_RESTRICT to, std::int64_t count,
                         std::uint64_t key, std::int64_t first) {
    const hn::ScalableTag<float> df;
    const hn::ScalableTag<std::uint32_t> d;
    const hn::Rebind<std::uint16_t, decltype(d)> narrow;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto key0 = hn::Set(d, static_cast<std::uint32_t>(key));
    const auto key1 = hn::Set(d, static_cast<std::uint32_t>(key >> 32U));
    const auto multiplier0 = hn::Set(d, 0x7feb352dU);
    const auto multiplier1 = hn::Set(d, 0x846ca68bU);
    const auto low_half = hn::Set(d, 0xffffU);
    const auto infinity = hn::Set(d, 0x7f800000U);
    const auto magnitude = hn::Set(d, 0x7fffffffU);
    const auto quiet = hn::Set(d, 0x400000U);
    const auto rounded = [&](const float* x, std::int64_t element) {
        auto draw = hn::Xor(hn::Iota(d, static_cast<std::uint32_t>(element)), key0);
        draw = hn::Mul(hn::Xor(draw, hn::ShiftRight<16>(draw)), multiplier0);
        draw = hn::Xor(hn::Xor(draw, hn::ShiftRight<15>(draw)), key1);
        draw = hn::Mul(draw, multiplier1);
        draw = hn::Mul(hn::Xor(draw, hn::ShiftRight<16>(draw)), multiplier0);
        draw = hn::Xor(draw, hn::ShiftRight<15>(draw));
        const auto bits = hn::BitCast(d, hn::LoadU(df, x));
        const auto is_nan = hn::Gt(hn::And(bits, magnitude), infinity);
        const auto up_or_down = hn::Add(bits, hn::And(draw, low_half));
        // A NaN's rounding could carry into infinity: keep it quiet instead.
        return hn::ShiftRight<16>(hn::IfThenElse(is_nan, hn::Or(bits, quiet), up_or_down));
    };
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes)
        hn::StoreU(hn::TruncateTo(narrow, rounded(from + i, first + i)), narrow, to + i);
    if (i == count) return;
    HWY_ALIGN float rest[hn::MaxLanes(df)] = {};
    HWY_ALIGN std::uint16_t rest_rounded[hn::MaxLanes(df)];
    std::memcpy(rest, from + i, static_cast<std::size_t>(count - i) * sizeof(float));
    hn::StoreU(hn::TruncateTo(narrow, rounded(rest, first + i)), narrow, rest_rounded);
    std::memcpy(to + i, rest_rounded, static_cast<std::size_t>(count - i) * sizeof(std::uint16_t));
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(RoundStochastically);

void round_stochastically(const float* from, std::uint16_t* to, std::int64_t count, RoundingKey key,
                          std::int64_t first) {
    apply_isa_limit();
    HWY_DYNAMIC_DISPATCH(RoundStochastically)(from, to, count, key, first);
}

std::uint16_t round_stochastically_reference(float from, RoundingKey key, std::int64_t element) {
    auto draw = static_cast<std::uint32_t>(element) ^ static_cast<std::uint32_t>(key);
    draw = (draw ^ (draw >> 16U)) * 0x7feb352dU;
    draw = (draw ^ (draw >> 15U) ^ static_cast<std::uint32_t>(key >> 32U)) * 0x846ca68bU;
    draw = (draw ^ (draw >> 16U)) * 0x7feb352dU;
    draw ^= draw >> 15U;
    std::uint32_t bits = 0;
    std::memcpy(&bits, &from, 4);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits | 0x400000U) >> 16U);
    return static_cast<std::uint16_t>((bits + (draw & 0xffffU)) >> 16U);
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
