#include "escrow/coins.h"

#include <sodium.h>

#include <cmath>

#include "base/hash.h"
#include "base/hex.h"

namespace retort::escrow {

CoinStream CoinStream::random() {
    CoinStream stream;
    randombytes_buf(stream.seed_.data(), stream.seed_.size());
    return stream;
}

Result<CoinStream> CoinStream::from_hex(std::string_view hex) {
    CoinStream stream;
    RETORT_CHECK(base::read_hex(hex, stream.seed_, "coin seed"));
    return stream;
}

std::string CoinStream::hex() const {
    return base::to_hex(seed_);
}

std::string CoinStream::commitment() const {
    std::string message("retort coins");
    message += '\0';
    message.append(reinterpret_cast<const char*>(seed_.data()), seed_.size());
    return base::sha256_hex(message);
}

Coin CoinStream::at(std::uint64_t index) const {
    std::array<std::uint8_t, 8> message{};
    for (unsigned i = 0; i < 8; ++i) message[i] = static_cast<std::uint8_t>(index >> (8 * i));
    std::array<std::uint8_t, 32> digest{};
    crypto_generichash(digest.data(), digest.size(), message.data(), message.size(), seed_.data(),
                       seed_.size());
    std::uint64_t bits = 0;
    for (std::size_t i = 8; i-- > 0;) bits = bits << 8U | digest[i];
    return {std::ldexp(static_cast<double>(bits >> 11U), -53), digest[8] & 1};
}

}  // namespace retort::escrow
