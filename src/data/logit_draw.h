// Entries of a logit cache from a teacher's logits: N draws, or the largest K.
#pragma once

#include <cstdint>

#include "base/random.h"
#include "data/logit_cache.h"

namespace retort::data {

// Appends one token's entries. logits (vocab) are overwritten as scratch.
// N stratified draws from softmax(logits/T): values are counts/N, with p's entropy beside them.
void draw_samples(float* logits, std::int64_t vocab, double temperature, std::int64_t draws,
                  base::RandomStream& random, TokenEntries& entries);
// The `count` largest of softmax(logits/T), of equal ones those of lower id, and the mass of all others.
void keep_largest(float* logits, std::int64_t vocab, double temperature, std::int64_t count,
                  TokenEntries& entries);

// The draws of a record's token, whatever was drawn before it: a cache that is made in two goes is the same.
base::RandomStream draw_stream(std::uint64_t seed, std::string_view record_id, std::int64_t token);

}  // namespace retort::data
