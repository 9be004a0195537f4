#include "tensor/dispatch.h"

#include <hwy/targets.h>

namespace retort::tensor {

void limit_isa(base::Isa isa) {
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
