// Scores of positions from logits that arrive in pieces of the vocabulary: likelihood of the target,
// KL(p‖q), the first choices and how sure the models are of them. p is the teacher's distribution, q the
// student's. Softmax sums are merged as they come (running maximum), in double, so that nothing of size
// positions × vocabulary is ever held. Knows nothing of models or files.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace retort::evaluate {

struct TokenScore {
    double student_nll = 0;         // −log q(target), natural log
    double teacher_nll = 0;         // −log p(target); this and the teacher's others are 0 without a teacher
    double kl = 0;                  // KL(p‖q)
    double teacher_entropy = 0;     // of p
    double student_confidence = 0;  // q of the student's first choice
    double teacher_confidence = 0;
    std::int32_t student_choice = -1;  // argmax, the lowest id among equals
    std::int32_t teacher_choice = -1;
};

class TokenMetrics {
  public:
    // Begins a tile of targets.size() rows.
    void start(std::span<const std::int32_t> targets);

    // Logits (rows, count) of tokens [first_token, first_token + count) for every row of the tile; each token
    // must come exactly once. teacher is null in every call of a tile, or in none.
    void add_chunk(std::int64_t first_token, std::int64_t count, const float* student, const float* teacher);

    // Fails where a logit was NaN or +∞, or a target never came.
    Status finish(std::vector<TokenScore>& scores) const;

  private:
    struct RunningSoftmax {
        double top = 0;  // running maximum; sums are of exp(logit − top)
        double sum = 0;
        double target_logit = 0;
        std::int32_t choice = -1;
        bool invalid = false;
    };
    struct Row {
        RunningSoftmax student;
        RunningSoftmax teacher;
        double gap = 0;            // Σ exp(t − top)·(t − s)
        double teacher_logit = 0;  // Σ exp(t − top)·t
        std::int32_t target = 0;
        bool target_seen = false;
    };
    static void merge(Row& row, std::int64_t first_token, std::int64_t count, const float* student,
                      const float* teacher);

    std::vector<Row> rows_;
    bool has_teacher_ = false;
};

}  // namespace retort::evaluate
