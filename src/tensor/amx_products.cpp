#include "tensor/amx_products.h"

#include <cstdlib>

#include "tensor/amx_target.h"
#include "tensor/dispatch.h"

namespace retort::tensor {

bool amx_fits(std::int64_t cols) {
    return kernel_isa() >= base::Isa::amx && cols % 32 == 0;
}

}  // namespace retort::tensor

#if defined(__x86_64__)
RETORT_AMX_BEGIN

namespace retort::tensor {

namespace {

// Sums are tiles 0 … 3 (token tile i, group j: 2i + j), activations 4 and 5, weights 6 and 7.
AmxShape shape_of(std::int64_t first_rows, std::int64_t second_rows) {
    AmxShape shape;
    for (const int tile : {0, 1, 4}) shape.rows[tile] = static_cast<std::uint8_t>(first_rows);
    for (const int tile : {2, 3, 5}) shape.rows[tile] = static_cast<std::uint8_t>(second_rows);
    return shape;
}

struct Operands {
    const std::uint16_t* w;
    std::int64_t group_size;
    std::int64_t cols;
    const std::uint16_t* x;
    std::int64_t x_bytes;  // of a row
    float* out;
    std::int64_t out_bytes;
};

template <int kTokenTiles, int kGroups>
void block(const Operands& o) {
    _tile_zero(0);
    if constexpr (kGroups == 2) _tile_zero(1);
    if constexpr (kTokenTiles == 2) _tile_zero(2);
    if constexpr (kTokenTiles == 2 && kGroups == 2) _tile_zero(3);
    const auto* second_x =
        reinterpret_cast<const std::uint16_t*>(reinterpret_cast<const char*>(o.x) + 16 * o.x_bytes);
    const std::uint16_t* second_w = o.w + o.group_size;
    for (std::int64_t c = 0; c < o.cols; c += 32) {
        _tile_loadd(4, o.x + c, o.x_bytes);
        _tile_loadd(6, o.w + c * 16, 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (kTokenTiles == 2) {
            _tile_loadd(5, second_x + c, o.x_bytes);
            _tile_dpbf16ps(2, 5, 6);
        }
        if constexpr (kGroups == 2) {
            _tile_loadd(7, second_w + c * 16, 64);
            _tile_dpbf16ps(1, 4, 7);
            if constexpr (kTokenTiles == 2) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, o.out, o.out_bytes);
    if constexpr (kGroups == 2) _tile_stored(1, o.out + 16, o.out_bytes);
    float* second_out = o.out + 4 * o.out_bytes;  // 16 rows on
    if constexpr (kTokenTiles == 2) _tile_stored(2, second_out, o.out_bytes);
    if constexpr (kTokenTiles == 2 && kGroups == 2) _tile_stored(3, second_out + 16, o.out_bytes);
}

// Few tokens: the weights come from memory, each once, and what is fetched ahead decides. Four groups at a
// time, so that a product need not wait for the one before it.
void stream_block(const Operands& o) {
    constexpr std::int64_t ahead = 2048;  // bytes
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const std::uint16_t* w = o.w;
    for (std::int64_t c = 0; c < o.cols; c += 32, w += 512) {
        for (std::int64_t g = 0; g < 4; ++g) {
            const char* next = reinterpret_cast<const char*>(w + g * o.group_size) + ahead;
            for (std::int64_t line = 0; line < 1024; line += 64) _mm_prefetch(next + line, _MM_HINT_T0);
        }
        _tile_loadd(4, o.x + c, o.x_bytes);
        _tile_loadd(5, w, 64);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(6, w + o.group_size, 64);
        _tile_dpbf16ps(1, 4, 6);
        _tile_loadd(7, w + 2 * o.group_size, 64);
        _tile_dpbf16ps(2, 4, 7);
        _tile_loadd(5, w + 3 * o.group_size, 64);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, o.out, o.out_bytes);
    _tile_stored(1, o.out + 16, o.out_bytes);
    _tile_stored(2, o.out + 32, o.out_bytes);
    _tile_stored(3, o.out + 48, o.out_bytes);
}

template <int kTokenTiles>
void all_groups(Operands o, std::int64_t groups, std::int64_t blocks) {
    const std::uint16_t* x = o.x;
    float* out = o.out;
    for (std::int64_t g = 0; g < groups; g += 2) {
        o.w += g == 0 ? 0 : 2 * o.group_size;
        o.x = x;
        o.out = out + 16 * g;
        for (std::int64_t b = 0; b < blocks; ++b) {
            if (g + 2 <= groups) {
                block<kTokenTiles, 2>(o);
            } else {
                block<kTokenTiles, 1>(o);
            }
            o.x += 16 * o.x_bytes;  // 32 rows of two bytes
            o.out += 8 * o.out_bytes;
        }
    }
}

}  // namespace

__attribute__((noinline)) void amx_products(const AmxWeights& w, const AmxActivations& x, float* out,
                                            std::int64_t out_stride) {
    Operands o{w.data, w.group_size, w.cols, x.data, x.stride * 2, out, out_stride * 4};
    amx_fence();
    const std::int64_t blocks = x.tokens / 32;
    if (blocks > 0) {
        const AmxShape shape;
        load_amx_shape(shape);
        all_groups<2>(o, w.groups, blocks);
        o.x += blocks * 16 * o.x_bytes;
        o.out += blocks * 8 * o.out_bytes;
    }
    const std::int64_t rest = x.tokens % 32;
    if (rest > 16) {
        const AmxShape shape = shape_of(16, rest - 16);
        load_amx_shape(shape);
        all_groups<2>(o, w.groups, 1);
    } else if (rest > 0) {
        AmxShape shape = shape_of(rest, rest);
        shape.rows[5] = 16;  // of weights in stream_block()
        load_amx_shape(shape);
        std::int64_t group = 0;
        for (; group + 4 <= w.groups; group += 4, o.w += 4 * o.group_size, o.out += 64) stream_block(o);
        all_groups<1>(o, w.groups - group, 1);
    }
    _tile_release();
    amx_fence();
}

}  // namespace retort::tensor

RETORT_AMX_END
#else
namespace retort::tensor {
void amx_products(const AmxWeights&, const AmxActivations&, float*, std::int64_t) {
    std::abort();  // amx_fits() is false on every such machine
}
}  // namespace retort::tensor
#endif
