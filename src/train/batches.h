// Which packed rows make which step, and how several rows become one batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/packing.h"
#include "model/transformer.h"

namespace retort::train {

// Rows of step `step`: each epoch is a permutation drawn from (seed, epoch), read on without a break at its
// end, so the rows of a step are a function of its number alone.
std::vector<std::int64_t> rows_of_step(std::int64_t row_count, std::int64_t rows_per_step, std::uint64_t seed,
                                       std::int64_t step);

// Several rows laid end to end.
struct Batch {
    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> targets;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> sequence_starts;
    std::int64_t trained_tokens = 0;

    [[nodiscard]] model::TokenBatch token_batch() const { return {tokens, positions, sequence_starts}; }
};

Batch join_rows(std::span<const data::PackedBatch> rows, std::span<const std::int64_t> indices);

}  // namespace retort::train
