// Arithmetic of training and sampling, counted and not measured: what makes two ways of training comparable
// on any machine. A multiplication and an addition are two operations; norms, softmax and the optimiser are
// left out, being far below the matrices.
#pragma once

#include <cstdint>
#include <span>

#include "data/packing.h"
#include "model/config.h"

namespace retort::train {

struct TokenCounts {
    double tokens = 0;
    double scored = 0;  // that the head is computed for
    double pairs = 0;   // query–key pairs that attention computes

    void operator+=(const TokenCounts& other);
};
// Of packed rows; scored are the trained ones.
TokenCounts count_tokens(std::span<const data::PackedBatch> rows);
// Of `tokens` tokens decoded after `before` others of their sequence, the head computed for `scored` of them.
TokenCounts count_continuation(std::int64_t before, std::int64_t tokens, std::int64_t scored);

// Matrices of the layers, without embeddings and head.
double matrix_parameters(const model::ModelConfig& config);
// One forward pass. Training is three of them: the backward pass is two products for each forward one.
double forward_flop(const model::ModelConfig& config, const TokenCounts& counts);

}  // namespace retort::train
