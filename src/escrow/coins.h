// The committed random stream: which requests are twins and which of two answers is served, fixed by a secret
// seed before the first request and published as a hash, so that nobody can choose afterwards. Knows no
// request.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::escrow {

struct Coin {
    double selection = 0;     // uniform in [0, 1): a twin when below the share
    std::int64_t served = 0;  // 0 or 1: which of the two answers is served
};

class CoinStream {
  public:
    static CoinStream random();
    static Result<CoinStream> from_hex(std::string_view hex);  // 32 bytes
    [[nodiscard]] std::string hex() const;
    // SHA-256 (hex) over "retort coins" ‖ 0 ‖ seed.
    [[nodiscard]] std::string commitment() const;
    // Of the index-th request that could be a twin: BLAKE2b-256 keyed with the seed over the index as eight
    // little-endian bytes; the first eight bytes select, the lowest bit of the ninth is the coin.
    [[nodiscard]] Coin at(std::uint64_t index) const;

  private:
    std::array<std::uint8_t, 32> seed_{};
};

}  // namespace retort::escrow
