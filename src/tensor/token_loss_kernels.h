// Passes over one row of logits, on the machine's vectors: what the token losses are composed of. Sums are of
// f32 within a block, of double between blocks.
#pragma once

#include <cstdint>

#include "tensor/token_loss.h"

namespace retort::tensor::row {

// NaN when any logit is.
float largest(const float* logits, std::int64_t size);
// The first index of `value`, or size.
std::int64_t find(const float* logits, std::int64_t size, float value);
// Σ exp((logits − top)·rate).
double sum_exponentials(const float* logits, std::int64_t size, float top, float rate);
// The same, the exponentials stored; to may be logits.
double exponentials(const float* logits, std::int64_t size, float top, float rate, float* to);
// The same in place, with gap = Σ e·(logits − top)·rate, of which the entropy is made.
struct EntropySums {
    double sum = 0;
    double gap = 0;
};
EntropySums entropy_exponentials(float* logits, std::int64_t size, float top, float rate);
void scale(float* values, std::int64_t size, float factor);
// values += other·factor
void add_scaled(float* values, const float* other, std::int64_t size, float factor);

// A row's two sides, turned in place into unnormalised probabilities and what the gradient needs.
struct Pair {
    float* student;  // logits, then exp((s − student_top)·rate)
    float* teacher;  // logits, then as each pass says
    std::int64_t size;
    float student_top;
    float teacher_top;
    float rate;
};
struct PairSums {
    double student = 0;  // Σ of the student's exponentials
    double teacher = 0;
    double gap = 0;
};
// teacher: its exponentials. gap = Σ e_t·(t − s)·rate.
PairSums forward_gap(const Pair& pair);
// teacher: (s − t)·rate. gap = Σ e_s·(s − t)·rate.
PairSums reverse_gap(const Pair& pair);
// teacher: its exponentials. No gap.
PairSums both_exponentials(const Pair& pair);

struct MixtureSums {
    double value = 0;  // Σ φ(p, q)
    double slope = 0;  // Σ q·g
};
// Exponentials as both_exponentials left them, of which 1/sum makes p and q: jsd, skew_fkl, skew_rkl, tvd.
// teacher becomes g = ∂φ/∂q.
MixtureSums mixture_terms(Divergence kind, float parameter, const Pair& pair, const PairSums& sums);

// student = student·a − teacher·b
void scale_subtract(float* student, const float* teacher, std::int64_t size, float a, float b);
// student = student·(teacher·a + b), 0 where student is 0
void multiply_slope(float* student, const float* teacher, std::int64_t size, float a, float b);

// The plain softmax of `ce`, where the divergence has another temperature.
struct PlainSoftmax {
    double sum = 0;
    const float* exponentials =
        nullptr;  // this thread's, until its next call; only when its gradient is wanted
};
PlainSoftmax plain_softmax(const float* student, std::int64_t vocab, float top, bool with_gradient);

// What a row without a finite largest logit gives.
TokenLoss not_a_number(float* student, std::int64_t vocab);

}  // namespace retort::tensor::row
