// Fixed lengths of bytes as hexadecimal digits. Private to this part.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace retort::escrow {

Status read_hex(std::string_view hex, std::span<std::uint8_t> out, std::string_view what);

}  // namespace retort::escrow
