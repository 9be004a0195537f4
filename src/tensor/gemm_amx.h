// tensor/gemm.h's products of bf16 in AMX's tiles. oneDNN has such products too; these read packed panels
// that fit the first cache, which gives a thread twice the rate where two share a core. Internal to the part.
#pragma once

#include <cstdint>

namespace retort::tensor {

// Whether gemm_amx() takes these sizes: the active path has AMX, and what is not padded is whole tiles.
bool gemm_amx_fits(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k);

// Where a product goes: c = addend + a·b in f32, or rounded to bf16. The addend may be c itself, or null.
struct GemmOutput {
    float* c = nullptr;
    const float* addend = nullptr;    // with c's row stride
    std::uint16_t* narrow = nullptr;  // instead of c
    std::int64_t stride = 0;
};

// As gemm_bf16(); not with transposed a and transposed b. An element's sum runs along k in steps of 32,
// whatever the number of threads.
void gemm_amx(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
              const std::uint16_t* a, std::int64_t lda, const std::uint16_t* b, std::int64_t ldb,
              const GemmOutput& output);

}  // namespace retort::tensor
