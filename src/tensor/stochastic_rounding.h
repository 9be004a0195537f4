// f32 rounded to bf16 up or down by chance, in proportion to how near each is: right on average, so that sums
// of small updates do not stand still as they do when each is rounded to nearest. The draws are a function of
// a key and of the element's number alone: the same whatever the number of threads, the vectors, or where a
// run was interrupted.
#pragma once

#include <cstdint>

namespace retort::tensor {

// Of one use: another for each buffer and each step.
using RoundingKey = std::uint64_t;

// to[i] becomes from[i] rounded by the draw of element first + i. What bf16 has exactly is kept; a NaN stays
// one. Runs in the calling thread.
void round_stochastically(const float* from, std::uint16_t* to, std::int64_t count, RoundingKey key,
                          std::int64_t first);

// Of one element, in plain code: what tests compare with.
std::uint16_t round_stochastically_reference(float from, RoundingKey key, std::int64_t element);

}  // namespace retort::tensor
