#include "tensor/decode_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "tensor/dispatch.h"
#include "tensor/simd.h"
#include "tensor/team.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/decode_attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#ifndef RETORT_DECODE_ATTENTION_ONCE
#define RETORT_DECODE_ATTENTION_ONCE
namespace retort::tensor {
namespace {

// Positions whose softmax is taken at once; longer contexts are merged from such chunks, in order, so that
// the result does not depend on which thread took which chunk.
constexpr std::int64_t chunk_tokens = 256;

// Queries that are computed together: neighbours in one sequence, which see nearly the same keys.
constexpr std::int64_t block_queries = 4;

// One kv head of `queries` neighbouring queries over one chunk of positions. Row i is head i % group of query
// i / group; a row's numbers do not depend on the other rows.
struct ChunkTask {
    const float* cache;  // of this layer
    std::int64_t page_stride;
    std::int64_t key_offset;    // of the kv head in a page
    std::int64_t value_offset;  // the same
    const std::int32_t* pages;  // of the chunk
    std::int64_t length;        // of the first query, 1 … chunk_tokens
    std::int64_t queries;       // 1 … block_queries
    const float* q;             // (queries, group, head_dim)
    std::int64_t q_stride;      // of a query
    std::int64_t group;
    std::int64_t head_dim;
    float* out;             // (queries, group, head_dim): Σ exp(s − max)·v
    float* maximum;         // (queries, group)
    float* sum;             // (queries, group): Σ exp(s − max)
    std::int64_t step = 1;  // each next query sees so many more: 1, or 0 where all see the whole chunk

    [[nodiscard]] std::int64_t rows() const { return queries * group; }
    [[nodiscard]] std::int64_t longest() const { return length + (queries - 1) * step; }
};

}  // namespace
}  // namespace retort::tensor
#endif

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;
constexpr int lanes = HWY_MIN(HWY_LANES(float), 16);
constexpr int page_vectors = static_cast<int>(kv_page_tokens) / lanes;

// Rows that are computed at once: what their sums leave of the registers.
constexpr int most_rows = HWY_MAX_BYTES >= 64 ? 12 : 6;

template <int kRows>
HWY_INLINE void Scores(const ChunkTask& task, std::int64_t first_row, float* scores) {
    const F d;
    const V scale = hn::Set(d, 1.0F / std::sqrt(static_cast<float>(task.head_dim)));
    const float* q[kRows];
    for (int r = 0; r < kRows; ++r) {
        const std::int64_t row = first_row + r;
        q[r] = task.q + row / task.group * task.q_stride + row % task.group * task.head_dim;
    }
    for (std::int64_t start = 0; start < task.longest(); start += kv_page_tokens) {
        const float* key =
            task.cache + task.pages[start / kv_page_tokens] * task.page_stride + task.key_offset;
        for (int v = 0; v < page_vectors; ++v) {
            V sum[kRows];
            for (int r = 0; r < kRows; ++r) sum[r] = hn::Zero(d);
            for (std::int64_t i = 0; i < task.head_dim; ++i) {
                const V k = hn::LoadU(d, key + i * kv_page_tokens + v * lanes);
                for (int r = 0; r < kRows; ++r) sum[r] = hn::MulAdd(hn::Set(d, q[r][i]), k, sum[r]);
            }
            for (int r = 0; r < kRows; ++r) {
                hn::StoreU(hn::Mul(sum[r], scale), d, scores + r * chunk_tokens + start + v * lanes);
            }
        }
    }
}

// scores become exp(score − max), zero from the length up to `end`; returns their sum.
HWY_INLINE float Exponentials(float* scores, std::int64_t length, std::int64_t end, float* maximum) {
    const F d;
    const std::int64_t padded = (length + lanes - 1) / lanes * lanes;
    for (std::int64_t i = length; i < padded; ++i) scores[i] = -std::numeric_limits<float>::infinity();
    V largest = hn::LoadU(d, scores);
    for (std::int64_t i = lanes; i < padded; i += lanes) largest = hn::Max(largest, hn::LoadU(d, scores + i));
    largest = hn::MaxOfLanes(d, largest);
    *maximum = hn::GetLane(largest);
    V sum = hn::Zero(d);
    for (std::int64_t i = 0; i < padded; i += lanes) {
        const V power = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + i), largest));
        hn::StoreU(power, d, scores + i);
        sum = hn::Add(sum, power);
    }
    for (std::int64_t i = length; i < std::max(end, padded); ++i) scores[i] = 0.0F;
    return hn::GetLane(hn::SumOfLanes(d, sum));
}

