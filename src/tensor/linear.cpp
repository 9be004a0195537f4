#include "tensor/linear.h"

#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "tensor/dispatch.h"
#include "tensor/gemm.h"
#include "tensor/linear_kernels.h"
#include "tensor/quantised.h"

namespace retort::tensor {

namespace {

// From here on unpacking a panel once and a dense product win over unpacking in registers.
constexpr std::int64_t panel_tokens = 24;
constexpr std::int64_t panel_floats = std::int64_t{1} << 18U;  // 1 MB: in cache when the product reads it

void finish(const LinearTask& task, std::int64_t begin, std::int64_t end, std::int64_t tokens) {
    if (task.bias == nullptr) return;
    for (std::int64_t t = 0; t < tokens; ++t) {
        float* y = task.y + t * task.y_stride;
        for (std::int64_t r = begin; r < end; ++r) y[r] += task.bias[r];
    }
}

void run_rows(const LinearTask& task, std::int64_t begin, std::int64_t end, const float* x,
              std::int64_t x_stride, std::int64_t tokens) {
    if (!task.add) {
        linear_rows(task.weight, begin, end, x, x_stride, tokens, task.y, task.y_stride);
    } else {
        thread_local std::vector<float> sums;
        sums.resize(static_cast<std::size_t>(tokens * (end - begin)));
        // Shifted so that row `begin` is the buffer's first column.
        linear_rows(task.weight, begin, end, x, x_stride, tokens, sums.data() - begin, end - begin);
        for (std::int64_t t = 0; t < tokens; ++t) {
            const float* from = sums.data() + t * (end - begin);
            float* to = task.y + t * task.y_stride + begin;
            for (std::int64_t r = 0; r < end - begin; ++r) to[r] += from[r];
        }
    }
    finish(task, begin, end, tokens);
}

void run_panels(const LinearTask& task, const float* x, std::int64_t x_stride, std::int64_t tokens) {
    const MatrixView& w = task.weight;
    const float beta = task.add ? 1.0F : 0.0F;
    if (w.dtype == DType::f32) {
        gemm(false, true, tokens, w.rows, w.cols, 1.0F, x, x_stride, reinterpret_cast<const float*>(w.data),
             w.cols, beta, task.y, task.y_stride);
    } else {
        thread_local std::vector<float> panel;
        const std::int64_t panel_rows =
            std::min(w.rows, std::max<std::int64_t>(16, panel_floats / w.cols / 16 * 16));
        panel.resize(static_cast<std::size_t>(panel_rows * w.cols));
        float* panel_data = panel.data();  // not the other threads' own
        for (std::int64_t begin = 0; begin < w.rows; begin += panel_rows) {
            const std::int64_t rows = std::min(panel_rows, w.rows - begin);
            base::parallel_ranges(rows, 4, [&](std::int64_t first, std::int64_t last) {
                dequantise_rows(w, begin + first, begin + last, panel_data + first * w.cols);
            });
            gemm(false, true, tokens, rows, w.cols, 1.0F, x, x_stride, panel_data, w.cols, beta,
                 task.y + begin, task.y_stride);
        }
    }
    finish(task, 0, w.rows, tokens);
}

}  // namespace

void linear(std::span<const LinearTask> tasks, const float* x, std::int64_t x_stride, std::int64_t tokens) {
    apply_isa_limit();
    if (tokens == 0) return;
    if (tokens >= panel_tokens) {
        for (const LinearTask& task : tasks) run_panels(task, x, x_stride, tokens);
        return;
    }
    // The rows of all tasks as one range, so that each thread has one share.
    std::int64_t total = 0;
    for (const LinearTask& task : tasks) total += task.weight.rows;
    constexpr std::int64_t unit = 4;  // rows a kernel takes at once
    base::parallel_ranges((total + unit - 1) / unit, 2, [&](std::int64_t first, std::int64_t last) {
        std::int64_t offset = 0;
        for (const LinearTask& task : tasks) {
            const std::int64_t begin = std::clamp<std::int64_t>(first * unit - offset, 0, task.weight.rows);
            const std::int64_t end = std::clamp<std::int64_t>(last * unit - offset, 0, task.weight.rows);
            if (begin < end) run_rows(task, begin, end, x, x_stride, tokens);
            offset += task.weight.rows;
        }
    });
}

void linear(const LinearTask& task, const float* x, std::int64_t x_stride, std::int64_t tokens) {
    linear({&task, 1}, x, x_stride, tokens);
}

void fetch_row(const MatrixView& matrix, std::int64_t row, float* to) {
    dequantise(matrix.dtype, matrix.row(row), to, matrix.cols);
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
