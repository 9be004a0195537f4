#include "cli/memory_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cli/memory_bandwidth.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace retort::cli::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The sum keeps the compiler from dropping the loads. Four accumulators: one would wait for its own addition.
std::uint64_t ReadAll(const std::uint64_t* HWY_RESTRICT words, std::int64_t count) {
    const hn::ScalableTag<std::uint64_t> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto sum0 = hn::Zero(d);
    auto sum1 = hn::Zero(d);
    auto sum2 = hn::Zero(d);
    auto sum3 = hn::Zero(d);
    std::int64_t i = 0;
    for (; i + 4 * lanes <= count; i += 4 * lanes) {
        sum0 = hn::Add(sum0, hn::LoadU(d, words + i));
        sum1 = hn::Add(sum1, hn::LoadU(d, words + i + lanes));
        sum2 = hn::Add(sum2, hn::LoadU(d, words + i + 2 * lanes));
        sum3 = hn::Add(sum3, hn::LoadU(d, words + i + 3 * lanes));
    }
    std::uint64_t total = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
    for (; i < count; ++i) total += words[i];
    return total;
}

}  // namespace retort::cli::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::cli {

HWY_EXPORT(ReadAll);

Result<double> memory_read_rate(std::int64_t bytes, int rounds) {
    const std::int64_t count = bytes / static_cast<std::int64_t>(sizeof(std::uint64_t));
    const std::unique_ptr<void, decltype(&std::free)> memory(
        std::aligned_alloc(4096, static_cast<std::size_t>(bytes) / 4096 * 4096), &std::free);
    if (!memory) return fail(ErrorCode::io, "cannot allocate {} bytes to read", bytes);
    auto* words = static_cast<std::uint64_t*>(memory.get());
    base::parallel_ranges(count, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) words[i] = static_cast<std::uint64_t>(i);
    });

    const auto expected = static_cast<std::uint64_t>(count) * static_cast<std::uint64_t>(count - 1) / 2;
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
        if (base::interrupted()) return fail(ErrorCode::cancelled, "interrupted");
        std::atomic<std::uint64_t> sum{0};
        const double start = base::monotonic_seconds();
        base::parallel_ranges(count, 1, [&](std::int64_t begin, std::int64_t end) {
            sum += HWY_DYNAMIC_DISPATCH(ReadAll)(words + begin, end - begin);
        });
        const double seconds = base::monotonic_seconds() - start;
        if (sum != expected) return fail(ErrorCode::internal, "memory read back a wrong sum: faulty memory?");
        best = std::max(best, static_cast<double>(bytes) / seconds);
    }
    return best;
}

}  // namespace retort::cli
#endif