template <int kRows, int kVectors>
HWY_INLINE void Values(const ChunkTask& task, std::int64_t first_row, const float* scores,
                       std::int64_t offset) {
    const F d;
    V sum[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
    }
    const std::int64_t longest = task.longest();
    for (std::int64_t start = 0; start < longest; start += kv_page_tokens) {
        const float* page =
            task.cache + task.pages[start / kv_page_tokens] * task.page_stride + task.value_offset + offset;
        const std::int64_t end = std::min(longest, start + kv_page_tokens);
        for (std::int64_t j = start; j < end; ++j, page += task.head_dim) {
            V row[kVectors];
            for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, page + v * lanes);
            for (int r = 0; r < kRows; ++r) {
                const V p = hn::Set(d, scores[r * chunk_tokens + j]);
                for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(p, row[v], sum[r][v]);
            }
        }
    }
    for (int r = 0; r < kRows; ++r) {
        float* out = task.out + (first_row + r) * task.head_dim + offset;
        for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[r][v], d, out + v * lanes);
    }
}

template <int kRows>
HWY_NOINLINE void ChunkRows(const ChunkTask& task, std::int64_t first_row, float* scores) {
    constexpr int vectors = kRows > 6 || most_rows <= 6 ? 2 : 4;
    Scores<kRows>(task, first_row, scores);
    for (int r = 0; r < kRows; ++r) {
        const std::int64_t row = first_row + r;
        task.sum[row] = Exponentials(scores + r * chunk_tokens, task.length + row / task.group * task.step,
                                     task.longest(), task.maximum + row);
    }
    std::int64_t offset = 0;
    for (; offset + vectors * lanes <= task.head_dim; offset += vectors * lanes) {
        Values<kRows, vectors>(task, first_row, scores, offset);
    }
    for (; offset + lanes <= task.head_dim; offset += lanes) {
        Values<kRows, 1>(task, first_row, scores, offset);
    }
    for (; offset < task.head_dim; ++offset) {
        for (int r = 0; r < kRows; ++r) {
            float sum = 0;
            for (std::int64_t j = 0; j < task.longest(); ++j) {
                sum += scores[r * chunk_tokens + j] *
                       task.cache[task.pages[j / kv_page_tokens] * task.page_stride + task.value_offset +
                                  j % kv_page_tokens * task.head_dim + offset];
            }
            task.out[(first_row + r) * task.head_dim + offset] = sum;
        }
    }
}

