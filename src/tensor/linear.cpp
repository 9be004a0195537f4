#include "tensor/linear.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <vector>

#include "base/parallel.h"
#include "tensor/dispatch.h"
#include "tensor/gemm.h"
#include "tensor/linear_packed.h"
#include "tensor/linear_pairs.h"
#include "tensor/linear_plain.h"
#include "tensor/quantised.h"
#include "tensor/team.h"

namespace retort::tensor {

namespace {

std::atomic<int> bits = 16;

constexpr std::int64_t unit = packed_rows;  // rows that are not divided between threads
static_assert(pair_rows == unit);

struct Activations {
    const float* x;
    std::int64_t stride;
    std::int64_t tokens;
    const PackedActivations* packed;
    const PairActivations* pairs;
};

// Rows begin … end−1 (begin a multiple of `unit`) of one task.
void run_rows(const LinearTask& task, std::int64_t begin, std::int64_t end, const Activations& x) {
    const std::int64_t width = (end - begin + unit - 1) / unit * unit;
    const std::int64_t rows = end - begin;
    // Straight to y where nothing is added and no row of zeros stands behind the last.
    const bool direct = !task.add && task.bias == nullptr && rows == width;
    thread_local std::vector<float> sums;
    if (!direct) sums.resize(static_cast<std::size_t>(x.tokens * width));
    float* out = direct ? task.y + begin : sums.data();
    const std::int64_t out_stride = direct ? task.y_stride : width;
    if (const PackedMatrix* packed = task.weight->packed()) {
        packed_products(*packed, begin / unit, (begin + width) / unit, *x.packed, out, out_stride);
    } else if (const PairMatrix* pairs = task.weight->pairs()) {
        pair_products(*pairs, begin / unit, (begin + width) / unit, *x.pairs, out, out_stride);
    } else {
        plain_products(task.weight->plain(), begin, end, x.x, x.stride, x.tokens, out, out_stride);
    }
    if (direct) return;
    for (std::int64_t t = 0; t < x.tokens; ++t) {
        const float* from = sums.data() + t * width;
        float* to = task.y + t * task.y_stride + begin;
        if (task.add) {
            for (std::int64_t r = 0; r < rows; ++r) to[r] += from[r];
        } else {
            std::copy_n(from, rows, to);
        }
        if (task.bias != nullptr) {
            for (std::int64_t r = 0; r < rows; ++r) to[r] += task.bias[begin + r];
        }
    }
}

// Many tokens and plain weights: a dense product, over panels of rows when they are not f32.
void run_dense(const LinearTask& task, const Activations& x) {
    const MatrixView& w = task.weight->plain();
    const float beta = task.add ? 1.0F : 0.0F;
    if (w.dtype == DType::f32) {
        gemm(false, true, x.tokens, w.rows, w.cols, 1.0F, x.x, x.stride,
             reinterpret_cast<const float*>(w.data), w.cols, beta, task.y, task.y_stride);
    } else {
        constexpr std::int64_t panel_floats = std::int64_t{1}
                                              << 18U;  // 1 MB: in cache when the product reads it
        thread_local std::vector<float> panel;
        const std::int64_t panel_rows = std::clamp<std::int64_t>(panel_floats / w.cols / 16 * 16, 16, w.rows);
        panel.resize(static_cast<std::size_t>(panel_rows * w.cols));
        float* panel_data = panel.data();  // not the other threads' own
        for (std::int64_t begin = 0; begin < w.rows; begin += panel_rows) {
            const std::int64_t rows = std::min(panel_rows, w.rows - begin);
            base::parallel_ranges(rows, 4, [&](std::int64_t first, std::int64_t last) {
                widen_rows(w, begin + first, begin + last, panel_data + first * w.cols);
            });
            gemm(false, true, x.tokens, rows, w.cols, 1.0F, x.x, x.stride, panel_data, w.cols, beta,
                 task.y + begin, task.y_stride);
        }
    }
    if (task.bias == nullptr) return;
    for (std::int64_t t = 0; t < x.tokens; ++t) {
        float* y = task.y + t * task.y_stride;
        for (std::int64_t r = 0; r < w.rows; ++r) y[r] += task.bias[r];
    }
}

// Calls pack(x, x_stride, first, last, to) for shares of the tokens.
template <typename To, typename Pack>
void pack_all(const float* x, std::int64_t x_stride, std::int64_t tokens, std::int64_t cols, To& to,
              const Pack& pack) {
    to.reserve(tokens, cols);
    const std::int64_t shares = std::min(tokens, tokens * cols / 16384 + 1);
    team_each(shares, [&](std::int64_t share) {
        pack(x, x_stride, tokens * share / shares, tokens * (share + 1) / shares, to);
    });
}

}  // namespace

void set_activation_bits(int new_bits) {
    bits = new_bits;
}

int activation_bits() {
    return bits.load(std::memory_order_relaxed);
}

LinearWeight::LinearWeight() = default;
LinearWeight::LinearWeight(LinearWeight&&) noexcept = default;
LinearWeight& LinearWeight::operator=(LinearWeight&&) noexcept = default;
LinearWeight::~LinearWeight() = default;

LinearWeight::LinearWeight(const MatrixView& matrix) : view_(matrix) {
    if (is_quantised(matrix.dtype)) {
        packed_ = std::make_unique<PackedMatrix>(pack_matrix(matrix));
    } else if (pairs_fit(matrix)) {
        pairs_ = std::make_unique<PairMatrix>(pack_pairs(matrix));
    } else {
        return;
    }
    view_.data = nullptr;
}

void LinearWeight::fetch_row(std::int64_t row, float* to) const {
    if (packed_) {
        unpack_row(*packed_, row, to);
    } else if (pairs_) {
        unpack_pairs_row(*pairs_, row, to);
    } else {
        dequantise(view_.dtype, view_.row(row), to, view_.cols);
    }
}

void linear(std::span<const LinearTask> tasks, const float* x, std::int64_t x_stride, std::int64_t tokens) {
    apply_isa_limit();
    if (tokens == 0 || tasks.empty()) return;
    const bool dense = tokens > linear_exact_tokens;
    bool any_packed = false;
    bool any_pairs = false;
    std::int64_t units = 0;
    for (const LinearTask& task : tasks) {
        any_packed = any_packed || task.weight->packed() != nullptr;
        any_pairs = any_pairs || task.weight->pairs() != nullptr;
        if (dense && task.weight->needs_source()) continue;
        units += (task.weight->rows() + unit - 1) / unit;
    }
    thread_local PackedActivations packed;
    thread_local PairActivations pairs;
    const std::int64_t cols = tasks.front().weight->cols();
    packed.all_wide = activation_bits() != 8;
    if (any_packed) pack_all(x, x_stride, tokens, cols, packed, pack_activations);
    if (any_pairs) pack_all(x, x_stride, tokens, cols, pairs, pack_pair_activations);
    const Activations activations{x, x_stride, tokens, &packed, &pairs};

    // The rows of all tasks as one range of units, shared out finely enough to even out the threads.
    // With many tokens a share is of whole tiles of the kernels, which take two or three units at a time.
    const std::int64_t grain = tokens >= 16 ? 6 : 1;
    const std::int64_t grains = (units + grain - 1) / grain;
    const std::int64_t shares = std::min<std::int64_t>(grains, 8 * base::thread_count());
    team_each(shares, [&](std::int64_t share) {
        const std::int64_t first = grains * share / shares * grain;
        const std::int64_t last = std::min(units, grains * (share + 1) / shares * grain);
        std::int64_t offset = 0;
        for (const LinearTask& task : tasks) {
            if (dense && task.weight->needs_source()) continue;
            const std::int64_t own = (task.weight->rows() + unit - 1) / unit;
            const std::int64_t begin = std::clamp<std::int64_t>(first - offset, 0, own) * unit;
            const std::int64_t end =
                std::min(std::clamp<std::int64_t>(last - offset, 0, own) * unit, task.weight->rows());
            if (begin < end) run_rows(task, begin, end, activations);
            offset += own;
        }
    });
    if (!dense) return;
    for (const LinearTask& task : tasks) {
        if (task.weight->needs_source()) run_dense(task, activations);
    }
}

void linear(const LinearTask& task, const float* x, std::int64_t x_stride, std::int64_t tokens) {
    linear({&task, 1}, x, x_stride, tokens);
}

void linear_reference(const MatrixView& weight, const float* x, std::int64_t x_stride, std::int64_t tokens,
                      float* y, std::int64_t y_stride) {
    std::vector<float> row(static_cast<std::size_t>(weight.cols));
    for (std::int64_t r = 0; r < weight.rows; ++r) {
        dequantise(weight.dtype, weight.row(r), row.data(), weight.cols);
        for (std::int64_t t = 0; t < tokens; ++t) {
            double sum = 0;
            for (std::int64_t c = 0; c < weight.cols; ++c) {
                sum += static_cast<double>(row[static_cast<std::size_t>(c)]) * x[t * x_stride + c];
            }
            y[t * y_stride + r] = static_cast<float>(sum);
        }
    }
}

}  // namespace retort::tensor
