// Whether an address is one that only machines of the same house reach. Knows no names.
#pragma once

#include <boost/asio/ip/address.hpp>

namespace retort::http {

// Loopback, private, link-local, shared, reserved and multicast addresses, also where IPv6 carries them
// (mapped, NAT64, 6to4): what a server outside must not be able to send us to.
bool is_inside(const boost::asio::ip::address& address);

}  // namespace retort::http
