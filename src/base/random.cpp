#include "base/random.h"

#include <cmath>
#include <numbers>

namespace retort::base {

namespace {
// Finaliser of SplitMix64 (Steele, Lea, Flood 2014).
std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
}
constexpr std::uint64_t golden_gamma = 0x9e3779b97f4a7c15U;
}  // namespace

RandomStream::RandomStream(std::uint64_t seed, std::uint64_t stream)
    : origin_(mix(mix(seed + golden_gamma) ^ mix(stream * golden_gamma + 0x632be59bd9b4e019U))) {}

std::uint64_t RandomStream::next_u64() {
    return mix(origin_ + golden_gamma * ++counter_);
}

double RandomStream::uniform() {
    return static_cast<double>(next_u64() >> 11U) * 0x1.0p-53;
}

std::uint64_t RandomStream::below(std::uint64_t bound) {
    const std::uint64_t reject_below = (0 - bound) % bound;  // 2^64 mod bound
    for (;;) {
        const std::uint64_t value = next_u64();
        if (value >= reject_below) return value % bound;
    }
}

double RandomStream::normal() {
    const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace retort::base
