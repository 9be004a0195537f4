// An HTTP/1.1 server: requests whole to a handler, answers whole or as a stream written from any thread, a
// client that goes away noticed at once. Knows no route and nothing of what it carries.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "http/headers.h"

namespace retort::http {

struct ServerRequest {
    std::string method;
    std::string path;   // of the target, still percent-encoded
    std::string query;  // without the '?'
    Headers headers;
    std::string body;
    std::string remote_address;
};

// Answers one request. Every function may be called from any thread, by one thread at a time; none blocks. A
// writer that is dropped before it has answered closes the connection.
class ResponseWriter {
  public:
    virtual ~ResponseWriter() = default;

    // The whole answer. Content-Length is added; a HEAD request gets the header alone.
    virtual void send(int status, Headers headers, std::string body) = 0;
    // A stream: begin, any number of writes, end. Each write leaves at once (no Nagle, no gathering).
    virtual void begin_stream(int status, Headers headers) = 0;
    // False once the client has gone, or reads so slowly that more would only pile up.
    virtual bool write(std::string_view piece) = 0;
    virtual void end() = 0;
    [[nodiscard]] virtual bool is_gone() const = 0;
    // Called at most once, when the client goes before the answer has ended; at once if it has gone already.
    // Runs on a thread of the server: it must not block.
    virtual void on_gone(std::function<void()> callback) = 0;
    // Runs `work` on the thread of this connection: at once when called there.
    virtual void run(std::function<void()> work) = 0;
};

struct ServerOptions {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;  // 0: any free one; port() tells which
    int threads = 2;
    std::size_t max_header_bytes = 16UL * 1024;
    std::size_t max_body_bytes = 8UL * 1024 * 1024;
    std::size_t max_connections = 8192;
    std::size_t max_queued_bytes = 8UL * 1024 * 1024;  // of one stream whose client does not read
    // Both PEM, the certificate with its chain: HTTPS instead of HTTP, TLS 1.2 and later. Empty: HTTP.
    std::string certificate_file;
    std::string key_file;
    double handshake_seconds = 10;
    double idle_seconds = 75;   // a kept connection without a request; a header that does not end
    double body_seconds = 60;   // a body that does not end
    double write_seconds = 60;  // a client that does not read
    double drain_seconds = 30;  // for answers in progress when the server stops
    // The body (and its content type) of answers the server gives by itself: 400, 413, 431.
    std::function<std::string(int status, std::string_view message)> error_body;
    std::string error_content_type = "application/json";
    std::function<Headers()> error_headers;  // of the same answers
};

class Server {
  public:
    // Called on a thread of the server: it must not block, and answers through the writer now or later.
    using Handler = std::function<void(ServerRequest, std::shared_ptr<ResponseWriter>)>;

    // Listens when it returns.
    static Result<std::unique_ptr<Server>> start(ServerOptions options, Handler handler);
    ~Server();  // stop() and join()
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    [[nodiscard]] std::uint16_t port() const;
    // No new connection is taken, idle ones are closed, answers in progress may end within drain_seconds.
    // Returns at once; safe to call more than once, from any thread but not from a signal handler.
    void stop();
    // Until the server has stopped.
    void join();
    [[nodiscard]] std::size_t connections() const;
    // Reads certificate and key anew, for connections from now on; after an error the old ones stay.
    Status reload_certificate();

  private:
    class Implementation;
    explicit Server(std::unique_ptr<Implementation> implementation);
    std::unique_ptr<Implementation> implementation_;
};

// "Not Found"
std::string_view status_text(int status);

}  // namespace retort::http
