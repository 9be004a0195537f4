#include "tensor/decode_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "tensor/dispatch.h"
#include "tensor/linear.h"
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

// One kv head of one query over one chunk of positions.
struct ChunkTask {
    const float* cache;  // of this layer
    std::int64_t page_stride;
    std::int64_t key_offset;    // of the kv head in a page
    std::int64_t value_offset;  // the same
    const std::int32_t* pages;  // of the chunk
    std::int64_t length;        // 1 … chunk_tokens
    const float* q;             // (group, head_dim)
    std::int64_t group;
    std::int64_t head_dim;
    float* out;      // (group, head_dim): Σ exp(s − max)·v
    float* maximum;  // (group)
    float* sum;      // (group): Σ exp(s − max)
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

template <int kHeads>
HWY_INLINE void Scores(const ChunkTask& task, std::int64_t first_head, float* scores) {
    const F d;
    const V scale = hn::Set(d, 1.0F / std::sqrt(static_cast<float>(task.head_dim)));
    const float* q = task.q + first_head * task.head_dim;
    for (std::int64_t start = 0; start < task.length; start += kv_page_tokens) {
        const float* key =
            task.cache + task.pages[start / kv_page_tokens] * task.page_stride + task.key_offset;
        V sum[kHeads][page_vectors];
        for (int h = 0; h < kHeads; ++h) {
            for (int v = 0; v < page_vectors; ++v) sum[h][v] = hn::Zero(d);
        }
        for (std::int64_t i = 0; i < task.head_dim; ++i) {
            for (int v = 0; v < page_vectors; ++v) {
                const V k = hn::LoadU(d, key + i * kv_page_tokens + v * lanes);
                for (int h = 0; h < kHeads; ++h) {
                    sum[h][v] = hn::MulAdd(hn::Set(d, q[h * task.head_dim + i]), k, sum[h][v]);
                }
            }
        }
        for (int h = 0; h < kHeads; ++h) {
            for (int v = 0; v < page_vectors; ++v) {
                hn::StoreU(hn::Mul(sum[h][v], scale), d, scores + h * chunk_tokens + start + v * lanes);
            }
        }
    }
}

// scores become exp(score − max), zero past the length; returns their sum.
HWY_INLINE float Exponentials(float* scores, std::int64_t length, float* maximum) {
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
    for (std::int64_t i = length; i < padded; ++i) scores[i] = 0.0F;
    return hn::GetLane(hn::SumOfLanes(d, sum));
}

template <int kHeads, int kVectors>
HWY_INLINE void Values(const ChunkTask& task, std::int64_t first_head, const float* scores,
                       std::int64_t offset) {
    const F d;
    V sum[kHeads][kVectors];
    for (int h = 0; h < kHeads; ++h) {
        for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::Zero(d);
    }
    for (std::int64_t j = 0; j < task.length; ++j) {
        const float* value = task.cache + task.pages[j / kv_page_tokens] * task.page_stride +
                             task.value_offset + j % kv_page_tokens * task.head_dim + offset;
        V row[kVectors];
        for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, value + v * lanes);
        for (int h = 0; h < kHeads; ++h) {
            const V p = hn::Set(d, scores[h * chunk_tokens + j]);
            for (int v = 0; v < kVectors; ++v) sum[h][v] = hn::MulAdd(p, row[v], sum[h][v]);
        }
    }
    for (int h = 0; h < kHeads; ++h) {
        float* out = task.out + (first_head + h) * task.head_dim + offset;
        for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[h][v], d, out + v * lanes);
    }
}

template <int kHeads>
HWY_INLINE void ChunkHeads(const ChunkTask& task, std::int64_t first_head, float* scores) {
    Scores<kHeads>(task, first_head, scores);
    for (int h = 0; h < kHeads; ++h) {
        task.sum[first_head + h] =
            Exponentials(scores + h * chunk_tokens, task.length, task.maximum + first_head + h);
    }
    std::int64_t offset = 0;
    for (; offset + 4 * lanes <= task.head_dim; offset += 4 * lanes) {
        Values<kHeads, 4>(task, first_head, scores, offset);
    }
    for (; offset + lanes <= task.head_dim; offset += lanes)
        Values<kHeads, 1>(task, first_head, scores, offset);
    for (; offset < task.head_dim; ++offset) {
        for (int h = 0; h < kHeads; ++h) {
            float sum = 0;
            for (std::int64_t j = 0; j < task.length; ++j) {
                sum += scores[h * chunk_tokens + j] *
                       task.cache[task.pages[j / kv_page_tokens] * task.page_stride + task.value_offset +
                                  j % kv_page_tokens * task.head_dim + offset];
            }
            task.out[(first_head + h) * task.head_dim + offset] = sum;
        }
    }
}

