#include "generate/speculation.h"

#include <algorithm>
#include <vector>

#include "generate/vocabulary.h"

namespace retort::generate {

std::int32_t accept_or_replace(std::int32_t drafted, std::span<const float> draft,
                               std::span<const float> target, base::RandomStream& random) {
    const auto at = static_cast<std::size_t>(drafted);
    if (random.uniform() * static_cast<double>(draft[at]) < static_cast<double>(target[at])) return drafted;
    std::vector<float> rest(target.size());
    bool any = false;
    for (std::size_t i = 0; i < target.size(); ++i) {
        rest[i] = std::max(0.0F, target[i] - draft[i]);
        any = any || rest[i] > 0.0F;
    }
    // Nowhere above q, though p < q at the drafted token: both are p up to rounding.
    return draw(any ? std::span<const float>(rest) : target, random.uniform());
}

}  // namespace retort::generate
