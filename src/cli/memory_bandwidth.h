// How fast this machine reads memory with every thread: the limit of decoding one sequence.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace retort::cli {

// Best of `rounds` passes over `bytes` of freshly written memory, in bytes a second.
Result<double> memory_read_rate(std::int64_t bytes, int rounds);

}  // namespace retort::cli
