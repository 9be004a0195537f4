// Unpacking of one block of each block format; the layouts are docs/formats/gguf.md. Internal to the part:
// others call dequantise().
#pragma once

#include <cstddef>

#include "tensor/dtype.h"

namespace retort::tensor {

using BlockUnpacker = void (*)(const std::byte* block, float* to);

// Null for the plain formats.
BlockUnpacker block_unpacker(DType dtype);

}  // namespace retort::tensor