void AttendChunk(const ChunkTask& task) {
    alignas(64) float scores[3 * chunk_tokens];
    std::int64_t head = 0;
    for (; head + 3 <= task.group; head += 3) ChunkHeads<3>(task, head, scores);
    if (task.group - head == 2) ChunkHeads<2>(task, head, scores);
    if (task.group - head == 1) ChunkHeads<1>(task, head, scores);
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(AttendChunk);

namespace {

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

    const auto attend = [&](std::int64_t query, std::int64_t kv_head, std::int64_t chunk, const Partial& to) {
        const PagedQuery& at = queries[static_cast<std::size_t>(query)];
        HWY_DYNAMIC_DISPATCH(AttendChunk)
        (ChunkTask{cache.data, cache.page_stride, kv_head * head_dim * kv_page_tokens,
                   (kv_size + kv_head * head_dim) * kv_page_tokens,
                   at.pages + chunk * (chunk_tokens / kv_page_tokens),
                   std::min(chunk_tokens, at.length - chunk * chunk_tokens),
                   q + query * q_stride + kv_head * group * head_dim, group, head_dim, to.out, to.maximum,
                   to.sum});
    };
    const auto finish = [&](std::int64_t query, std::int64_t kv_head, const Partial& from) {
        float* to = out + query * out_stride + kv_head * group * head_dim;
        for (std::int64_t g = 0; g < group; ++g) {
            const float inverse = 1.0F / from.sum[g];
            for (std::int64_t i = 0; i < head_dim; ++i)
                to[g * head_dim + i] = from.out[g * head_dim + i] * inverse;
        }
    };
    const auto chunks_of = [&](std::int64_t query) {
        return (queries[static_cast<std::size_t>(query)].length + chunk_tokens - 1) / chunk_tokens;
    };

    const std::int64_t items = count * shape.kv_heads;
    if (items >= 4 * base::thread_count()) {
        // As linear() does: the team for a few tokens, OpenMP beside large products.
        const auto each = [&](const auto& body) {
            if (count <= linear_exact_tokens) {
                team_each(items, body);
            } else {
                base::parallel_each(items, body);
            }
        };
        each([&](std::int64_t item) {
            thread_local std::vector<float> memory;
            memory.resize(static_cast<std::size_t>(2 * group * (head_dim + 2)));
            const Partial total = partial_at(memory.data(), 0, group, head_dim);
            const Partial next = partial_at(memory.data(), 1, group, head_dim);
            const std::int64_t query = item / shape.kv_heads;
            const std::int64_t kv_head = item % shape.kv_heads;
            attend(query, kv_head, 0, total);
            for (std::int64_t chunk = 1; chunk < chunks_of(query); ++chunk) {
                attend(query, kv_head, chunk, next);
                merge(total, next, group, head_dim);
            }
            finish(query, kv_head, total);
        });
        return;
    }
    // Few queries: the chunks of a long context are shared out too.
    struct Item {
        std::int64_t query, kv_head, chunk;
    };
    thread_local std::vector<Item> list;
    thread_local std::vector<float> memory;
    list.clear();
    for (std::int64_t query = 0; query < count; ++query) {
        for (std::int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
            for (std::int64_t chunk = 0; chunk < chunks_of(query); ++chunk)
                list.push_back({query, kv_head, chunk});
        }
    }
    memory.resize(list.size() * static_cast<std::size_t>(group * (head_dim + 2)));
    float* partials = memory.data();
    const Item* all = list.data();
    team_each(static_cast<std::int64_t>(list.size()), [&](std::int64_t i) {
        attend(all[i].query, all[i].kv_head, all[i].chunk, partial_at(partials, i, group, head_dim));
    });
    Partial total = partial_at(partials, 0, group, head_dim);
    for (std::size_t i = 0; i < list.size(); ++i) {
        const Partial part = partial_at(partials, static_cast<std::int64_t>(i), group, head_dim);
        if (list[i].chunk == 0) {
            total = part;
        } else {
            merge(total, part, group, head_dim);
        }
        if (list[i].chunk + 1 == chunks_of(list[i].query)) finish(list[i].query, list[i].kv_head, total);
    }
}

}  // namespace retort::tensor
#endif  // HWY_ONCE
