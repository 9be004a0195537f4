// Draws that the laboratory's files share. Knows nobody.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/random.h"
#include "laboratory/traffic.h"

namespace retort::laboratory {

inline std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
    return base::RandomStream(a, b).next_u64();
}

inline double log_normal(base::RandomStream& random, double median, double sigma) {
    return median * std::exp(sigma * random.normal());
}

// No two campaigns have a theme in common.
inline std::uint64_t theme_number(const CampaignOptions& options) {
    return static_cast<std::uint64_t>(options.family) * 5003 + options.number;
}

template <typename T>
const T& pick(const std::vector<T>& list, base::RandomStream& random) {
    return list[random.below(list.size())];
}

// How many requests somebody makes on a day who means to make `mean`.
inline std::uint32_t day_count(double mean, base::RandomStream& random) {
    return static_cast<std::uint32_t>(
        std::max(0.0, std::floor(mean + std::sqrt(mean) * random.normal() * 0.5 + random.uniform())));
}

// What a tool, company, class or bureau has in common.
struct Group {
    base::RandomStream random;
    Group(std::uint64_t seed, Honest kind, std::uint32_t group)
        : random(seed, (std::uint64_t{1} << 50U) + static_cast<std::uint64_t>(kind) * 1'000'000 + group) {}
};

}  // namespace retort::laboratory
