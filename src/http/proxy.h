// Which proxy the environment names for a URL. Private to this part; takes the variables as text so that it
// can be tested without an environment.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "http/url.h"

namespace retort::http {

struct ProxySettings {
    std::string http;    // proxy for http:// URLs, empty: none
    std::string https;   // for https:// URLs
    std::string exempt;  // NO_PROXY: comma-separated hosts, domains (with or without a leading dot), or "*"
};

// HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; the lower-case names win, as in curl.
ProxySettings proxy_settings_from_environment();
// None for localhost and loopback addresses, whatever the settings say. A proxy must be http://.
Result<std::optional<Url>> proxy_for(const ProxySettings& settings, const Url& url);
// "Basic …" for a URL's user_info, percent-decoded.
std::string basic_credentials(std::string_view user_info);

}  // namespace retort::http
