// Losses on the student's own samples: each is a weight on the gradient of log q(y), from the
// log-probabilities that the sample had when it was drawn and what its advantage is (docs/objectives.md). gkd
// on such samples is token_loss() with jsd. Knows nothing of sampling, rewards or groups.
#pragma once

#include <cstdint>
#include <limits>

#include "tensor/token_loss.h"

namespace retort::tensor {

// One sampled token.
struct PolicyToken {
    float advantage = 0;          // A, a constant to the gradient
    float old_logprob = 0;        // log q_old(y) at the policy's temperature
    float reference_logprob = 0;  // log q_ref(y), for the KL term only
    float weight = 1;             // on this token's loss, as 1/length where sequences count alike
};

// L = −min(ρ·A, clip(ρ, 1 − clip_low, 1 + clip_high)·A) + kl·(e^d − d − 1),
// ρ = exp(log q(y) − log q_old(y)), d = log q_ref(y) − log q(y).
struct PolicyWeights {
    float clip_low = std::numeric_limits<float>::infinity();  // ε below; infinite: not clipped (opd)
    float clip_high = std::numeric_limits<float>::infinity();
    float kl = 0.0F;
    float temperature = 1.0F;  // that samples were drawn at: log q is of logits/T
    float scale = 1.0F;        // on the gradient: 1 / trained tokens of the whole step
};

struct PolicyLoss {
    double loss = 0;     // L·weight, unscaled
    double logprob = 0;  // log q(y)
    double ratio = 1;    // ρ
    double kl = 0;       // e^d − d − 1, when asked for
    double entropy = 0;  // of q, in nats
    bool clipped = false;
};

// opd's advantage, −(log q_old(y) − log p(y)): its expectation is −KL(q_old‖p).
inline float opd_advantage(float old_logprob, float teacher_logprob) {
    return teacher_logprob - old_logprob;
}

// student (rows, vocab) is replaced by scale · d loss / d logits.
void policy_loss(float* student, const std::int32_t* targets, const PolicyToken* tokens, std::int64_t rows,
                 std::int64_t vocab, const PolicyWeights& weights, PolicyLoss* losses);

// log softmax(logits/T)[target] of each row (rows, vocab); logits are left as they are.
void token_logprobs(const float* logits, const std::int32_t* targets, std::int64_t rows, std::int64_t vocab,
                    float temperature, float* logprobs);

// What policy_loss() computes from log q(y): loss (unweighted), slope = dL/d(log q(y)).
struct PolicyTerm {
    double loss = 0;
    double slope = 0;
    double ratio = 1;
    double kl = 0;
    bool clipped = false;
};
PolicyTerm policy_term(double logprob, const PolicyToken& token, const PolicyWeights& weights);

}  // namespace retort::tensor
