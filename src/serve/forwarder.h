// What answers instead of a model of our own: the routes that need a model go to it, after admission. And who
// keeps accounts by HTTP. Knows no other server and no store.
#pragma once

#include <memory>
#include <string>

#include "http/server.h"
#include "serve/admission.h"

namespace retort::serve {

class Forwarder {
  public:
    virtual ~Forwarder() = default;
    // Answers through the writer and settles the ticket (null: nobody keeps accounts). `headers` are the
    // answer's own. Called on a thread of the server, and must not block.
    virtual void forward(http::ServerRequest request, std::shared_ptr<http::ResponseWriter> writer,
                         http::Headers headers, std::shared_ptr<Ticket> ticket) = 0;
    [[nodiscard]] virtual bool is_ready() const = 0;
    // Prometheus' text, added to the server's own.
    [[nodiscard]] virtual std::string metrics() const = 0;
};

// Routes under /admin/, which check their caller by themselves.
class AdminRoutes {
  public:
    virtual ~AdminRoutes() = default;
    virtual void answer(http::ServerRequest request, std::shared_ptr<http::ResponseWriter> writer,
                        http::Headers headers) = 0;
    virtual void stop() = 0;
};

}  // namespace retort::serve
