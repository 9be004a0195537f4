#include "http/proxy.h"

#include <openssl/evp.h>

#include <cstdlib>
#include <vector>

#include "http/headers.h"

namespace retort::http {

namespace {

std::string environment(const char* lower, const char* upper) {
    for (const char* name : {lower, upper}) {
        const char* value = std::getenv(name);  // read once, when a client is made
        if (value != nullptr && *value != '\0') return value;
    }
    return {};
}

bool is_loopback(std::string_view host) {
    return host == "localhost" || host.ends_with(".localhost") || host == "::1" || host.starts_with("127.");
}

bool is_exempt(std::string_view list, const Url& url) {
    while (!list.empty()) {
        const std::size_t comma = std::min(list.find(','), list.size());
        std::string_view entry = list.substr(0, comma);
        list.remove_prefix(std::min(comma + 1, list.size()));
        while (entry.starts_with(' ')) entry.remove_prefix(1);
        while (entry.ends_with(' ')) entry.remove_suffix(1);
        if (entry == "*") return true;
        if (const std::size_t colon = entry.rfind(':');
            colon != std::string_view::npos && entry.find(':') == colon) {
            if (entry.substr(colon + 1) != std::to_string(url.port)) continue;
            entry = entry.substr(0, colon);
        }
        if (entry.starts_with("*.")) entry.remove_prefix(2);
        if (entry.starts_with('.')) entry.remove_prefix(1);
        if (entry.empty()) continue;
        const std::string_view host = url.host;
        if (equal_ignoring_case(host, entry)) return true;
        if (host.size() > entry.size() && host[host.size() - entry.size() - 1] == '.' &&
            equal_ignoring_case(host.substr(host.size() - entry.size()), entry)) {
            return true;
        }
    }
    return false;
}

std::string percent_decoded(std::string_view text) {
    const auto digit = [](char c) {
        if (c >= '0' && c <= '9') return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        if (c >= 'A' && c <= 'F') return c - 'A' + 10;
        return -1;
    };
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
            out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

}  // namespace

ProxySettings proxy_settings_from_environment() {
    ProxySettings settings;
    const std::string all = environment("all_proxy", "ALL_PROXY");
    settings.http = environment("http_proxy", "HTTP_PROXY");
    settings.https = environment("https_proxy", "HTTPS_PROXY");
    if (settings.http.empty()) settings.http = all;
    if (settings.https.empty()) settings.https = all;
    settings.exempt = environment("no_proxy", "NO_PROXY");
    return settings;
}

Result<std::optional<Url>> proxy_for(const ProxySettings& settings, const Url& url) {
    const std::string& named = url.tls ? settings.https : settings.http;
    if (named.empty() || is_loopback(url.host) || is_exempt(settings.exempt, url)) return std::nullopt;
    const std::string text = named.find("://") == std::string::npos ? "http://" + named : named;
    if (!text.starts_with("http://")) {
        return fail(ErrorCode::unsupported,
                    "the environment names a {} proxy; only http:// proxies are supported (HTTP_PROXY, "
                    "HTTPS_PROXY, ALL_PROXY)",
                    text.substr(0, text.find("://")));
    }
    RETORT_TRY(Url proxy, parse_url(text));
    return proxy;
}

std::string basic_credentials(std::string_view user_info) {
    const std::string plain = percent_decoded(user_info);
    std::vector<unsigned char> encoded(4 * ((plain.size() + 2) / 3) + 1);
    const int length = EVP_EncodeBlock(encoded.data(), reinterpret_cast<const unsigned char*>(plain.data()),
                                       static_cast<int>(plain.size()));
    return "Basic " + std::string(encoded.begin(), encoded.begin() + length);
}

}  // namespace retort::http
