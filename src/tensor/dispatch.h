// Keeps Highway's choice of instruction set below base::active_isa(), so that RETORT_ISA forces a lower path.
#pragma once

#include "base/cpu.h"

namespace retort::tensor {

// Does it once; called lazily at the door of each kernel, and cheap after the first time.
void apply_isa_limit();

// The path that kernels with several take: base::active_isa(), unless limit_isa() lowered it.
base::Isa kernel_isa();

// For tests: kernels called from now on take the path of `isa`, or of what the machine has when that is less.
// Not while other threads run kernels.
void limit_isa(base::Isa isa);

}  // namespace retort::tensor
