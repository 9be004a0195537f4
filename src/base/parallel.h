// One pool of threads for the whole process (OpenMP's, which oneDNN uses too, so the two never fight).
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace retort::base {

inline int thread_count() {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

inline void set_thread_count([[maybe_unused]] int threads) {
#ifdef _OPENMP
    omp_set_num_threads(threads);
#endif
}

// Calls body(begin, end) on contiguous shares of [0, count), one share a thread, the split depending only on
// count and the number of threads: results are the same at each run. Runs inline when count < 2 * grain.
template <typename Body>
void parallel_ranges(std::int64_t count, std::int64_t grain, const Body& body) {
    const std::int64_t threads =
        std::min<std::int64_t>(thread_count(), count / std::max<std::int64_t>(grain, 1));
    if (threads <= 1) {
        if (count > 0) body(std::int64_t{0}, count);
        return;
    }
#pragma omp parallel for num_threads(static_cast <int>(threads)) schedule(static, 1)
    for (std::int64_t t = 0; t < threads; ++t) {
        body(count * t / threads, count * (t + 1) / threads);
    }
}

// Calls body(index) for each index, handed out one at a time: for work of uneven size whose results do not
// depend on which thread does it.
template <typename Body>
void parallel_each(std::int64_t count, const Body& body) {
#pragma omp parallel for schedule(dynamic, 1)
    for (std::int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace retort::base
