// A smaller model out of a larger one by leaving layers out (Minitron, Muralidharan et al. 2024; ShortGPT,
// Men et al. 2024). What is left is far from the teacher until it is trained.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/parameters.h"
#include "model/transformer.h"

namespace retort::model {

// Block influence of each layer over the given text: 1 − mean cosine between what enters it and what leaves
// it. A layer that hardly turns the residual stream is hardly missed. With `run` above 1, of each run of so
// many layers, by its first.
std::vector<double> block_influence(const Parameters& parameters, std::span<const TokenBatch> batches,
                                    std::int64_t run = 1);

// The `keep` layers of greatest influence, the first and the last always among them; in order.
Result<std::vector<std::int64_t>> most_influential_layers(std::span<const double> influence,
                                                          std::int64_t keep);

// All but one run of layers, the one of least influence of those of its length (block_influence with a run of
// layer_count − keep); the first and the last layer stay.
Result<std::vector<std::int64_t>> layers_around_a_run(std::span<const double> influence,
                                                      std::int64_t layer_count, std::int64_t keep);

// `keep` layers spread evenly, the first and the last among them.
Result<std::vector<std::int64_t>> evenly_spread_layers(std::int64_t layer_count, std::int64_t keep);

// The same model with only the given layers, in the given order.
Result<Parameters> keep_layers(const Parameters& parameters, std::span<const std::int64_t> layers);

}  // namespace retort::model
