#include "http/url.h"

#include <algorithm>
#include <charconv>
#include <vector>

namespace retort::http {

namespace {

constexpr std::size_t max_url_length = 8192;

bool is_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return out;
}

// Long or hostile text is not worth a screenful.
std::string shown(std::string_view text) {
    std::string out;
    for (const char c : text.substr(0, 200)) out += (c > 0x20 && c < 0x7f) ? c : '?';
    if (text.size() > 200) out += "…";
    return out;
}

Status check_characters(std::string_view text) {
    if (text.size() > max_url_length) {
        return fail(ErrorCode::invalid_argument, "a URL of {} characters is longer than {}", text.size(),
                    max_url_length);
    }
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte <= 0x20 || byte >= 0x7f || c == '"' || c == '<' || c == '>' || c == '\\' || c == '^' ||
            c == '`' || c == '{' || c == '|' || c == '}') {
            return fail(ErrorCode::invalid_argument,
                        "URL {}: the byte 0x{:02x} may not stand in a URL; write it as %{:02X}", shown(text),
                        byte, byte);
        }
    }
    return {};
}

Status parse_host(std::string_view text, std::string_view whole, Url& url) {
    std::string_view port;
    if (!text.empty() && text.front() == '[') {
        const std::size_t close = text.find(']');
        if (close == std::string_view::npos) {
            return fail(ErrorCode::invalid_argument, "URL {}: an IPv6 address lacks its ]", shown(whole));
        }
        url.host = lower(text.substr(1, close - 1));
        const bool valid =
            url.host.find(':') != std::string::npos &&
            std::all_of(url.host.begin(), url.host.end(), [](char c) {
                return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == ':' || c == '.';
            });
        if (!valid) {
            return fail(ErrorCode::invalid_argument, "URL {}: [{}] is no IPv6 address", shown(whole),
                        url.host);
        }
        port = text.substr(close + 1);
        if (!port.empty() && port.front() != ':') {
            return fail(ErrorCode::invalid_argument, "URL {}: text after ]", shown(whole));
        }
    } else {
        const std::size_t colon = text.find(':');
        url.host = lower(text.substr(0, colon));
        if (colon != std::string_view::npos) port = text.substr(colon);
        const bool valid = std::all_of(url.host.begin(), url.host.end(), [](char c) {
            return is_alnum(c) || c == '-' || c == '.' || c == '_';
        });
        if (!valid) {
            return fail(ErrorCode::invalid_argument, "URL {}: the host {} has a character no host name has",
                        shown(whole), shown(url.host));
        }
    }
    if (url.host.empty() || url.host.size() > 253) {
        return fail(ErrorCode::invalid_argument, "URL {}: no host name", shown(whole));
    }
    url.port = url.tls ? 443 : 80;
    if (port.size() > 1) {  // "host:" means the scheme's port
        const std::string_view digits = port.substr(1);
        unsigned value = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        if (error != std::errc{} || end != digits.data() + digits.size() || value == 0 || value > 65535) {
            return fail(ErrorCode::invalid_argument, "URL {}: port {} is not in 1–65535", shown(whole),
                        shown(digits));
        }
        url.port = static_cast<std::uint16_t>(value);
    }
    return {};
}

// RFC 3986, 5.2.4, on a path that begins with a slash.
std::string remove_dot_segments(std::string_view path) {
    std::vector<std::string_view> kept;
    bool ends_in_folder = false;
    std::size_t at = 0;
    while (at < path.size()) {
        const std::size_t next = std::min(path.find('/', at + 1), path.size());
        const std::string_view segment = path.substr(at + 1, next - at - 1);
        ends_in_folder = segment == "." || segment == "..";
        if (segment == "..") {
            if (!kept.empty()) kept.pop_back();
        } else if (segment != ".") {
            kept.push_back(segment);
        }
        at = next;
    }
    std::string out;
    for (const std::string_view segment : kept) (out += '/') += segment;
    if (ends_in_folder || out.empty()) out += '/';
    return out;
}

}  // namespace

std::string Url::authority() const {
    return port == (tls ? 443 : 80) ? (host.find(':') == std::string::npos ? host : "[" + host + "]")
                                    : host_port();
}

std::string Url::host_port() const {
    return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                               : fmt::format("[{}]:{}", host, port);
}

std::string Url::origin() const {
    return fmt::format("{}://{}", scheme(), host_port());
}

std::string Url::text() const {
    return fmt::format("{}://{}{}", scheme(), authority(), target);
}

Result<Url> parse_url(std::string_view text) {
    RETORT_CHECK(check_characters(text));
    Url url;
    const std::size_t colon = text.find("://");
    const std::string scheme = lower(text.substr(0, colon == std::string_view::npos ? 0 : colon));
    if (scheme != "http" && scheme != "https") {
        return fail(ErrorCode::invalid_argument, "URL {}: must begin with http:// or https://", shown(text));
    }
    url.tls = scheme == "https";
    std::string_view rest = text.substr(colon + 3);
    rest = rest.substr(0, rest.find('#'));
    const std::size_t authority_end = std::min(rest.find_first_of("/?"), rest.size());
    std::string_view authority = rest.substr(0, authority_end);
    const std::string_view target = rest.substr(authority_end);
    if (const std::size_t at = authority.rfind('@'); at != std::string_view::npos) {
        url.user_info = authority.substr(0, at);
        authority = authority.substr(at + 1);
    }
    RETORT_CHECK(parse_host(authority, url.user_info.empty() ? text : authority, url));
    url.target = target.empty() || target.front() == '?' ? "/" + std::string(target) : std::string(target);
    return url;
}

Result<Url> resolve_url(const Url& base, std::string_view reference) {
    RETORT_CHECK(check_characters(reference));
    reference = reference.substr(0, reference.find('#'));
    if (reference.find("://") < reference.find_first_of("/?")) return parse_url(reference);
    if (reference.starts_with("//")) return parse_url(fmt::format("{}:{}", base.scheme(), reference));
    // Another scheme ("mailto:x"): a colon before any slash.
    if (reference.find(':') < reference.find_first_of("/?")) return parse_url(reference);
    Url url = base;
    url.user_info.clear();
    if (reference.empty()) return url;
    const std::string_view base_path = std::string_view(base.target).substr(0, base.target.find('?'));
    const std::size_t query_at = std::min(reference.find('?'), reference.size());
    const std::string_view path = reference.substr(0, query_at);
    const std::string_view query = reference.substr(query_at);
    if (path.empty()) {
        url.target = std::string(base_path) + std::string(query);
    } else if (path.front() == '/') {
        url.target = remove_dot_segments(path) + std::string(query);
    } else {
        const std::string_view folder = base_path.substr(0, base_path.rfind('/') + 1);
        url.target = remove_dot_segments(std::string(folder) + std::string(path)) + std::string(query);
    }
    return url;
}

std::string join_url(std::string_view base, std::string_view path) {
    while (base.ends_with('/')) base.remove_suffix(1);
    while (path.starts_with('/')) path.remove_prefix(1);
    return fmt::format("{}/{}", base, path);
}

}  // namespace retort::http
