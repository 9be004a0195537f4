#include "tensor/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "tensor/gemm.h"
#include "tensor/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

float RowMax(const float* row, std::int64_t size, float floor) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    auto top = hn::Set(d, floor);
    std::int64_t i = 0;
    for (; i + lanes <= size; i += lanes) top = hn::Max(top, hn::LoadU(d, row + i));
    float result = hn::GetLane(hn::MaxOfLanes(d, top));
    for (; i < size; ++i) result = std::max(result, row[i]);
    return result;
}

// row[i] = exp(row[i] − shift) for i < size; returns the sum.
float ExpRow(float* row, std::int64_t size, float shift) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto shifts = hn::Set(d, shift);
    auto sum = hn::Zero(d);
    std::int64_t i = 0;
    for (; i + lanes <= size; i += lanes) {
        const auto e = hn::Exp(d, hn::Sub(hn::LoadU(d, row + i), shifts));
        hn::StoreU(e, d, row + i);
        sum = hn::Add(sum, e);
    }
    float total = hn::GetLane(hn::SumOfLanes(d, sum));
    const hn::CappedTag<float, 1> one;
    for (; i < size; ++i) {
        const auto e = hn::Exp(one, hn::Sub(hn::LoadU(one, row + i), hn::Set(one, shift)));
        hn::StoreU(e, one, row + i);
        total += hn::GetLane(e);
    }
    return total;
}

// d_scores = p · (dp − delta), into dp.
void ScoreGradientRow(const float* HWY_RESTRICT p, float* HWY_RESTRICT dp, float delta, std::int64_t size) {
    for (std::int64_t i = 0; i < size; ++i) dp[i] = p[i] * (dp[i] - delta);
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(RowMax);
HWY_EXPORT(ExpRow);
HWY_EXPORT(ScoreGradientRow);

namespace {

constexpr std::int64_t query_block = 64;  // tokens; times heads/kv_heads rows
constexpr std::int64_t key_block = 128;

struct Task {
    std::int64_t begin = 0;  // first row of the sequence
    std::int64_t end = 0;
    std::int64_t kv_head = 0;
    std::int64_t query_begin = 0;  // of this block, a row of the batch
    std::int64_t query_end = 0;
};

// Where a kv head and its group of query heads lie in a row of qkv.
struct Group {
    const AttentionShape& shape;
    std::int64_t kv_head;
    [[nodiscard]] std::int64_t size() const { return shape.heads / shape.kv_heads; }
    [[nodiscard]] std::int64_t query() const { return kv_head * size() * shape.head_dim; }
    [[nodiscard]] std::int64_t key() const { return (shape.heads + kv_head) * shape.head_dim; }
    [[nodiscard]] std::int64_t value() const {
        return (shape.heads + shape.kv_heads + kv_head) * shape.head_dim;
    }
};

// Rows (token, head of the group) of a strided matrix into a dense one (tokens·group, head_dim), times scale.
void gather(const float* from, std::int64_t stride, std::int64_t tokens, std::int64_t width, float scale,
            float* to) {
    for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t i = 0; i < width; ++i) to[t * width + i] = from[t * stride + i] * scale;
    }
}

// Keys that a token may see within [key_begin, key_end).
std::int64_t visible(std::int64_t token, std::int64_t key_begin, std::int64_t key_end) {
    return std::clamp<std::int64_t>(token + 1 - key_begin, 0, key_end - key_begin);
}

