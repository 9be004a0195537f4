// Per-token losses over rows of logits, and their gradients in place: what the fused head works through tile
// by tile. p is the teacher's distribution, q the student's, y the target token (docs: distillation
// objectives).
#pragma once

#include <cstdint>

namespace retort::tensor {

struct TokenLossWeights {
    float ce = 1.0F;           // of −log q(y)
    float fkl = 0.0F;          // of T²·KL(p_T ‖ q_T); needs teacher logits
    float temperature = 1.0F;  // T
    float scale = 1.0F;        // on the gradient: 1 / trained tokens of the whole step
};

// What a row gave, unscaled.
struct TokenLoss {
    double ce = 0;        // −log q(y), natural log, at temperature 1
    double fkl = 0;       // T²·KL(p_T ‖ q_T)
    bool agrees = false;  // argmax p = argmax q
};

// student (rows, vocab) is replaced by scale · d loss / d logits. teacher (rows, vocab), overwritten as
// scratch, may be null when weights.fkl is 0. Rows are independent; each is summed in blocks, in double
// between blocks.
void token_loss(float* student, float* teacher, const std::int32_t* targets, std::int64_t rows,
                std::int64_t vocab, const TokenLossWeights& weights, TokenLoss* losses);

// Dense, in double precision: loss of one row and its gradient (vocab), not scaled.
TokenLoss token_loss_reference(const float* student, const float* teacher, std::int32_t target,
                               std::int64_t vocab, const TokenLossWeights& weights, double* gradient);

}  // namespace retort::tensor
