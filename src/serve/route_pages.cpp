// GET of the chat page, the console and what they load. No key: they say nothing of the model or its users.
#include <nlohmann/json.hpp>

#include "serve/pages.h"
#include "serve/routes.h"

namespace retort::serve {

namespace {

// scheme://host:port of a URL, or nothing: the policy must not be widened by what is no URL.
std::string origin_of(const std::string& url) {
    const std::size_t scheme = url.find("://");
    if (scheme == std::string::npos || !url.starts_with("http")) return {};
    const std::string origin = url.substr(0, url.find('/', scheme + 3));
    return origin.find_first_of(" ;,'\"\r\n") == std::string::npos ? origin : std::string();
}

}  // namespace

void answer_page(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& /*model*/) {
    const std::string& compare = service.options.compare_url;
    // The console makes no markup and asks no other server.
    const bool console = call.request.path.starts_with("/console");
    call.headers.set(
        "Content-Security-Policy",
        fmt::format("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                    "connect-src 'self' {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'{}",
                    console ? std::string() : origin_of(compare),
                    console ? "; require-trusted-types-for 'script'" : ""));
    call.headers.set("X-Content-Type-Options", "nosniff");
    call.headers.set("Referrer-Policy", "no-referrer");
    call.headers.set("Cross-Origin-Opener-Policy", "same-origin");
    call.headers.set("Cache-Control", "no-cache");
    if (call.request.path == "/config.json") {
        nlohmann::json config = nlohmann::json::object();
        if (!origin_of(compare).empty()) config["compare"] = compare;
        return call.send(200, config.dump());
    }
    for (const Page& page : pages()) {
        if (page.path != call.request.path) continue;
        call.headers.set("Content-Type", std::string(page.type));
        return call.send(200, std::string(page.bytes));
    }
    call.send(api::route_not_found(call.request.method, call.request.path));
}

}  // namespace retort::serve
