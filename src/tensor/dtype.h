// The number formats of weights, and how many bytes they take. Block formats are GGUF's, named as there.
#pragma once

#include <cstdint>
#include <string_view>

namespace retort::tensor {

enum class DType : std::uint8_t {
    f32,
    f16,
    bf16,
    q8_0,
    q4_0,
    q4_1,
    q5_0,
    q5_1,
    q2_k,
    q3_k,
    q4_k,
    q5_k,
    q6_k,
};

struct DTypeInfo {
    std::string_view name;        // "f32", "q4_1", "q6_k"
    std::int64_t block_elements;  // elements a block; 1 for plain formats
    std::int64_t block_bytes;
};

const DTypeInfo& dtype_info(DType dtype);

// Bytes of `elements` in a row; elements must be a multiple of the block.
inline std::int64_t dtype_bytes(DType dtype, std::int64_t elements) {
    const DTypeInfo& info = dtype_info(dtype);
    return elements / info.block_elements * info.block_bytes;
}

inline bool is_quantised(DType dtype) {
    return dtype >= DType::q8_0;
}

}  // namespace retort::tensor
