// http and https URLs: parsing, and resolving a redirect's Location against the URL it came from. Knows
// nothing of connections.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::http {

struct Url {
    bool tls = false;          // https
    std::string host;          // lower case, an IPv6 literal without its brackets
    std::uint16_t port = 0;    // never 0 after parsing: 80 or 443 when the text names none
    std::string target = "/";  // path and query as written, the fragment dropped
    std::string user_info;     // "user:password" as written; only a proxy's URL may have it

    [[nodiscard]] std::string_view scheme() const { return tls ? "https" : "http"; }
    // "host" or "host:port", IPv6 in brackets: the Host header, without the scheme's own port.
    [[nodiscard]] std::string authority() const;
    // Always with the port.
    [[nodiscard]] std::string host_port() const;
    // "https://host:port": what connections are pooled by.
    [[nodiscard]] std::string origin() const;
    [[nodiscard]] std::string text() const;  // without user_info
};

// Refuses other schemes, white space, control and non-ASCII characters, and ports outside 1–65535.
Result<Url> parse_url(std::string_view text);
// What a Location header means for a response from `base`.
Result<Url> resolve_url(const Url& base, std::string_view reference);
// "https://host/v1" + "models" → "https://host/v1/models": exactly one slash between.
std::string join_url(std::string_view base, std::string_view path);

}  // namespace retort::http
