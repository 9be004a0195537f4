#include "tensor/decode_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "tensor/decode_attention_amx.h"
#include "tensor/decode_attention_bf16.h"
#include "tensor/decode_attention_chunk.h"
#include "tensor/dispatch.h"
#include "tensor/quantised.h"
#include "tensor/simd.h"
#include "tensor/team.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/decode_attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace retort::tensor::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;
using U32 = hn::ScalableTag<std::uint32_t>;
constexpr std::int64_t chunk_tokens = attention_chunk_tokens;
constexpr int lanes = HWY_MIN(HWY_LANES(float), 16);
constexpr int page_vectors = static_cast<int>(kv_page_tokens) / lanes;

// Rows that are computed at once: what their sums leave of the registers.
constexpr int most_rows = HWY_MAX_BYTES >= 64 ? 12 : 6;

// A line of bf16 pairs, 32 bits each, as two vectors of f32.
HWY_INLINE V LowHalves(hn::Vec<U32> line) {
    return hn::BitCast(F(), hn::ShiftLeft<16>(line));
}
HWY_INLINE V HighHalves(hn::Vec<U32> line) {
    return hn::BitCast(F(), hn::And(line, hn::Set(U32(), 0xffff0000U)));
}

template <bool kPairs, int kRows>
HWY_INLINE void Scores(const ChunkTask& task, std::int64_t first_row, float* scores) {
    const F d;
    const V scale = hn::Set(d, 1.0F / std::sqrt(static_cast<float>(task.head_dim)));
    const float* q[kRows];
    for (int r = 0; r < kRows; ++r) q[r] = task.q_of(first_row + r);
    for (std::int64_t start = 0; start < task.longest(); start += kv_page_tokens) {
        for (int v = 0; v < page_vectors; ++v) {
            V sum[kRows];
            for (int r = 0; r < kRows; ++r) sum[r] = hn::Zero(d);
            if constexpr (kPairs) {
                const auto* key = task.keys_at<std::uint32_t>(start) + v * lanes;
                for (std::int64_t i = 0; i < task.head_dim; i += 2, key += kv_page_tokens) {
                    const auto line = hn::LoadU(U32(), key);
                    const V low = LowHalves(line);
                    const V high = HighHalves(line);
                    for (int r = 0; r < kRows; ++r) {
                        sum[r] = hn::MulAdd(hn::Set(d, q[r][i]), low, sum[r]);
                        sum[r] = hn::MulAdd(hn::Set(d, q[r][i + 1]), high, sum[r]);
                    }
                }
            } else {
                const auto* key = task.keys_at<float>(start) + v * lanes;
                for (std::int64_t i = 0; i < task.head_dim; ++i) {
                    const V k = hn::LoadU(d, key + i * kv_page_tokens);
                    for (int r = 0; r < kRows; ++r) sum[r] = hn::MulAdd(hn::Set(d, q[r][i]), k, sum[r]);
                }
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

template <bool kPairs, int kRows, int kVectors>
HWY_INLINE void Values(const ChunkTask& task, std::int64_t first_row, const float* scores,
                       std::int64_t offset) {
    const F d;
    V sum[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
    }
    const std::int64_t longest = task.longest();
    for (std::int64_t start = 0; start < longest; start += kv_page_tokens) {
        const std::int64_t end = std::min(longest, start + kv_page_tokens);
        if constexpr (kPairs) {
            const auto* page = task.values_at<std::uint32_t>(start) + offset;
            for (std::int64_t j = start; j < end; j += 2, page += task.head_dim) {
                // The last position's neighbour is not this sequence's yet: whatever is there, even no
                // number.
                const bool both = j + 1 < end;
                const auto mask = hn::Set(U32(), both ? 0xffffffffU : 0xffffU);
                V low[kVectors];
                V high[kVectors];
                for (int v = 0; v < kVectors; ++v) {
                    const auto line = hn::And(hn::LoadU(U32(), page + v * lanes), mask);
                    low[v] = LowHalves(line);
                    high[v] = HighHalves(line);
                }
                for (int r = 0; r < kRows; ++r) {
                    const V p0 = hn::Set(d, scores[r * chunk_tokens + j]);
                    const V p1 = hn::Set(d, both ? scores[r * chunk_tokens + j + 1] : 0.0F);
                    for (int v = 0; v < kVectors; ++v) {
                        sum[r][v] = hn::MulAdd(p1, high[v], hn::MulAdd(p0, low[v], sum[r][v]));
                    }
                }
            }
        } else {
            const auto* page = task.values_at<float>(start) + offset;
            for (std::int64_t j = start; j < end; ++j, page += task.head_dim) {
                V row[kVectors];
                for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, page + v * lanes);
                for (int r = 0; r < kRows; ++r) {
                    const V p = hn::Set(d, scores[r * chunk_tokens + j]);
                    for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(p, row[v], sum[r][v]);
                }
            }
        }
    }
    for (int r = 0; r < kRows; ++r) {
        float* out = task.out + (first_row + r) * task.head_dim + offset;
        for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[r][v], d, out + v * lanes);
    }
}

template <bool kPairs>
float ValueAt(const ChunkTask& task, std::int64_t position, std::int64_t i) {
    const std::int64_t slot = position % kv_page_tokens;
    if constexpr (kPairs) {
        return bf16_to_f32(
            task.values_at<std::uint16_t>(position)[(slot / 2 * task.head_dim + i) * 2 + slot % 2]);
    } else {
        return task.values_at<float>(position)[slot * task.head_dim + i];
    }
}

template <bool kPairs, int kRows>
HWY_NOINLINE void ChunkRows(const ChunkTask& task, std::int64_t first_row, float* scores) {
    constexpr int vectors = kRows > 6 || most_rows <= 6 ? 2 : 4;
    Scores<kPairs, kRows>(task, first_row, scores);
    for (int r = 0; r < kRows; ++r) {
        const std::int64_t row = first_row + r;
        task.sum[row] =
            Exponentials(scores + r * chunk_tokens, task.length_of(row), task.longest(), task.maximum + row);
    }
    std::int64_t offset = 0;
    for (; offset + vectors * lanes <= task.head_dim; offset += vectors * lanes) {
        Values<kPairs, kRows, vectors>(task, first_row, scores, offset);
    }
    for (; offset + lanes <= task.head_dim; offset += lanes) {
        Values<kPairs, kRows, 1>(task, first_row, scores, offset);
    }
    for (; offset < task.head_dim; ++offset) {
        for (int r = 0; r < kRows; ++r) {
            float sum = 0;
            for (std::int64_t j = 0; j < task.longest(); ++j) {
                sum += scores[r * chunk_tokens + j] * ValueAt<kPairs>(task, j, offset);
            }
            task.out[(first_row + r) * task.head_dim + offset] = sum;
        }
    }
}

template <bool kPairs>
void AttendAll(const ChunkTask& task) {
    alignas(64) float scores[most_rows * chunk_tokens];
    const std::int64_t rows = task.rows();
    std::int64_t row = 0;
    if constexpr (most_rows == 12) {
        for (; row + 12 <= rows; row += 12) ChunkRows<kPairs, 12>(task, row, scores);
    }
    for (; row + 6 <= rows; row += 6) ChunkRows<kPairs, 6>(task, row, scores);
    for (; row + 3 <= rows; row += 3) ChunkRows<kPairs, 3>(task, row, scores);
    for (; row < rows; ++row) ChunkRows<kPairs, 1>(task, row, scores);
}

void AttendChunk(const ChunkTask& task) {
    AttendAll<false>(task);
}

void AttendChunkPairs(const ChunkTask& task) {
    AttendAll<true>(task);
}

}  // namespace retort::tensor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace retort::tensor {

HWY_EXPORT(AttendChunk);
HWY_EXPORT(AttendChunkPairs);

namespace {

constexpr std::int64_t chunk_tokens = attention_chunk_tokens;

// Queries that are computed together: neighbours in one sequence, which see nearly the same keys. Tiles take
// many rows at the price of one.
constexpr std::int64_t vector_block_queries = 4;
constexpr std::int64_t tile_block_queries = 32;

// Neighbouring queries of one sequence that end in the same chunk.
struct Block {
    std::int64_t first;
    std::int64_t count;   // 1 and more
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

// To nearest even, and no number stays one: f32_to_bf16() without a call.
std::uint16_t round_to_bf16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>(bits >> 16U | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16U & 1U)) >> 16U);
}