void AttendChunk(const ChunkTask& task) {
    alignas(64) float scores[most_rows * chunk_tokens];
    const std::int64_t rows = task.rows();
    std::int64_t row = 0;
    if constexpr (most_rows == 12) {
        for (; row + 12 <= rows; row += 12) ChunkRows<12>(task, row, scores);
    }
    for (; row + 6 <= rows; row += 6) ChunkRows<6>(task, row, scores);
    for (; row + 3 <= rows; row += 3) ChunkRows<3>(task, row, scores);
    for (; row < rows; ++row) ChunkRows<1>(task, row, scores);
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(AttendChunk);

namespace {

// Neighbouring queries of one sequence that end in the same chunk.
struct Block {
    std::int64_t first;
    std::int64_t count;   // 1 … block_queries
    std::int64_t chunks;  // of each
};

// What a chunk leaves, and what merging chunks in order makes of it.
struct Partial {
    float* out;
    float* maximum;
    float* sum;
};

Partial partial_at(float* memory, std::int64_t index, std::int64_t group, std::int64_t head_dim) {
    float* begin = memory + index * group * (head_dim + 2);
    return {begin, begin + group * head_dim, begin + group * (head_dim + 1)};
}

void merge(const Partial& into, const Partial& next, std::int64_t group, std::int64_t head_dim) {
    for (std::int64_t g = 0; g < group; ++g) {
        const float largest = std::max(into.maximum[g], next.maximum[g]);
        const float keep = std::exp(into.maximum[g] - largest);
        const float gain = std::exp(next.maximum[g] - largest);
        float* a = into.out + g * head_dim;
        const float* b = next.out + g * head_dim;
        for (std::int64_t i = 0; i < head_dim; ++i) a[i] = a[i] * keep + b[i] * gain;
        into.sum[g] = into.sum[g] * keep + next.sum[g] * gain;
        into.maximum[g] = largest;
    }
}

}  // namespace

void store_key_value(const PagedKeyValues& cache, const AttentionShape& shape, const std::int32_t* pages,
                     std::int64_t position, const float* key, const float* value) {
    float* page = cache.data + pages[position / kv_page_tokens] * cache.page_stride;
    const std::int64_t slot = position % kv_page_tokens;
    const std::int64_t kv_size = shape.kv_heads * shape.head_dim;
    for (std::int64_t i = 0; i < kv_size; ++i) page[i * kv_page_tokens + slot] = key[i];
    page += kv_size * kv_page_tokens;
    for (std::int64_t h = 0; h < shape.kv_heads; ++h) {
        std::copy_n(value + h * shape.head_dim, shape.head_dim,
                    page + (h * kv_page_tokens + slot) * shape.head_dim);
    }
}

void paged_attention(const PagedKeyValues& cache, const AttentionShape& shape,
                     std::span<const PagedQuery> queries, const float* q, std::int64_t q_stride, float* out,
                     std::int64_t out_stride) {
    apply_isa_limit();
    const auto count = static_cast<std::int64_t>(queries.size());
    const std::int64_t group = shape.heads / shape.kv_heads;
    const std::int64_t head_dim = shape.head_dim;
    const std::int64_t kv_size = shape.kv_heads * head_dim;

    thread_local std::vector<Block> list;
    list.clear();
    for (std::int64_t query = 0; query < count;) {
        const PagedQuery& at = queries[static_cast<std::size_t>(query)];
        Block block{query, 1, (at.length + chunk_tokens - 1) / chunk_tokens};
        while (block.count < block_queries && query + block.count < count) {
            const PagedQuery& next = queries[static_cast<std::size_t>(query + block.count)];
            if (next.pages != at.pages || next.length != at.length + block.count ||
                (next.length + chunk_tokens - 1) / chunk_tokens != block.chunks) {
                break;
            }
            ++block.count;
        }
        list.push_back(block);
        query += block.count;
    }
    const std::span<const Block> blocks = list;

    const auto attend = [&](const Block& block, std::int64_t kv_head, std::int64_t chunk, const Partial& to) {
        const PagedQuery& at = queries[static_cast<std::size_t>(block.first)];
        // In a chunk that is not the last every query sees all of it.
        const bool last = chunk + 1 == block.chunks;
        ChunkTask task{cache.data,
                       cache.page_stride,
                       kv_head * head_dim * kv_page_tokens,
                       (kv_size + kv_head * head_dim) * kv_page_tokens,
                       at.pages + chunk * (chunk_tokens / kv_page_tokens),
                       at.length - chunk * chunk_tokens,
                       block.count,
                       q + block.first * q_stride + kv_head * group * head_dim,
                       q_stride,
                       group,
                       head_dim,
                       to.out,
                       to.maximum,
                       to.sum};
        task.step = last ? 1 : 0;
        if (!last) task.length = chunk_tokens;
        HWY_DYNAMIC_DISPATCH(AttendChunk)(task);
    };
    const auto finish = [&](const Block& block, std::int64_t kv_head, const Partial& from) {
        for (std::int64_t row = 0; row < block.count * group; ++row) {
            float* to =
                out + (block.first + row / group) * out_stride + (kv_head * group + row % group) * head_dim;
            const float inverse = 1.0F / from.sum[row];
            for (std::int64_t i = 0; i < head_dim; ++i) to[i] = from.out[row * head_dim + i] * inverse;
        }
    };
    const std::int64_t rows = block_queries * group;

    const std::int64_t items = static_cast<std::int64_t>(blocks.size()) * shape.kv_heads;
    if (items >= 4 * base::thread_count()) {
        team_each(items, [&](std::int64_t item) {
            thread_local std::vector<float> memory;
            memory.resize(static_cast<std::size_t>(2 * rows * (head_dim + 2)));
            const Partial total = partial_at(memory.data(), 0, rows, head_dim);
            const Partial next = partial_at(memory.data(), 1, rows, head_dim);
            // The longest first: the last items even out the threads.
            const Block& block = blocks[blocks.size() - 1 - static_cast<std::size_t>(item / shape.kv_heads)];
            const std::int64_t kv_head = item % shape.kv_heads;
            attend(block, kv_head, 0, total);
            for (std::int64_t chunk = 1; chunk < block.chunks; ++chunk) {
                attend(block, kv_head, chunk, next);
                merge(total, next, block.count * group, head_dim);
            }
            finish(block, kv_head, total);
        });
        return;
    }
    // Few queries: the chunks of a long context are shared out too.
    struct Item {
        const Block* block;
        std::int64_t kv_head, chunk;
    };
    thread_local std::vector<Item> parts;
    thread_local std::vector<float> memory;
    parts.clear();
    for (const Block& block : blocks) {
        for (std::int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
            for (std::int64_t chunk = 0; chunk < block.chunks; ++chunk)
                parts.push_back({&block, kv_head, chunk});
        }
    }
    memory.resize(parts.size() * static_cast<std::size_t>(rows * (head_dim + 2)));
    float* partials = memory.data();
    const Item* all = parts.data();
    team_each(static_cast<std::int64_t>(parts.size()), [&](std::int64_t i) {
        attend(*all[i].block, all[i].kv_head, all[i].chunk, partial_at(partials, i, rows, head_dim));
    });
    Partial total = partial_at(partials, 0, rows, head_dim);
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const Partial part = partial_at(partials, static_cast<std::int64_t>(i), rows, head_dim);
        const Block& block = *parts[i].block;
        if (parts[i].chunk == 0) {
            total = part;
        } else {
            merge(total, part, block.count * group, head_dim);
        }
        if (parts[i].chunk + 1 == block.chunks) finish(block, parts[i].kv_head, total);
    }
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
