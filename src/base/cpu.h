// What this processor can do, and what the kernels may use of it. RETORT_ISA=scalar|avx2|avx512|avx512_bf16
// forces a lower path, so that every path a machine has is tested on it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::base {

enum class Isa { scalar, avx2, avx512, avx512_bf16, amx };

Isa detected_isa();
// detected_isa() lowered by RETORT_ISA; an unknown word, or one above what the machine has, is an error that
// check_isa_environment() reports and active_isa() ignores.
Isa active_isa();
Status check_isa_environment();
std::string_view isa_name(Isa isa);
// "AMD EPYC, 2 cores"
std::string cpu_description();

}  // namespace retort::base
