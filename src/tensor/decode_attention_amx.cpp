#include "tensor/decode_attention_amx.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "tensor/amx_target.h"
#include "tensor/decode_attention_softmax.h"
#include "tensor/dispatch.h"

namespace retort::tensor {

namespace {

constexpr std::int64_t most_head_dim = 256;

}  // namespace

bool amx_decode_attention_fits(std::int64_t head_dim) {
    return kernel_isa() >= base::Isa::amx && head_dim % 32 == 0 && head_dim <= most_head_dim;
}

}  // namespace retort::tensor

#if defined(__x86_64__)
RETORT_AMX_BEGIN

namespace retort::tensor {

namespace {

constexpr std::int64_t chunk = attention_chunk_tokens;
constexpr std::int64_t tile_rows = 16;
constexpr std::int64_t most_rows = 2 * tile_rows;  // of one pass
// A page is 16 columns of scores, and 8 lines of pairs of what the weights are multiplied with.
constexpr std::int64_t page_pairs = kv_page_tokens / 2;

struct Workspace {
    alignas(64) std::uint16_t query[most_rows][most_head_dim];
    alignas(64) float scores[most_rows][chunk];
    alignas(64) std::uint32_t weights[most_rows][chunk / 2];
    alignas(64) std::uint32_t last_page[page_pairs * most_head_dim];  // values, zero behind the last position
};

// Tiles 0 to 3 are sums. Of more than 16 rows: 0 and 1 of the first 16, 2 and 3 of the others; 4 and 5 are
// the rows that come in, 6 and 7 what they meet. Of fewer: 4 the rows, 5 to 7 what they meet. A row's numbers
// do not depend on how many rows a tile has.
AmxShape shape_of(std::int64_t rows, int row_bytes, int lines) {
    AmxShape shape;
    const std::int64_t first = std::min(rows, tile_rows);
    const bool second = rows > tile_rows;
    for (int tile = 0; tile < 8; ++tile) {
        const bool below = second && (tile == 2 || tile == 3 || tile == 5);
        shape.rows[tile] = static_cast<std::uint8_t>(below ? rows - tile_rows : first);
    }
    for (const int tile : {4, 5}) shape.row_bytes[tile] = static_cast<std::uint16_t>(row_bytes);
    if (!second) shape.row_bytes[5] = 64;
    for (const int tile : {5, 6, 7}) {
        if (tile > 5 || !second) shape.rows[tile] = static_cast<std::uint8_t>(lines);
    }
    return shape;
}

// What a sum is made of: `steps` products of rows (row_stride bytes apart, row_step bytes further each) and
// lines that a functor finds by step and column, line_stride bytes apart.
struct Operands {
    const std::byte* rows;
    std::int64_t row_stride;
    std::int64_t row_step;
    std::int64_t steps;
    std::int64_t line_stride;
};

// Sums of up to 16 rows over 1, 2 or 4 blocks of 16 columns. to: (rows, …) f32, `to_stride` bytes apart.
template <int kColumns, typename Lines>
inline void sums_of_few(const Operands& from, const Lines& lines_of, float* to, std::int64_t to_stride) {
    _tile_zero(0);
    if constexpr (kColumns > 1) _tile_zero(1);
    if constexpr (kColumns > 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (std::int64_t step = 0; step < from.steps; ++step) {
        _tile_loadd(4, from.rows + step * from.row_step, from.row_stride);
        _tile_loadd(5, lines_of(step, 0), from.line_stride);
        _tile_dpbf16ps(0, 4, 5);
        if constexpr (kColumns > 1) {
            _tile_loadd(6, lines_of(step, 1), from.line_stride);
            _tile_dpbf16ps(1, 4, 6);
        }
        if constexpr (kColumns > 2) {
            _tile_loadd(7, lines_of(step, 2), from.line_stride);
            _tile_dpbf16ps(2, 4, 7);
            _tile_loadd(5, lines_of(step, 3), from.line_stride);
            _tile_dpbf16ps(3, 4, 5);
        }
    }
    _tile_stored(0, to, to_stride);
    if constexpr (kColumns > 1) _tile_stored(1, to + 16, to_stride);
    if constexpr (kColumns > 2) {
        _tile_stored(2, to + 32, to_stride);
        _tile_stored(3, to + 48, to_stride);
    }
}

// The same of 17 to 32 rows over 1 or 2 blocks.
template <int kColumns, typename Lines>
inline void sums_of_many(const Operands& from, const Lines& lines_of, float* to, std::int64_t to_stride) {
    _tile_zero(0);
    _tile_zero(2);
    if constexpr (kColumns > 1) {
        _tile_zero(1);
        _tile_zero(3);
    }
    const std::byte* second = from.rows + tile_rows * from.row_stride;
    for (std::int64_t step = 0; step < from.steps; ++step) {
        _tile_loadd(4, from.rows + step * from.row_step, from.row_stride);
        _tile_loadd(6, lines_of(step, 0), from.line_stride);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (kColumns > 1) {
            _tile_loadd(7, lines_of(step, 1), from.line_stride);
            _tile_dpbf16ps(1, 4, 7);
        }
        _tile_loadd(5, second + step * from.row_step, from.row_stride);
        _tile_dpbf16ps(2, 5, 6);
        if constexpr (kColumns > 1) _tile_dpbf16ps(3, 5, 7);
    }
    float* below = to + tile_rows * to_stride / 4;
    _tile_stored(0, to, to_stride);
    _tile_stored(2, below, to_stride);
    if constexpr (kColumns > 1) {
        _tile_stored(1, to + 16, to_stride);
        _tile_stored(3, below + 16, to_stride);
    }
}

// Over `columns` blocks of 16, as many at once as the tiles hold. lines_of(step, column).
template <bool kMany, typename Lines>
inline void tile_sums(const Operands& from, std::int64_t columns, const Lines& lines_of, float* to,
                      std::int64_t to_stride) {
    std::int64_t done = 0;
    const auto shifted = [&](std::int64_t step, std::int64_t column) {
        return lines_of(step, done + column);
    };
    if constexpr (kMany) {
        for (; done + 2 <= columns; done += 2) sums_of_many<2>(from, shifted, to + 16 * done, to_stride);
        if (done < columns) sums_of_many<1>(from, shifted, to + 16 * done, to_stride);
    } else {
        for (; done + 4 <= columns; done += 4) sums_of_few<4>(from, shifted, to + 16 * done, to_stride);
        for (; done + 2 <= columns; done += 2) sums_of_few<2>(from, shifted, to + 16 * done, to_stride);
        if (done < columns) sums_of_few<1>(from, shifted, to + 16 * done, to_stride);
    }
}

void round_queries(const ChunkTask& task, std::int64_t first_row, std::int64_t rows, Workspace& space) {
    for (std::int64_t r = 0; r < rows; ++r) {
        const float* q = task.q_of(first_row + r);
        for (std::int64_t i = 0; i < task.head_dim; i += 16) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(space.query[r] + i),
                                round_bf16(_mm512_loadu_ps(q + i)));
        }
    }
}

template <bool kMany>
void score_pages(const ChunkTask& task, std::int64_t rows, std::int64_t pages, Workspace& space) {
    const AmxShape shape = shape_of(rows, 64, 16);
    load_amx_shape(shape);
    constexpr std::int64_t line = kv_page_tokens * 4;
    const auto keys_at = [&](std::int64_t step, std::int64_t page) {
        return task.keys_at<std::byte>(page * kv_page_tokens) + step * 16 * line;
    };
    tile_sums<kMany>({reinterpret_cast<const std::byte*>(space.query), sizeof(space.query[0]), 64,
                      task.head_dim / 32, line},
                     pages, keys_at, space.scores[0], sizeof(space.scores[0]));
}

template <bool kMany>
void mix_values(const ChunkTask& task, std::int64_t first_row, std::int64_t rows, std::int64_t pages,
                bool last_is_copied, Workspace& space) {
    const AmxShape shape = shape_of(rows, kv_page_tokens * 2, page_pairs);
    load_amx_shape(shape);
    const auto values_at = [&](std::int64_t page, std::int64_t column) {
        const auto* values = last_is_copied && page + 1 == pages
                                 ? space.last_page
                                 : task.values_at<std::uint32_t>(page * kv_page_tokens);
        return reinterpret_cast<const std::byte*>(values + column * 16);
    };
    tile_sums<kMany>({reinterpret_cast<const std::byte*>(space.weights), sizeof(space.weights[0]),
                      kv_page_tokens * 2, pages, task.head_dim * 4},
                     task.head_dim / 16, values_at, task.out + first_row * task.head_dim, task.head_dim * 4);
}

// Behind the last position is what no one has written, or another sequence: weights of 0 do not silence what
// is no number.
bool copy_last_page(const ChunkTask& task, std::int64_t pages, Workspace& space) {
    const std::int64_t seen = task.longest() - (pages - 1) * kv_page_tokens;
    if (seen == kv_page_tokens) return false;
    const auto* values = task.values_at<std::uint32_t>((pages - 1) * kv_page_tokens);
    const std::int64_t whole = seen / 2 * task.head_dim;
    std::copy_n(values, whole, space.last_page);
    std::fill(space.last_page + whole, space.last_page + page_pairs * task.head_dim, 0U);
    if (seen % 2 != 0) {
        for (std::int64_t i = 0; i < task.head_dim; ++i)
            space.last_page[whole + i] = values[whole + i] & 0xffffU;
    }
    return true;
}

template <bool kMany>
void attend_rows(const ChunkTask& task, std::int64_t first_row, std::int64_t rows, bool last_is_copied,
                 Workspace& space) {
    const std::int64_t pages = (task.longest() + kv_page_tokens - 1) / kv_page_tokens;
    const __m512 scale = _mm512_set1_ps(1.0F / std::sqrt(static_cast<float>(task.head_dim)));
    round_queries(task, first_row, rows, space);
    amx_fence();
    score_pages<kMany>(task, rows, pages, space);
    amx_fence();
    for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t row = first_row + r;
        for (std::int64_t i = 0; i < task.length_of(row); i += 16) {
            _mm512_store_ps(space.scores[r] + i, _mm512_mul_ps(_mm512_load_ps(space.scores[r] + i), scale));
        }
        soften(space.scores[r], space.weights[r], task.length_of(row), pages * kv_page_tokens,
               task.maximum + row, task.sum + row);
    }
    amx_fence();
    mix_values<kMany>(task, first_row, rows, pages, last_is_copied, space);
    amx_fence();
}

}  // namespace

void attend_chunk_amx(const ChunkTask& task) {
    Workspace space;
    const std::int64_t pages = (task.longest() + kv_page_tokens - 1) / kv_page_tokens;
    const bool last_is_copied = copy_last_page(task, pages, space);
    for (std::int64_t row = 0; row < task.rows(); row += most_rows) {
        const std::int64_t rows = std::min(most_rows, task.rows() - row);
        if (rows > tile_rows) {
            attend_rows<true>(task, row, rows, last_is_copied, space);
        } else {
            attend_rows<false>(task, row, rows, last_is_copied, space);
        }
    }
    _tile_release();
    amx_fence();
}

}  // namespace retort::tensor

RETORT_AMX_END
#else
namespace retort::tensor {
void attend_chunk_amx(const ChunkTask&) {
    std::abort();  // amx_decode_attention_fits() is false on every such machine
}
}  // namespace retort::tensor
#endif
