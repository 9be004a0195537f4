#include "tensor/dtype.h"

#include <array>

namespace retort::tensor {

const DTypeInfo& dtype_info(DType dtype) {
    static constexpr std::array<DTypeInfo, 13> table = {{
        {"f32", 1, 4},
        {"f16", 1, 2},
        {"bf16", 1, 2},
        {"q8_0", 32, 34},
        {"q4_0", 32, 18},
        {"q4_1", 32, 20},
        {"q5_0", 32, 22},
        {"q5_1", 32, 24},
        {"q2_k", 256, 84},
        {"q3_k", 256, 110},
        {"q4_k", 256, 144},
        {"q5_k", 256, 176},
        {"q6_k", 256, 210},
    }};
    return table[static_cast<std::size_t>(dtype)];
}

}  // namespace retort::tensor
