// Speculative sampling's rule (Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative
// Decoding", 2023; Chen et al. 2023): a token that a small model drew from q is kept or replaced so that what
// results is distributed as the large model's p. Knows distributions, no model and no request.
#pragma once

#include <cstdint>
#include <span>

#include "base/random.h"

namespace retort::generate {

// `drafted` was drawn from `draft` (vocab, sum 1). Kept with probability min(1, p/q); otherwise a draw from
// max(0, p − q), normalised, which never is `drafted`. `target`: p (vocab, sum 1). Whatever q is, the result
// is distributed as p.
std::int32_t accept_or_replace(std::int32_t drafted, std::span<const float> draft,
                               std::span<const float> target, base::RandomStream& random);

}  // namespace retort::generate
