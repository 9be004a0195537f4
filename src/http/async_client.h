// One request to another server, made on the thread of the server's connection that it is for, without
// blocking it: pooled keep-alive connections for each thread, an answer's parts as they come. Knows nothing
// of what it carries, follows no redirect and repeats nothing but a request whose kept connection turned out
// to be closed.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "http/headers.h"
#include "http/url.h"

namespace retort::http {

// One that is asked often: its names are put together once.
struct AsyncServer {
    explicit AsyncServer(Url where)
        : url(std::move(where)), origin(url.origin()), authority(url.authority()) {}
    Url url;
    std::string origin;
    std::string authority;
};

struct AsyncRequest {
    std::shared_ptr<const AsyncServer> server;
    std::string method = "GET";
    std::string target;
    // Both are read before start_request returns.
    std::string_view fields;  // "Name: value\r\n" each; Host and Content-Length are added
    std::string_view body;
    double connect_seconds = 5;
    double quiet_seconds = 300;  // without a byte
};

// All on the thread that started the request; on_end last and once, also after cancel(). Kept until then.
class AsyncListener {
  public:
    virtual ~AsyncListener() = default;
    virtual void on_header(int status, const Headers& headers) = 0;
    virtual void on_body(std::string_view bytes) = 0;
    virtual void on_end(const Status& status) = 0;
};

class AsyncCall {
  public:
    virtual ~AsyncCall() = default;
    // On the same thread. Closes the connection; on_end follows with ErrorCode::cancelled.
    virtual void cancel() = 0;
};

// Only on a thread of an http::Server (in its handler, or by ResponseWriter::run).
std::shared_ptr<AsyncCall> start_request(AsyncRequest request, std::shared_ptr<AsyncListener> listener);

}  // namespace retort::http
