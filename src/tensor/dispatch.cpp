#include "tensor/dispatch.h"

#include <hwy/targets.h>

#include <algorithm>
#include <atomic>

namespace retort::tensor {

namespace {

std::atomic<base::Isa> limit = base::Isa::amx;

}  // namespace

base::Isa kernel_isa() {
    return std::min(limit.load(std::memory_order_relaxed), base::active_isa());
}

void limit_isa(base::Isa isa) {
    limit.store(isa, std::memory_order_relaxed);
    // Highway numbers x86 targets from newest (lowest bit) to the baseline, SSE2.
    std::int64_t disabled = 0;
    if (isa < base::Isa::avx512) disabled |= HWY_AVX3 | (HWY_AVX3 - 1);
    if (isa < base::Isa::avx2) disabled |= HWY_AVX2 | HWY_SSE4 | HWY_SSSE3;
    hwy::DisableTargets(disabled);
}

void apply_isa_limit() {
    static const bool done = [] {
        limit_isa(base::active_isa());
        return true;
    }();
    (void)done;
}

}  // namespace retort::tensor
