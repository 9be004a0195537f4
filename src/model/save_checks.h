// What the writers of models check alike. Internal to the part.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/save.h"

namespace retort::model {

// The tensors that a file of this config holds, in the order of the layers; an error names one that is
// missing, of a wrong shape, given twice, or unknown. A tied head is left out.
Result<std::vector<const NamedTensor*>> tensors_to_write(const ModelConfig& config,
                                                         std::span<const NamedTensor> tensors);

}  // namespace retort::model
