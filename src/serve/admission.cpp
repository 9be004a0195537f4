#include "serve/admission.h"

namespace retort::serve {

std::string_view key_of(const http::ServerRequest& request) {
    constexpr std::string_view scheme = "Bearer ";
    const std::string_view header = request.headers.get("Authorization");
    if (header.size() > scheme.size() && http::equal_ignoring_case(header.substr(0, scheme.size()), scheme)) {
        return header.substr(scheme.size());
    }
    return request.headers.get("X-Api-Key");
}

}  // namespace retort::serve
