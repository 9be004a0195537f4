// Per-token losses over rows of logits, and their gradients in place: what the fused head works through tile
// by tile. p is the teacher's distribution, q the student's, y the target token (docs/objectives.md). Here
// the teacher's logits are dense; sparse targets are token_loss_sparse.h, on-policy losses
// token_loss_policy.h.
#pragma once

#include <cstdint>
#include <string_view>

namespace retort::tensor {

enum class Divergence : std::uint8_t {
    fkl,       // KL(p‖q)
    rkl,       // KL(q‖p); infinite where p is 0 and q is not
    jsd,       // β·KL(p‖m) + (1−β)·KL(q‖m), m = βp + (1−β)q; β = 0 and 1 mean fkl and rkl
    skew_fkl,  // KL(p‖αp + (1−α)q)
    skew_rkl,  // KL(q‖(1−α)p + αq)
    tvd,       // ½Σ|p − q|; where p = q within rounding the gradient's sign is 0
};

struct TokenLossWeights {
    float ce = 1.0F;          // of −log q(y)
    float divergence = 0.0F;  // of T²·D(p_T, q_T); needs the teacher
    Divergence kind = Divergence::fkl;
    float parameter = 0.5F;    // β of jsd in [0,1], α of the skewed in [0,1)
    float temperature = 1.0F;  // T
    float scale = 1.0F;        // on the gradient: 1 / trained tokens of the whole step
};

// What a row gave, unscaled. A row with a logit that is NaN, or without a finite largest one, gives NaN, and
// a gradient of NaN.
struct TokenLoss {
    double ce = 0;          // −log q(y), natural log, at temperature 1
    double divergence = 0;  // T²·D(p_T, q_T)
    bool agrees = false;    // the first argmax of p is an argmax of q
};

// student (rows, vocab) is replaced by scale · d loss / d logits. teacher (rows, vocab), overwritten as
// scratch, may be null when weights.divergence is 0. Rows are independent; each is summed in blocks, in
// double between blocks. Logits of −∞ are probabilities of 0.
void token_loss(float* student, float* teacher, const std::int32_t* targets, std::int64_t rows,
                std::int64_t vocab, const TokenLossWeights& weights, TokenLoss* losses);

// fkl and rkl in place of jsd, skew-fkl and skew-rkl at the ends of their parameter's range.
Divergence effective_kind(const TokenLossWeights& weights);

// One term φ(p, q) of a divergence D = Σφ, and ∂φ/∂q up to a constant that is the same for all terms of the
// sum; both 0-safe. What the sparse losses and the references are made of.
struct DivergenceTerm {
    double value = 0;
    double slope = 0;
};
DivergenceTerm divergence_term(Divergence kind, double parameter, double p, double q);

// Dense, in double precision: loss of one row and its gradient (vocab), not scaled.
TokenLoss token_loss_reference(const float* student, const float* teacher, std::int32_t target,
                               std::int64_t vocab, const TokenLossWeights& weights, double* gradient);

}  // namespace retort::tensor