void forward_block(const float* qkv, const AttentionShape& shape, const Task& task, float* out,
                   float* log_sum_exp) {
    const Group group{shape, task.kv_head};
    const std::int64_t dim = shape.head_dim;
    const std::int64_t stride = shape.row_size();
    const std::int64_t tokens = task.query_end - task.query_begin;
    const std::int64_t rows = tokens * group.size();
    thread_local std::vector<float> buffer;
    buffer.resize(static_cast<std::size_t>(rows * (2 * dim + key_block + 2)));
    float* query = buffer.data();
    float* sum_out = query + rows * dim;
    float* scores = sum_out + rows * dim;  // (rows, key_block)
    float* top = scores + rows * key_block;
    float* total = top + rows;
    gather(qkv + task.query_begin * stride + group.query(), stride, tokens, group.size() * dim,
           1.0F / std::sqrt(static_cast<float>(dim)), query);
    std::fill_n(sum_out, rows * dim, 0.0F);
    std::fill_n(top, rows, -std::numeric_limits<float>::infinity());
    std::fill_n(total, rows, 0.0F);
    for (std::int64_t key_begin = task.begin; key_begin < task.query_end; key_begin += key_block) {
        const std::int64_t key_end = std::min(key_begin + key_block, task.query_end);
        const std::int64_t keys = key_end - key_begin;
        gemm(false, true, rows, keys, dim, 1.0F, query, dim, qkv + key_begin * stride + group.key(), stride,
             0.0F, scores, key_block);
        for (std::int64_t r = 0; r < rows; ++r) {
            float* row = scores + r * key_block;
            const std::int64_t seen = visible(task.query_begin + r / group.size(), key_begin, key_end);
            std::fill(row + seen, row + keys, 0.0F);
            if (seen == 0) continue;
            const float new_top = HWY_DYNAMIC_DISPATCH(RowMax)(row, seen, top[r]);
            const float shrink = std::exp(top[r] - new_top);
            total[r] = total[r] * shrink + HWY_DYNAMIC_DISPATCH(ExpRow)(row, seen, new_top);
            if (shrink != 1.0F) {
                for (std::int64_t i = 0; i < dim; ++i) sum_out[r * dim + i] *= shrink;
            }
            top[r] = new_top;
        }
        gemm(false, false, rows, dim, keys, 1.0F, scores, key_block, qkv + key_begin * stride + group.value(),
             stride, 1.0F, sum_out, dim);
    }
    for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t token = task.query_begin + r / group.size();
        const std::int64_t head = task.kv_head * group.size() + r % group.size();
        float* to = out + token * shape.query_size() + head * dim;
        for (std::int64_t i = 0; i < dim; ++i) to[i] = sum_out[r * dim + i] / total[r];
        log_sum_exp[token * shape.heads + head] = top[r] + std::log(total[r]);
    }
}

// One sequence and one kv head: all that adds into its keys' and values' gradients, so no two tasks share an
// output.
void backward_head(const float* qkv, const float* out, const float* log_sum_exp, const float* d_out,
                   const AttentionShape& shape, const Task& task, float* d_qkv) {
    const Group group{shape, task.kv_head};
    const std::int64_t dim = shape.head_dim;
    const std::int64_t stride = shape.row_size();
    const std::int64_t max_rows = query_block * group.size();
    const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
    thread_local std::vector<float> buffer;
    buffer.resize(static_cast<std::size_t>(max_rows * (3 * dim + 2 * key_block + 1)));
    float* query = buffer.data();
    float* d_result = query + max_rows * dim;
    float* d_query = d_result + max_rows * dim;
    float* p = d_query + max_rows * dim;
    float* dp = p + max_rows * key_block;
    float* delta = dp + max_rows * key_block;
    for (std::int64_t t = task.begin; t < task.end; ++t) {
        std::fill_n(d_qkv + t * stride + group.key(), dim, 0.0F);
        std::fill_n(d_qkv + t * stride + group.value(), dim, 0.0F);
    }
    for (std::int64_t q_begin = task.begin; q_begin < task.end; q_begin += query_block) {
        const std::int64_t q_end = std::min(q_begin + query_block, task.end);
        const std::int64_t tokens = q_end - q_begin;
        const std::int64_t rows = tokens * group.size();
        const std::int64_t width = group.size() * dim;
        gather(qkv + q_begin * stride + group.query(), stride, tokens, width, scale, query);
        gather(d_out + q_begin * shape.query_size() + group.query(), shape.query_size(), tokens, width, 1.0F,
               d_result);
        for (std::int64_t r = 0; r < rows; ++r) {
            const std::int64_t token = q_begin + r / group.size();
            const float* o = out + token * shape.query_size() + group.query() + r % group.size() * dim;
            float sum = 0;
            for (std::int64_t i = 0; i < dim; ++i) sum += o[i] * d_result[r * dim + i];
            delta[r] = sum;
        }
        for (std::int64_t key_begin = task.begin; key_begin < q_end; key_begin += key_block) {
            const std::int64_t key_end = std::min(key_begin + key_block, q_end);
            const std::int64_t keys = key_end - key_begin;
            const float* key = qkv + key_begin * stride + group.key();
            const float* value = qkv + key_begin * stride + group.value();
            gemm(false, true, rows, keys, dim, 1.0F, query, dim, key, stride, 0.0F, p, key_block);
            gemm(false, true, rows, keys, dim, 1.0F, d_result, dim, value, stride, 0.0F, dp, key_block);
            for (std::int64_t r = 0; r < rows; ++r) {
                const std::int64_t token = q_begin + r / group.size();
                const std::int64_t head = task.kv_head * group.size() + r % group.size();
                const std::int64_t seen = visible(token, key_begin, key_end);
                HWY_DYNAMIC_DISPATCH(ExpRow)
                (p + r * key_block, seen, log_sum_exp[token * shape.heads + head]);
                std::fill(p + r * key_block + seen, p + r * key_block + keys, 0.0F);
                HWY_DYNAMIC_DISPATCH(ScoreGradientRow)(p + r * key_block, dp + r * key_block, delta[r], keys);
            }
            gemm(true, false, keys, dim, rows, 1.0F, p, key_block, d_result, dim, 1.0F,
                 d_qkv + key_begin * stride + group.value(), stride);
            gemm(true, false, keys, dim, rows, 1.0F, dp, key_block, query, dim, 1.0F,
                 d_qkv + key_begin * stride + group.key(), stride);
            gemm(false, false, rows, dim, keys, scale, dp, key_block, key, stride,
                 key_begin == task.begin ? 0.0F : 1.0F, d_query, dim);
        }
        for (std::int64_t t = 0; t < tokens; ++t) {
            std::copy_n(d_query + t * width, width, d_qkv + (q_begin + t) * stride + group.query());
        }
    }
}

}  // namespace

