// Token losses against a teacher of whose distribution only some entries are kept, as a logit cache keeps
// them (docs/formats/logit_cache.md). No teacher's row is ever made dense.
#pragma once

#include <cstdint>

#include "tensor/token_loss.h"

namespace retort::tensor {

// Of `rows` tokens, end to end. ids within a row are distinct.
struct SparseTargets {
    const std::int64_t* starts = nullptr;  // (rows + 1) into ids and values
    const std::int32_t* ids = nullptr;
    const float* values = nullptr;  // probabilities, or counts/N
    // Sampled: values are counts of draws from p_T over N. The loss is KL(ĉ‖q_T) in gradient, which is
    // unbiased for fkl, and −Σĉ·log q_T − H(p_T) in value, which is unbiased for KL(p_T‖q_T). fkl only.
    // Otherwise values are p's largest, and what is outside them is one bucket of mass `tails`: the
    // divergence of the distributions over those ids and the bucket, so Σ_K p·log(p/q) +
    // (1−P_K)·log((1−P_K)/(1−Q_K)) for fkl. The head is never renormalised.
    // A row without any entry is one of which nothing is known but the token written there: −log q(y) at
    // temperature 1 takes the divergence's place, in value and gradient, and agrees is of that token.
    bool sampled = false;
    const float* entropies = nullptr;  // (rows) H(p_T), with sampled
    const float* tails = nullptr;      // (rows) 1 − P_K, otherwise
    // Temperature that the values were made at. When it is 1 and the loss has another, both sides'
    // bucketed distributions are tempered, bucket included; any other mismatch is the caller's error.
    float temperature = 1.0F;
};

// As token_loss(): student (rows, vocab) is replaced by scale · d loss / d logits. agrees: the id of the
// largest value is an argmax of q.
void sparse_token_loss(float* student, const SparseTargets& teacher, const std::int32_t* targets,
                       std::int64_t rows, std::int64_t vocab, const TokenLossWeights& weights,
                       TokenLoss* losses);

// The same of one row in double precision, with its gradient (vocab), not scaled.
TokenLoss sparse_token_loss_reference(const float* student, const SparseTargets& teacher, std::int32_t target,
                                      std::int64_t vocab, const TokenLossWeights& weights, double* gradient);

}  // namespace retort::tensor
