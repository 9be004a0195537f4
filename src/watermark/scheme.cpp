#include "watermark/scheme.h"

#include <sodium.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/hash.h"
#include "base/hex.h"

namespace retort::watermark {

static_assert(crypto_shorthash_KEYBYTES == 16 && crypto_shorthash_BYTES == 8);

namespace {

constexpr std::size_t max_window = 8;

}  // namespace

std::string_view kind_name(SchemeKind kind) {
    switch (kind) {
        case SchemeKind::red_green:
            return "red-green";
        case SchemeKind::gumbel:
            return "gumbel";
        case SchemeKind::tournament:
            return "tournament";
    }
    return "";
}

Result<SchemeKind> kind_from_name(std::string_view name) {
    for (const SchemeKind kind : {SchemeKind::red_green, SchemeKind::gumbel, SchemeKind::tournament}) {
        if (name == kind_name(kind)) return kind;
    }
    return fail(ErrorCode::invalid_argument,
                "watermark scheme \"{}\" is not known; use red-green, gumbel or tournament", name);
}

Status check_scheme(const Scheme& scheme) {
    if (scheme.window < 1 || scheme.window > static_cast<std::int64_t>(max_window)) {
        return fail(ErrorCode::invalid_argument, "a watermark's window is 1 to 8 tokens, not {}",
                    scheme.window);
    }
    if (!(scheme.gamma > 0 && scheme.gamma < 1)) {
        return fail(ErrorCode::invalid_argument, "a watermark's gamma lies between 0 and 1, and {} does not",
                    scheme.gamma);
    }
    if (!(scheme.delta >= 0 && scheme.delta <= 100)) {
        return fail(ErrorCode::invalid_argument, "a watermark's delta is 0 to 100, not {}", scheme.delta);
    }
    if (scheme.layers < 2 || scheme.layers > 64) {
        return fail(ErrorCode::invalid_argument, "a tournament has 2 to 64 layers, not {}", scheme.layers);
    }
    return {};
}

Result<MasterKey> MasterKey::from_hex(std::string_view hex) {
    MasterKey key;
    RETORT_CHECK(base::read_hex(hex, key.bytes_, "master key"));
    return key;
}

MasterKey MasterKey::random() {
    MasterKey key;
    randombytes_buf(key.bytes_.data(), key.bytes_.size());
    return key;
}

std::string MasterKey::hex() const {
    return base::to_hex(bytes_);
}

Subkey MasterKey::subkey(SchemeKind kind, std::string_view channel) const {
    std::string name(kind_name(kind));
    name += ':';
    name += channel;
    std::array<std::uint8_t, 32> digest{};
    crypto_generichash(digest.data(), digest.size(), reinterpret_cast<const unsigned char*>(name.data()),
                       name.size(), nullptr, 0);
    std::uint64_t number = 0;
    for (std::size_t i = 8; i-- > 0;) number = number << 8U | digest[i];
    Subkey key;
    crypto_kdf_derive_from_key(key.bytes.data(), key.bytes.size(), number, "retortwm", bytes_.data());
    return key;
}

std::string subkey_hex(const Subkey& key) {
    return base::to_hex(key.bytes);
}

Result<Subkey> subkey_from_hex(std::string_view hex) {
    Subkey key;
    RETORT_CHECK(base::read_hex(hex, key.bytes, "watermark subkey"));
    return key;
}

std::uint64_t pair_hash(const Subkey& key, std::span<const std::int32_t> window, std::int32_t token) {
    std::array<std::uint8_t, 4 * (max_window + 1)> message{};
    std::size_t length = 0;
    const auto put = [&](std::int32_t value) {
        const auto bits = static_cast<std::uint32_t>(value);
        for (unsigned shift = 0; shift < 32; shift += 8) {
            message[length++] = static_cast<std::uint8_t>(bits >> shift);
        }
    };
    for (const std::int32_t before : window.last(std::min(window.size(), max_window))) put(before);
    put(token);
    std::array<std::uint8_t, 8> digest{};
    crypto_shorthash(digest.data(), message.data(), length, key.bytes.data());
    std::uint64_t hash = 0;
    for (std::size_t i = 8; i-- > 0;) hash = hash << 8U | digest[i];
    return hash;
}

bool is_green(std::uint64_t hash, double gamma) {
    // γ < 1, so the product is below 2⁶⁴.
    return hash < static_cast<std::uint64_t>(std::ldexp(gamma, 64));
}

double unit_number(std::uint64_t hash) {
    return std::ldexp(static_cast<double>(hash >> 11U) + 0.5, -53);
}

}  // namespace retort::watermark
