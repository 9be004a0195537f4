#include "formats/tensor_description.h"

namespace retort::formats {

std::int64_t TensorDescription::elements() const {
    std::int64_t product = 1;
    for (const std::int64_t size : shape) product *= size;
    return product;
}

std::uint64_t TensorDescription::bytes() const {
    return static_cast<std::uint64_t>(tensor::dtype_bytes(dtype, elements()));
}

}  // namespace retort::formats
