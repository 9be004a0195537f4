#include "tensor/gemm_amx.h"

#include <algorithm>
#include <cstdlib>

#include "base/parallel.h"
#include "tensor/amx_gemm_tiles.h"
#include "tensor/buffer.h"
#include "tensor/dispatch.h"

namespace retort::tensor {

bool gemm_amx_fits(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k) {
    // Beyond, as at the head, what is packed does not stay in a cache.
    constexpr std::int64_t most = 8192;
    if (kernel_isa() < base::Isa::amx || n % 32 != 0 || std::max({m, n, k}) > most) return false;
    if (transpose_a) return !transpose_b && m % 32 == 0;
    return k % 32 == 0;
}

}  // namespace retort::tensor

#if defined(__x86_64__)
RETORT_AMX_BEGIN

namespace retort::tensor {

namespace {

constexpr std::int64_t chunk_steps = 9;  // of 32 along k: a panel's part in the first cache
constexpr std::int64_t block_bytes = std::int64_t{768}
                                     << 10U;  // of a's rows that all panels meet, in the second

struct Problem {
    bool turned_a;
    bool turned_b;
    std::int64_t m, n, k;
    std::int64_t padded_k;  // whole steps
    const std::uint16_t* a;
    std::int64_t lda;
    const std::uint16_t* b;
    std::int64_t ldb;
    const GemmOutput& to;
};

std::uint16_t* at_least(Buffer<std::uint16_t>& buffer, std::int64_t count) {
    if (buffer.size() < count) buffer = Buffer<std::uint16_t>(count);
    return buffer.data();
}

// 32 columns of b, stored turned, as two groups of lines, padded_k·16 elements each.
void pack_turned_panel(const Problem& p, std::int64_t column, std::uint16_t* to) {
    for (std::int64_t g = 0; g < 2; ++g, to += p.padded_k * 16) {
        const std::uint16_t* from = p.b + (column + 16 * g) * p.ldb;
        for (std::int64_t i = 0; i < p.k; i += 32) {
            transpose_dwords(reinterpret_cast<const std::uint32_t*>(from + i), p.ldb / 2,
                             reinterpret_cast<std::uint32_t*>(to + i * 16));
        }
    }
}

// Rows first … last−1 of b (even numbers) of all its panels: along the rows, as they lie in memory.
void pack_rows(const Problem& p, std::int64_t first, std::int64_t last, std::uint16_t* to) {
    const __m256i none = _mm256_setzero_si256();
    for (std::int64_t i = first; i < last; i += 2) {
        const std::uint16_t* low = p.b + i * p.ldb;
        const std::uint16_t* high = low + p.ldb;
        std::uint16_t* line = to + i * 16;
        for (std::int64_t column = 0; column < p.n; column += 16, line += p.padded_k * 16) {
            _mm512_storeu_si512(line, pair_rows_of(i < p.k ? load_16(low + column) : none,
                                                   i + 1 < p.k ? load_16(high + column) : none));
        }
    }
}

// Of a, stored turned, (k, m): columns row … row + rows − 1 of 32 of its rows from i on, as rows of padded_k
// elements.
void turn_rows(const Problem& p, std::int64_t row, std::int64_t rows, std::int64_t i, std::uint16_t* to) {
    alignas(64) std::uint32_t lines[16 * 16];
    const __m256i none = _mm256_setzero_si256();
    for (std::int64_t at = 0; at < rows; at += 16) {
        const std::uint16_t* from = p.a + i * p.lda + row + at;
        for (std::int64_t j = 0; j < 32; j += 2) {
            const __m256i first = i + j < p.k ? load_16(from + j * p.lda) : none;
            const __m256i second = i + j + 1 < p.k ? load_16(from + (j + 1) * p.lda) : none;
            _mm512_store_si512(lines + 8 * j, pair_rows_of(first, second));
        }
        transpose_dwords(lines, 16, lines);
        for (std::int64_t r = 0; r < 16; ++r) {
            _mm512_storeu_si512(to + (at + r) * p.padded_k + i, _mm512_load_si512(lines + 16 * r));
        }
    }
}

// Fewer than 32 rows, that nothing beyond them is read or written.
void last_rows(std::int64_t rows, const std::uint16_t* a, std::int64_t lda, const std::uint16_t* panel,
               std::int64_t group, std::int64_t steps, const float* from, std::int64_t ldf, float* c,
               std::int64_t ldc) {
    AmxShape shape;
    for (const int tile : {0, 1, 4})
        shape.rows[tile] = static_cast<std::uint8_t>(std::min<std::int64_t>(rows, 16));
    const std::int64_t second = rows - 16;
    for (const int tile : {2, 3, 5})
        shape.rows[tile] = static_cast<std::uint8_t>(std::max<std::int64_t>(second, 1));
    load_amx_shape(shape);
    const std::uint16_t* a1 = a + 16 * lda;
    float* c1 = c + 16 * ldc;
    const float* from1 = from == nullptr ? nullptr : from + 16 * ldf;
    if (from != nullptr) {
        _tile_loadd(0, from, ldf * 4);
        _tile_loadd(1, from + 16, ldf * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
    }
    if (second > 0 && from != nullptr) {
        _tile_loadd(2, from1, ldf * 4);
        _tile_loadd(3, from1 + 16, ldf * 4);
    } else {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (std::int64_t l = 0; l < steps; ++l) {
        _tile_loadd(4, a + 32 * l, lda * 2);
        _tile_loadd(6, panel + 512 * l, 64);
        _tile_loadd(7, panel + group + 512 * l, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (second <= 0) continue;
        _tile_loadd(5, a1 + 32 * l, lda * 2);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, ldc * 4);
    _tile_stored(1, c + 16, ldc * 4);
    if (second > 0) {
        _tile_stored(2, c1, ldc * 4);
        _tile_stored(3, c1 + 16, ldc * 4);
    }
    amx_fence();
}

// Rows of a times a panel of 32 columns, part of k after part. Rounded results are summed in `sums` first.
void panel_product(const Problem& p, const std::uint16_t* a, std::int64_t lda, std::int64_t row,
                   std::int64_t rows, std::int64_t column, const std::uint16_t* panel, float* sums) {
    const std::int64_t steps = p.padded_k / 32;
    const std::int64_t chunks = (steps + chunk_steps - 1) / chunk_steps;
    const std::int64_t group = p.padded_k * 16;
    const std::int64_t at = row * p.to.stride + column;
    const bool rounded = p.to.narrow != nullptr;
    float* c = rounded ? sums : p.to.c + at;
    const std::int64_t ldc = rounded ? 32 : p.to.stride;
    const float* addend = p.to.addend == nullptr ? nullptr : p.to.addend + at;
    const std::int64_t m = rows / 32;
    {
        const AmxTiles tiles;
        for (std::int64_t part = 0; part < chunks && m > 0; ++part) {
            const std::int64_t first = steps * part / chunks;
            const std::int64_t count = steps * (part + 1) / chunks - first;
            const float* from = part > 0 ? c : addend;
            const std::int64_t ldf = part > 0 ? ldc : p.to.stride;
            if (from != nullptr) {
                tile_gemm<true>(a + 32 * first, lda, panel + 512 * first, group, from, ldf, c, ldc, m, 1,
                                count);
            } else {
                tile_gemm<false>(a + 32 * first, lda, panel + 512 * first, group, from, ldf, c, ldc, m, 1,
                                 count);
            }
        }
        if (rows % 32 != 0) {
            const float* from = addend == nullptr ? nullptr : addend + 32 * m * p.to.stride;
            last_rows(rows % 32, a + 32 * m * lda, lda, panel, group, steps, from, p.to.stride,
                      c + 32 * m * ldc, ldc);
        }
    }
    for (std::int64_t r = 0; rounded && r < rows; ++r) {
        std::uint16_t* to = p.to.narrow + at + r * p.to.stride;
        store_16(to, round_bf16(_mm512_loadu_ps(sums + 32 * r)));
        store_16(to + 16, round_bf16(_mm512_loadu_ps(sums + 32 * r + 16)));
    }
}

}  // namespace

void gemm_amx(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
              const std::uint16_t* a, std::int64_t lda, const std::uint16_t* b, std::int64_t ldb,
              const GemmOutput& output) {
    thread_local Buffer<std::uint16_t> panel_buffer;
    const std::int64_t padded_k = (k + 31) / 32 * 32;
    const Problem p{transpose_a, transpose_b, m, n, k, padded_k, a, lda, b, ldb, output};
    const std::int64_t panels = n / 32;
    const std::int64_t panel_size = 32 * padded_k;
    std::uint16_t* packed = at_least(panel_buffer, panels * panel_size);
    if (transpose_b) {
        base::parallel_ranges(panels, 1, [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t j = first; j < last; ++j) pack_turned_panel(p, 32 * j, packed + j * panel_size);
        });
    } else {
        base::parallel_ranges(padded_k / 32, 1, [&](std::int64_t first, std::int64_t last) {
            pack_rows(p, 32 * first, 32 * last, packed);
        });
    }
    // A thread keeps to rows, as the passes before and after do: what it reads and writes stays in its cache.
    const std::int64_t row_tiles = (m + 31) / 32;
    const auto block = std::max<std::int64_t>(32, block_bytes / (2 * padded_k) / 32 * 32);
    base::parallel_ranges(row_tiles, 1, [&](std::int64_t first, std::int64_t last) {
        thread_local Buffer<std::uint16_t> turned;
        thread_local Buffer<float> sums;
        if (sums.size() < 32 * block) sums = Buffer<float>(32 * block);
        const std::int64_t end = std::min(32 * last, m);
        for (std::int64_t row = 32 * first; row < end; row += block) {
            const std::int64_t rows = std::min(block, end - row);
            const std::uint16_t* from = a + row * lda;
            if (transpose_a) {
                std::uint16_t* to = at_least(turned, rows * padded_k);
                for (std::int64_t i = 0; i < padded_k; i += 32) turn_rows(p, row, rows, i, to);
                from = to;
            }
            for (std::int64_t j = 0; j < panels; ++j) {
                panel_product(p, from, transpose_a ? padded_k : lda, row, rows, 32 * j,
                              packed + j * panel_size, sums.data());
            }
        }
    });
}

}  // namespace retort::tensor

RETORT_AMX_END
#else
namespace retort::tensor {
void gemm_amx(bool, bool, std::int64_t, std::int64_t, std::int64_t, const std::uint16_t*, std::int64_t,
              const std::uint16_t*, std::int64_t, const GemmOutput&) {
    std::abort();  // gemm_amx_fits() is false on every such machine
}
}  // namespace retort::tensor
#endif
