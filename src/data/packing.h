// From records to what a training step reads: token ids with a loss mask, packed into rows of fixed length.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace retort::data {

// One conversation as tokens. trained[i] is 1 when the model is to learn to predict tokens[i] (an assistant's
// token).
struct Example {
    std::vector<std::int32_t> tokens;
    std::vector<std::uint8_t> trained;
    std::string record_id;
};

// Sequences laid end to end; attention is causal within each and never crosses into another.
struct PackedBatch {
    std::vector<std::int32_t> tokens;  // (length)
    std::vector<std::int32_t>
        targets;  // (length) the next token of the same sequence where it is trained, else -1
    std::vector<std::int32_t> positions;        // (length) restart at 0 in each sequence
    std::vector<std::int32_t> sequence_starts;  // (sequences + 1) first index of each, then the length
    std::vector<std::int32_t> example_indices;  // (sequences) which Example each one is
    std::int64_t trained_tokens = 0;            // targets that are not -1
};

// Best-fit decreasing into rows of at most `row_length`; deterministic. An example longer than a row is an
// error that names its record: never cut silently.
Result<std::vector<PackedBatch>> pack(std::span<const Example> examples, std::int64_t row_length);

}  // namespace retort::data
