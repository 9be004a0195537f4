// The transformer's adapters: two thin products beside each that they belong to, forward and backward. In
// bf16 x_bf16_ and dy_bf16_ hold the inputs as the product beside them rounded them.
#include "model/transformer.h"
#include "tensor/adamw.h"
#include "tensor/gemm.h"

namespace retort::model {

namespace {

void scale(float* x, std::int64_t count, float by) {
    for (std::int64_t i = 0; i < count; ++i) x[i] *= by;
}

}  // namespace

// thin_ (T, rank) = alpha/rank · x·Aᵀ, and its rounding where there is bf16.
void Transformer::adapter_inputs(const AdapterView& view, const Adapter& adapter, const float* x,
                                 std::int64_t tokens) {
    const std::int64_t rank = view.layout->rank;
    if (view.bf16 == nullptr) {
        tensor::gemm(false, true, tokens, rank, adapter.cols, view.layout->scale, x, adapter.cols,
                     view.values + adapter.a, adapter.cols, 0.0F, thin_.data(), rank);
        return;
    }
    tensor::gemm_bf16(false, true, tokens, rank, adapter.cols, x_bf16_.data(), adapter.cols,
                      view.bf16 + adapter.a, adapter.cols, 0.0F, thin_.data(), rank);
    scale(thin_.data(), tokens * rank, view.layout->scale);
    tensor::convert_to_bf16(thin_.data(), thin_bf16_.data(), tokens * rank);
}

void Transformer::adapters_forward(const AdapterView& view, std::int64_t weight, const float* x,
                                   std::int64_t tokens, std::int64_t rows, float* y) {
    const std::int64_t rank = view.layout->rank;
    for (const Adapter& adapter : view.layout->of(weight)) {
        adapter_inputs(view, adapter, x, tokens);
        if (view.bf16 == nullptr) {
            tensor::gemm(false, true, tokens, adapter.rows, rank, 1.0F, thin_.data(), rank,
                         view.values + adapter.b, rank, 1.0F, y + adapter.row, rows);
        } else {
            tensor::gemm_bf16(false, true, tokens, adapter.rows, rank, thin_bf16_.data(), rank,
                              view.bf16 + adapter.b, rank, 1.0F, y + adapter.row, rows);
        }
    }
}

// d_thin = alpha/rank · dy·B, kept for the weights' gradient; dx += d_thin·A.
void Transformer::adapters_input_gradient(const AdapterView& view, std::int64_t weight, const float* dy,
                                          std::int64_t tokens, std::int64_t rows, float* dx) {
    const std::int64_t rank = view.layout->rank;
    std::int64_t slot = 0;
    for (const Adapter& adapter : view.layout->of(weight)) {
        float* d_thin = d_thin_.data() + slot * max_tokens_ * rank;
        std::uint16_t* d_thin_bf16 = d_thin_bf16_.data() + slot * max_tokens_ * rank;
        ++slot;
        if (view.bf16 == nullptr) {
            tensor::gemm(false, false, tokens, rank, adapter.rows, view.layout->scale, dy + adapter.row, rows,
                         view.values + adapter.b, rank, 0.0F, d_thin, rank);
            tensor::gemm(false, false, tokens, adapter.cols, rank, 1.0F, d_thin, rank,
                         view.values + adapter.a, adapter.cols, 1.0F, dx, adapter.cols);
            continue;
        }
        tensor::gemm_bf16(false, false, tokens, rank, adapter.rows, dy_bf16_.data() + adapter.row, rows,
                          view.bf16 + adapter.b, rank, 0.0F, d_thin, rank);
        scale(d_thin, tokens * rank, view.layout->scale);
        tensor::convert_to_bf16(d_thin, d_thin_bf16, tokens * rank);
        tensor::gemm_bf16(false, false, tokens, adapter.cols, rank, d_thin_bf16, rank, view.bf16 + adapter.a,
                          adapter.cols, 1.0F, dx, adapter.cols);
    }
}

// dB += dyᵀ·thin, dA += d_thinᵀ·x.
void Transformer::adapters_weight_gradient(const AdapterView& view, std::int64_t weight, const float* x,
                                           const float* dy, std::int64_t tokens, std::int64_t rows,
                                           float* gradients) {
    const std::int64_t rank = view.layout->rank;
    std::int64_t slot = 0;
    for (const Adapter& adapter : view.layout->of(weight)) {
        const float* d_thin = d_thin_.data() + slot * max_tokens_ * rank;
        const std::uint16_t* d_thin_bf16 = d_thin_bf16_.data() + slot * max_tokens_ * rank;
        ++slot;
        adapter_inputs(view, adapter, x, tokens);
        if (view.bf16 == nullptr) {
            tensor::gemm(true, false, adapter.rows, rank, tokens, 1.0F, dy + adapter.row, rows, thin_.data(),
                         rank, 1.0F, gradients + adapter.b, rank);
            tensor::gemm(true, false, rank, adapter.cols, tokens, 1.0F, d_thin, rank, x, adapter.cols, 1.0F,
                         gradients + adapter.a, adapter.cols);
            continue;
        }
        tensor::gemm_bf16(true, false, adapter.rows, rank, tokens, dy_bf16_.data() + adapter.row, rows,
                          thin_bf16_.data(), rank, 1.0F, gradients + adapter.b, rank);
        tensor::gemm_bf16(true, false, rank, adapter.cols, tokens, d_thin_bf16, rank, x_bf16_.data(),
                          adapter.cols, 1.0F, gradients + adapter.a, adapter.cols);
    }
}

}  // namespace retort::model
