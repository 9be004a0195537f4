// part: http
// URLs and redirects: what is accepted can be put into a request line and a Host header, and means the same
// when parsed again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "http/proxy.h"
#include "http/url.h"

namespace {
void check(const retort::http::Url& url) {
    if (url.port == 0 || url.host.empty() || url.target.empty() || url.target.front() != '/') std::abort();
    for (const char c : url.target + url.authority()) {
        if (c <= 0x20 || c >= 0x7f) std::abort();
    }
    const auto again = retort::http::parse_url(url.text());
    if (!again || again->host != url.host || again->port != url.port || again->target != url.target ||
        again->tls != url.tls) {
        std::abort();
    }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort::http;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Url base = *parse_url("https://host:8443/a/b?c");
    if (const auto url = parse_url(text)) {
        check(*url);
        (void)basic_credentials(url->user_info);
        (void)proxy_for({"http://p:1", "http://p:1", std::string(text)}, *url);
    }
    if (const auto url = resolve_url(base, text)) check(*url);
    (void)proxy_for({std::string(text), std::string(text), ""}, base);
    return 0;
}
