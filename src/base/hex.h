// Fixed lengths of bytes as hexadecimal digits. Writing them is to_hex of base/hash.h.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace retort::base {

// Exactly two digits a byte of `out`; else a format error that calls it `what`, never showing the digits:
// they may be a secret.
Status read_hex(std::string_view hex, std::span<std::uint8_t> out, std::string_view what);

}  // namespace retort::base
