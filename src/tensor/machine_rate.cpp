#include "tensor/machine_rate.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "tensor/gemm.h"
#include "tensor/quantised.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/machine_rate.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
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

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(ReadAll);

namespace {

// Small numbers of many values: a product of zeros may be quicker than one of weights.
void fill(Buffer<float>& wide, Buffer<std::uint16_t>& narrow, std::int64_t period) {
    const auto value = [&](std::int64_t i) { return static_cast<float>(i % period) / 16.0F - 0.5F; };
    for (std::int64_t i = 0; i < wide.size(); ++i) wide.data()[i] = value(i);
    for (std::int64_t i = 0; i < narrow.size(); ++i) narrow.data()[i] = f32_to_bf16(value(i));
}

}  // namespace

GemmProbe::GemmProbe(GemmSize size, bool bf16)
    : size_(size),
      a_(bf16 ? 0 : size.m * size.k),
      b_(bf16 ? 0 : size.n * size.k),
      c_(size.m * size.n),
      a16_(bf16 ? size.m * size.k : 0),
      b16_(bf16 ? size.n * size.k : 0) {
    fill(a_, a16_, 17);
    fill(b_, b16_, 13);
}

std::size_t GemmProbe::bytes() const {
    return a_.bytes() + b_.bytes() + c_.bytes() + a16_.bytes() + b16_.bytes();
}

double GemmProbe::measure() {
    const auto [m, n, k] = size_;
    const double start = base::monotonic_seconds();
    if (a_.empty()) {
        gemm_bf16(false, true, m, n, k, a16_.data(), k, b16_.data(), k, 0.0F, c_.data(), n);
    } else {
        gemm(false, true, m, n, k, 1.0F, a_.data(), k, b_.data(), k, 0.0F, c_.data(), n);
    }
    const double seconds = base::monotonic_seconds() - start;
    const double rate =
        2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / seconds;
    best_ = std::max(best_, rate);
    return rate;
}

Result<double> gemm_rate(GemmSize size, bool bf16, double seconds) {
    GemmProbe probe(size, bf16);
    probe.measure();
    const double end = base::monotonic_seconds() + seconds;
    do {
        if (base::interrupted()) return fail(ErrorCode::cancelled, "interrupted");
        probe.measure();
    } while (base::monotonic_seconds() < end);
    return probe.best();
}

Result<double> memory_read_rate(std::int64_t bytes, int rounds) {
    const std::int64_t count = bytes / static_cast<std::int64_t>(sizeof(std::uint64_t));
    Buffer<std::uint64_t> memory;  // in huge pages, as the weights are
    try {
        memory = Buffer<std::uint64_t>(count);
    } catch (const std::bad_alloc&) {
        return fail(ErrorCode::io, "cannot allocate {} bytes to read", bytes);
    }
    std::uint64_t* words = memory.data();
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

}  // namespace retort::tensor
#endif