void store_key_value(const PagedKeyValues& cache, const AttentionShape& shape, const std::int32_t* pages,
                     std::int64_t position, const float* key, const float* value) {
    std::byte* page = cache.data + pages[position / kv_page_tokens] * cache.page_stride;
    const std::int64_t slot = position % kv_page_tokens;
    const std::int64_t kv_size = shape.kv_heads * shape.head_dim;
    if (cache.dtype == DType::bf16) {
        auto* keys = reinterpret_cast<std::uint32_t*>(page) + slot;
        for (std::int64_t i = 0; i < kv_size; i += 2, keys += kv_page_tokens) {
            *keys = round_to_bf16(key[i]) | static_cast<std::uint32_t>(round_to_bf16(key[i + 1])) << 16U;
        }
        auto* values = reinterpret_cast<std::uint16_t*>(page) + kv_size * kv_page_tokens + slot % 2;
        for (std::int64_t h = 0; h < shape.kv_heads; ++h) {
            std::uint16_t* to = values + (h * kv_page_tokens + slot / 2 * 2) * shape.head_dim;
            const float* from = value + h * shape.head_dim;
            for (std::int64_t i = 0; i < shape.head_dim; ++i) to[2 * i] = round_to_bf16(from[i]);
        }
        return;
    }
    auto* to = reinterpret_cast<float*>(page);
    for (std::int64_t i = 0; i < kv_size; ++i) to[i * kv_page_tokens + slot] = key[i];
    to += kv_size * kv_page_tokens;
    for (std::int64_t h = 0; h < shape.kv_heads; ++h) {
        std::copy_n(value + h * shape.head_dim, shape.head_dim,
                    to + (h * kv_page_tokens + slot) * shape.head_dim);
    }
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

std::int64_t kv_page_bytes(const AttentionShape& shape, DType dtype) {
    return dtype_bytes(dtype, 2 * shape.kv_heads * shape.head_dim * kv_page_tokens);
}

void store_key_values(const PagedKeyValues& cache, const AttentionShape& shape, const std::int32_t* pages,
                      std::int64_t position, std::int64_t count, const float* keys, const float* values,
                      std::int64_t stride) {
    apply_isa_limit();
    const bool whole_pages = cache.dtype == DType::bf16 && bf16_attention_fits(shape.head_dim);
    for (std::int64_t done = 0; done < count;) {
        const std::int64_t at = position + done;
        const float* key = keys + done * stride;
        const float* value = values + done * stride;
        if (whole_pages && at % kv_page_tokens == 0 && count - done >= kv_page_tokens) {
            store_page_bf16(cache.data + pages[at / kv_page_tokens] * cache.page_stride, shape, key, value,
                            stride);
            done += kv_page_tokens;
        } else {
            store_key_value(cache, shape, pages, at, key, value);
            ++done;
        }
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

    const bool pairs = cache.dtype == DType::bf16;
    const bool products = pairs && bf16_attention_fits(head_dim);
    const bool tiles = pairs && amx_decode_attention_fits(head_dim);
    const std::int64_t block_queries = tiles ? tile_block_queries : vector_block_queries;

    thread_local std::vector<Block> list;
    list.clear();
    std::int64_t most_queries = 0;
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
        most_queries = std::max(most_queries, block.count);
    }
    const std::span<const Block> blocks = list;

    const auto attend = [&](const Block& block, std::int64_t kv_head, std::int64_t chunk, const Partial& to) {
        const PagedQuery& at = queries[static_cast<std::size_t>(block.first)];
        // In a chunk that is not the last every query sees all of it.
        const bool last = chunk + 1 == block.chunks;
        ChunkTask task{cache.data,
                       cache.page_stride,
                       dtype_bytes(cache.dtype, kv_head * head_dim * kv_page_tokens),
                       dtype_bytes(cache.dtype, (kv_size + kv_head * head_dim) * kv_page_tokens),
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
        if (!pairs) return HWY_DYNAMIC_DISPATCH(AttendChunk)(task);
        if (tiles) return attend_chunk_amx(task);
        if (products) return attend_chunk_bf16(task);
        HWY_DYNAMIC_DISPATCH(AttendChunkPairs)(task);
    };
    const auto finish = [&](const Block& block, std::int64_t kv_head, const Partial& from) {
        for (std::int64_t row = 0; row < block.count * group; ++row) {
            float* to =
                out + (block.first + row / group) * out_stride + (kv_head * group + row % group) * head_dim;
            const float inverse = 1.0F / from.sum[row];
            for (std::int64_t i = 0; i < head_dim; ++i) to[i] = from.out[row * head_dim + i] * inverse;
        }
    };
    const std::int64_t rows = most_queries * group;

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
