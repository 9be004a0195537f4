// Products with repacked weights by AVX-512's integer dot products (VNNI), which every machine with bf16
// products has. The same bits as packed_products' portable kernels: sums of whole numbers are exact, and
// scales join them in the same order. Internal to the part.
#pragma once

#include "tensor/linear_packed.h"

namespace retort::tensor {

// As packed_products.
void packed_products_vnni(const PackedMatrix& matrix, std::int64_t first, std::int64_t last,
                          const PackedActivations& x, float* out, std::int64_t out_stride);

// pack_activations(), for the same machines.
void pack_activations_vnni(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t last,
                           PackedActivations& to);

}  // namespace retort::tensor
