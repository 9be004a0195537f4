#include "tensor/gemm.h"

#include <cassert>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/cpu.h"
#include "base/parallel.h"
#include "tensor/gemm_amx.h"
#include "tensor/quantised.h"

namespace retort::tensor {

namespace {

// oneDNN chooses its kernels at its first call: the limit of RETORT_ISA must be told before.
void limit_onednn() {
    static const bool done = [] {
        switch (base::active_isa()) {
            case base::Isa::scalar:
                dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41);
                break;
            case base::Isa::avx2:
                dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
                break;
            case base::Isa::avx512:
                dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_vnni);
                break;
            case base::Isa::avx512_bf16:
                dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16);
                break;
            case base::Isa::amx:
                break;
        }
        return true;
    }();
    (void)done;
}

// A bf16 product of one shape, compiled once.
struct Bf16Product {
    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream{engine};
    dnnl::memory::desc a, b, c;
    dnnl::matmul primitive;
};

using ShapeKey = std::tuple<bool, bool, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                            std::int64_t, bool>;

dnnl::memory::desc described(bool transposed, std::int64_t rows, std::int64_t cols, std::int64_t stride,
                             dnnl::memory::data_type type) {
    const dnnl::memory::dims strides =
        transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1};
    return {{rows, cols}, type, strides};
}

Bf16Product& bf16_product(const ShapeKey& key) {
    // One cache a thread: a primitive's scratch memory is not to be shared.
    thread_local std::map<ShapeKey, std::unique_ptr<Bf16Product>> cache;
    auto& slot = cache[key];
    if (!slot) {
        const auto& [ta, tb, m, n, k, lda, ldb, ldc, accumulate] = key;
        slot = std::make_unique<Bf16Product>();
        using Type = dnnl::memory::data_type;
        slot->a = described(ta, m, k, lda, Type::bf16);
        slot->b = described(tb, k, n, ldb, Type::bf16);
        slot->c = described(false, m, n, ldc, Type::f32);
        dnnl::primitive_attr attributes;
        if (accumulate) {
            dnnl::post_ops sum;
            sum.append_sum(1.0F);
            attributes.set_post_ops(sum);
        }
#if DNNL_VERSION_MAJOR >= 3
        slot->primitive = dnnl::matmul({slot->engine, slot->a, slot->b, slot->c, attributes});
#else
        slot->primitive = dnnl::matmul(dnnl::matmul::primitive_desc(
            dnnl::matmul::desc(slot->a, slot->b, slot->c), attributes, slot->engine));
#endif
    }
    return *slot;
}

void widen(const std::uint16_t* from, std::int64_t rows, std::int64_t cols, std::int64_t stride, float* to) {
    base::parallel_ranges(rows, std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(cols, 1)),
                          [&](std::int64_t begin, std::int64_t end) {
                              for (std::int64_t r = begin; r < end; ++r) {
                                  for (std::int64_t c = 0; c < cols; ++c) {
                                      to[r * cols + c] = bf16_to_f32(from[r * stride + c]);
                                  }
                              }
                          });
}

}  // namespace

void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc) {
    if (m == 0 || n == 0) return;
    limit_onednn();
    const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha,
                                            a, lda, b, ldb, beta, c, ldc);
    assert(status == dnnl_success);
    (void)status;
}

bool has_fast_bf16() {
    return base::active_isa() >= base::Isa::avx512_bf16;
}

void gemm_bf16(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               const std::uint16_t* a, std::int64_t lda, const std::uint16_t* b, std::int64_t ldb, float beta,
               float* c, std::int64_t ldc) {
    if (m == 0 || n == 0) return;
    limit_onednn();
    if (!has_fast_bf16()) {
        const std::int64_t a_rows = transpose_a ? k : m;
        const std::int64_t a_cols = transpose_a ? m : k;
        const std::int64_t b_rows = transpose_b ? n : k;
        const std::int64_t b_cols = transpose_b ? k : n;
        thread_local std::vector<float> wide;
        wide.resize(static_cast<std::size_t>(a_rows * a_cols + b_rows * b_cols));
        float* wide_b = wide.data() + a_rows * a_cols;
        widen(a, a_rows, a_cols, lda, wide.data());
        widen(b, b_rows, b_cols, ldb, wide_b);
        gemm(transpose_a, transpose_b, m, n, k, 1.0F, wide.data(), a_cols, wide_b, b_cols, beta, c, ldc);
        return;
    }
    if (gemm_amx_fits(transpose_a, transpose_b, m, n, k)) {
        gemm_amx(transpose_a, transpose_b, m, n, k, a, lda, b, ldb,
                 {c, beta == 0.0F ? nullptr : c, nullptr, ldc});
        return;
    }
    Bf16Product& product = bf16_product({transpose_a, transpose_b, m, n, k, lda, ldb, ldc, beta != 0.0F});
    const dnnl::memory a_memory(product.a, product.engine, const_cast<std::uint16_t*>(a));
    const dnnl::memory b_memory(product.b, product.engine, const_cast<std::uint16_t*>(b));
    const dnnl::memory c_memory(product.c, product.engine, c);
    product.primitive.execute(
        product.stream, {{DNNL_ARG_SRC, a_memory}, {DNNL_ARG_WEIGHTS, b_memory}, {DNNL_ARG_DST, c_memory}});
    product.stream.wait();
}

void gemm_reference(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                    float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                    float beta, float* c, std::int64_t ldc) {
    for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
            double sum = 0;
            for (std::int64_t l = 0; l < k; ++l) {
                const double x = transpose_a ? a[l * lda + i] : a[i * lda + l];
                const double y = transpose_b ? b[j * ldb + l] : b[l * ldb + j];
                sum += x * y;
            }
            float& out = c[i * ldc + j];
            out = static_cast<float>(alpha * sum + (beta == 0.0F ? 0.0 : static_cast<double>(beta) * out));
        }
    }
}

}  // namespace retort::tensor
