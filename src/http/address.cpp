#include "http/address.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

namespace retort::http {

namespace {

namespace ip = boost::asio::ip;

struct Range4 {
    std::uint32_t first;
    unsigned bits;
};

constexpr std::uint32_t quad(unsigned a, unsigned b, unsigned c, unsigned d) {
    return a << 24U | b << 16U | c << 8U | d;
}

// Of IANA's registry of special-purpose addresses, those that are not globally reachable, and multicast.
constexpr std::array<Range4, 14> ranges4 = {{{quad(0, 0, 0, 0), 8},
                                             {quad(10, 0, 0, 0), 8},
                                             {quad(100, 64, 0, 0), 10},
                                             {quad(127, 0, 0, 0), 8},
                                             {quad(169, 254, 0, 0), 16},
                                             {quad(172, 16, 0, 0), 12},
                                             {quad(192, 0, 0, 0), 24},
                                             {quad(192, 0, 2, 0), 24},
                                             {quad(192, 168, 0, 0), 16},
                                             {quad(198, 18, 0, 0), 15},
                                             {quad(198, 51, 100, 0), 24},
                                             {quad(203, 0, 113, 0), 24},
                                             {quad(224, 0, 0, 0), 4},
                                             {quad(240, 0, 0, 0), 4}}};

bool is_inside4(std::uint32_t address) {
    return std::any_of(ranges4.begin(), ranges4.end(), [&](const Range4& range) {
        return (address ^ range.first) >> (32U - range.bits) == 0;
    });
}

std::uint32_t quad_at(const ip::address_v6::bytes_type& bytes, std::size_t at) {
    return quad(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
}

bool is_inside6(const ip::address_v6& address) {
    const auto bytes = address.to_bytes();
    const unsigned head = static_cast<unsigned>(bytes[0]) << 8U | bytes[1];
    const auto zero = [&](std::size_t from, std::size_t to) {
        return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                           bytes.begin() + static_cast<std::ptrdiff_t>(to), [](auto b) { return b == 0; });
    };
    // ::/96 holds loopback, the unspecified address and the old way to carry IPv4.
    if (zero(0, 12) || (zero(0, 10) && bytes[10] == 0xff && bytes[11] == 0xff)) {
        return zero(0, 10) && bytes[10] == 0 ? true : is_inside4(quad_at(bytes, 12));
    }
    if (head == 0x0064 && bytes[2] == 0xff && bytes[3] == 0x9b) {
        return !zero(4, 12) || is_inside4(quad_at(bytes, 12));  // 64:ff9b:1::/48 is for one house
    }
    if (head == 0x2002) return is_inside4(quad_at(bytes, 2));
    if (head == 0x2001 && bytes[2] < 2) return true;                          // 2001::/23: Teredo and others
    if (head == 0x2001 && bytes[2] == 0x0d && bytes[3] == 0xb8) return true;  // for books
    if (head == 0x0100) return true;                                          // discarded
    return (head & 0xfe00U) == 0xfc00U || (head & 0xff80U) == 0xfe80U || (head & 0xff00U) == 0xff00U;
}

}  // namespace

bool is_inside(const ip::address& address) {
    return address.is_v4() ? is_inside4(address.to_v4().to_uint()) : is_inside6(address.to_v6());
}

}  // namespace retort::http
