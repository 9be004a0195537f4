// A tensor that a writer is to write: its line in the table at the head of the file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace retort::formats {

struct TensorDescription {
    std::string name;
    tensor::DType dtype = tensor::DType::f32;
    std::vector<std::int64_t> shape;  // outermost first

    [[nodiscard]] std::int64_t elements() const;
    [[nodiscard]] std::uint64_t bytes() const;
};

}  // namespace retort::formats
