// One request to another server, made on the thread of the server's connection that it is for, without
// blocking it: pooled keep-alive connections for each thread, an answer's parts as they come. Knows nothing
// of what it carries, follows no redirect and repeats nothing but a request whose kept connection turned out
// to be closed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "http/headers.h"
#include "http/url.h"

namespace retort::http {

struct AsyncRequest {
    Url url;
    std::string method = "GET";
    Headers headers;  // Host, Content-Length and Connection are added
    std::string body;
    double connect_seconds = 5;
    double quiet_seconds = 300;  // without a byte
};

// All on the thread that started the request; on_end last and once, also after cancel().
struct AsyncHandlers {
    std::function<void(int status, const Headers& headers)> on_header;
    std::function<void(std::string_view)> on_body;
    std::function<void(const Status&)> on_end;
};

class AsyncCall {
  public:
    virtual ~AsyncCall() = default;
    // On the same thread. Closes the connection; on_end follows with ErrorCode::cancelled.
    virtual void cancel() = 0;
};

// Only on a thread of an http::Server (in its handler, or by ResponseWriter::run).
std::shared_ptr<AsyncCall> start_request(AsyncRequest request, AsyncHandlers handlers);

}  // namespace retort::http