void attention(const float* qkv, std::span<const std::int32_t> sequence_starts, const AttentionShape& shape,
               float* out, float* log_sum_exp) {
    std::vector<Task> tasks;
    for (std::size_t s = 0; s + 1 < sequence_starts.size(); ++s) {
        // Later blocks see more keys: handed out first, they leave the short ones to even out the end.
        const std::int64_t begin = sequence_starts[s];
        const std::int64_t end = sequence_starts[s + 1];
        const std::int64_t blocks = (end - begin + query_block - 1) / query_block;
        for (std::int64_t b = blocks - 1; b >= 0; --b) {
            for (std::int64_t h = 0; h < shape.kv_heads; ++h) {
                const std::int64_t query_begin = begin + b * query_block;
                tasks.push_back({begin, end, h, query_begin, std::min(query_begin + query_block, end)});
            }
        }
    }
    base::parallel_each(static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i) {
        forward_block(qkv, shape, tasks[static_cast<std::size_t>(i)], out, log_sum_exp);
    });
}

void attention_backward(const float* qkv, const float* out, const float* log_sum_exp, const float* d_out,
                        std::span<const std::int32_t> sequence_starts, const AttentionShape& shape,
                        float* d_qkv) {
    std::vector<Task> tasks;
    for (std::size_t s = 0; s + 1 < sequence_starts.size(); ++s) {
        for (std::int64_t h = 0; h < shape.kv_heads; ++h)
            tasks.push_back({sequence_starts[s], sequence_starts[s + 1], h});
    }
    std::stable_sort(tasks.begin(), tasks.end(),
                     [](const Task& a, const Task& b) { return a.end - a.begin > b.end - b.begin; });
    base::parallel_each(static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i) {
        backward_head(qkv, out, log_sum_exp, d_out, shape, tasks[static_cast<std::size_t>(i)], d_qkv);
    });
}

void attention_reference(const float* qkv, std::span<const std::int32_t> sequence_starts,
                         const AttentionShape& shape, float* out) {
    const std::int64_t stride = shape.row_size();
    const std::int64_t dim = shape.head_dim;
    for (std::size_t s = 0; s + 1 < sequence_starts.size(); ++s) {
        for (std::int64_t t = sequence_starts[s]; t < sequence_starts[s + 1]; ++t) {
            for (std::int64_t h = 0; h < shape.heads; ++h) {
                const Group group{shape, h / (shape.heads / shape.kv_heads)};
                std::vector<double> weights;
                double total = 0;
                double top = -std::numeric_limits<double>::infinity();
                for (std::int64_t k = sequence_starts[s]; k <= t; ++k) {
                    double score = 0;
                    for (std::int64_t i = 0; i < dim; ++i) {
                        score += static_cast<double>(qkv[t * stride + h * dim + i]) *
                                 qkv[k * stride + group.key() + i];
                    }
                    weights.push_back(score / std::sqrt(static_cast<double>(dim)));
                    top = std::max(top, weights.back());
                }
                for (double& w : weights) total += w = std::exp(w - top);
                for (std::int64_t i = 0; i < dim; ++i) {
                    double sum = 0;
                    for (std::size_t k = 0; k < weights.size(); ++k) {
                        sum += weights[k] / total *
                               qkv[(sequence_starts[s] + static_cast<std::int64_t>(k)) * stride +
                                   group.value() + i];
                    }
                    out[t * shape.query_size() + h * dim + i] = static_cast<float>(sum);
                }
            }
        }
    }
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
