#include "base/hex.h"

#include <sodium.h>

namespace retort::base {

Status read_hex(std::string_view hex, std::span<std::uint8_t> out, std::string_view what) {
    std::size_t length = 0;
    const char* end = nullptr;
    if (hex.size() != 2 * out.size() ||
        sodium_hex2bin(out.data(), out.size(), hex.data(), hex.size(), nullptr, &length, &end) != 0 ||
        length != out.size()) {
        return fail(ErrorCode::format, "a {} is {} hexadecimal digits", what, 2 * out.size());
    }
    return {};
}

}  // namespace retort::base
