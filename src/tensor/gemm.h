// Dense matrix products, row-major, on oneDNN: the one place that knows it. All training flops pass here.
// Called inside a parallel region, a product runs on the calling thread alone.
#pragma once

#include <cstdint>

namespace retort::tensor {

// c (m,n) = alpha · op(a) · op(b) + beta · c, with op(a) (m,k) and op(b) (k,n); `lda` and so on are row
// strides of the matrices as stored.
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc);

// The same with bf16 inputs (bits in uint16) and f32 accumulation and output, beta 0 or 1. With bf16 hardware
// this is oneDNN's; elsewhere the inputs are widened, which gives the same products at f32's speed.
void gemm_bf16(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               const std::uint16_t* a, std::int64_t lda, const std::uint16_t* b, std::int64_t ldb, float beta,
               float* c, std::int64_t ldc);

// Whether gemm_bf16 runs on bf16 hardware under the active ISA.
bool has_fast_bf16();

// Plain loops in double precision: what the tests hold the others to.
void gemm_reference(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                    float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                    float beta, float* c, std::int64_t ldc);

}  // namespace retort::tensor
