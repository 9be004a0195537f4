// A blocking HTTP/1.1 client with deadlines, for http and https: pooled keep-alive connections, redirects of
// GET, proxies from the environment, and bodies read whole or as they come. Retries are the caller's (it
// alone knows what asking twice costs). Knows nothing of what it carries.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "http/headers.h"

namespace retort::http {

struct ClientOptions {
    std::size_t max_idle_connections = 64;  // kept a server
    double idle_seconds = 30;               // after which a kept connection is not used again
    bool proxy_from_environment = true;     // HTTP_PROXY, HTTPS_PROXY, NO_PROXY, upper or lower case; never
                                            // for localhost
    std::string user_agent = "retort/0.1";
    std::string certificates;  // a PEM file of trusted roots instead of the system's
};

struct ClientRequest {
    std::string method = "GET";
    std::string url;
    Headers headers;  // Host, Content-Length and User-Agent are added
    std::string body;
    double connect_seconds = 10;                              // name, connection and TLS together
    double read_seconds = 60;                                 // without a byte from the server
    double total_seconds = 0;                                 // 0: no limit
    std::uint64_t max_body_bytes = std::uint64_t{64} << 20U;  // of a body kept in memory
    int max_redirects = 5;
    // Addresses inside (loopback, private ranges) are refused: for URLs that a server has named. Of a name
    // that a proxy looks up nothing is known here.
    bool outside_only = false;
    // Polled about every 50 ms while waiting; true ends the request with ErrorCode::cancelled.
    std::function<bool()> cancelled;
};

struct ClientResponse {
    int status = 0;
    Headers headers;
    std::string body;               // empty when it went to on_body
    double seconds = 0;             // from the start of the request to the last byte
    double first_byte_seconds = 0;  // to the end of the header
    std::string url;                // the one that answered, after redirects
    std::uint64_t body_bytes = 0;
    bool inside = false;  // it came from an address inside
};

struct StreamHandlers {
    // Once, before any body, with status and headers filled in; redirects are not shown.
    std::function<Status(const ClientResponse&)> on_header;
    // Called as bytes arrive, for a status of 2xx only: other bodies are messages, and are kept in the
    // response. An error from a handler drops the connection and is what the call returns.
    std::function<Status(std::string_view)> on_body;
};

// Any HTTP status is a response, not an error. Errors are ErrorCode::network (the message names the host and
// what happened: not found, refused, timed out, TLS, closed early), cancelled, invalid_argument (the URL) or
// format (an answer that is not HTTP, or too large). Safe to use from many threads at once.
class Client {
  public:
    explicit Client(ClientOptions options = {});
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    Result<ClientResponse> send(const ClientRequest& request);
    Result<ClientResponse> send(const ClientRequest& request, const StreamHandlers& handlers);

  private:
    class Implementation;
    std::unique_ptr<Implementation> implementation_;
};

}  // namespace retort::http
