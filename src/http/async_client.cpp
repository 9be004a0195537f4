#include "http/async_client.h"

#include <sys/socket.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <iterator>
#include <map>
#include <optional>
#include <vector>

#include "http/beast.h"
#include "http/session.h"

namespace retort::http {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using Failure = boost::system::error_code;

namespace {

constexpr std::size_t max_idle = 256;  // kept connections to one server, a thread
constexpr std::size_t read_bytes = 16UL * 1024;
constexpr std::uint64_t max_body = std::uint64_t{4} << 30U;

asio::ssl::context& tls_context() {
    static asio::ssl::context context = [] {
        asio::ssl::context made(asio::ssl::context::tls_client);
        made.set_default_verify_paths();
        made.set_verify_mode(asio::ssl::verify_peer);
        return made;
    }();
    return context;
}

struct Connection {
    explicit Connection(asio::io_context& context) : socket(context) {}
    Socket socket;
    std::optional<asio::ssl::stream<Socket&>> tls;
    beast::flat_buffer buffer;
};

// Lives in its loop, so that its sockets go before the loop's context.
struct Pool {
    std::map<std::string, std::vector<std::unique_ptr<Connection>>, std::less<>> idle;
};

class Call : public AsyncCall, public Timed, public std::enable_shared_from_this<Call> {
  public:
    Call(Loop& loop, AsyncRequest request, std::shared_ptr<AsyncListener> listener)
        : loop_(loop), request_(std::move(request)), listener_(std::move(listener)) {
        message_.reserve(request_.target.size() + request_.fields.size() + request_.body.size() + 160);
        fmt::format_to(std::back_inserter(message_), "{} {} HTTP/1.1\r\nHost: {}\r\n", request_.method,
                       request_.target, request_.server->authority);
        message_ += request_.fields;
        fmt::format_to(std::back_inserter(message_), "Content-Length: {}\r\n\r\n", request_.body.size());
        message_ += request_.body;
        request_.fields = request_.body = {};
    }

    void start() {
        loop_.watch_time(*this);
        auto& idle = pool().idle[request_.server->origin];
        if (!idle.empty()) {
            connection_ = std::move(idle.back());
            idle.pop_back();
            reused_ = true;
            return write();
        }
        connect();
    }

    void expired() override { finish(failed(fmt::format("timed out after {:g} s", allowed_seconds))); }
    std::shared_ptr<Timed> held() override { return shared_from_this(); }
    void cancel() override { finish(fail(ErrorCode::cancelled, "cancelled")); }

  private:
    using Parser = beast::http::response_parser<beast::http::string_body>;

    Pool& pool() {
        if (!loop_.attached) loop_.attached = std::make_shared<Pool>();
        return *static_cast<Pool*>(loop_.attached.get());
    }

    [[nodiscard]] Status failed(std::string_view what) const {
        return fail(ErrorCode::network, "{}: {}", request_.server->origin, what);
    }

    void connect() {
        reused_ = false;
        connection_ = std::make_unique<Connection>(loop_.context);
        expires_after(request_.connect_seconds);
        resolver_.emplace(loop_.context);
        resolver_->async_resolve(
            request_.server->url.host, std::to_string(request_.server->url.port),
            [self = shared_from_this()](const Failure& error, const tcp::resolver::results_type& found) {
                if (self->ended_) return;
                if (error) return self->finish(self->failed(error.message()));
                asio::async_connect(self->connection_->socket, found,
                                    [self](const Failure& refused, const tcp::endpoint&) {
                                        if (self->ended_) return;
                                        if (refused) return self->finish(self->failed(refused.message()));
                                        self->connected();
                                    });
            });
    }

    void connected() {
        Failure ignored;
        connection_->socket.set_option(tcp::no_delay(true), ignored);
        if (!request_.server->url.tls) return write();
        auto& tls = connection_->tls.emplace(connection_->socket, tls_context());
        SSL_set_tlsext_host_name(tls.native_handle(), request_.server->url.host.c_str());
        tls.set_verify_callback(asio::ssl::host_name_verification(request_.server->url.host));
        tls.async_handshake(asio::ssl::stream_base::client,
                            [self = shared_from_this()](const Failure& error) {
                                if (self->ended_) return;
                                if (error) return self->finish(self->failed(error.message()));
                                self->write();
                            });
    }

    void write() {
        parser_.emplace();
        parser_->body_limit(max_body);
        parser_->eager(true);
        if (request_.method == "HEAD") parser_->skip(true);
        expires_after(request_.quiet_seconds);
        std::size_t sent = 0;
        if (!connection_->tls) {
            // A socket mostly takes all: no round through the loop to learn that. Errors are left for the
            // write.
            const ssize_t count = ::send(connection_->socket.native_handle(), message_.data(),
                                         message_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (count > 0) sent = static_cast<std::size_t>(count);
            if (sent == message_.size()) return read();
        }
        const auto rest = asio::buffer(message_) + sent;
        const auto written = [self = shared_from_this()](const Failure& error, std::size_t) {
            if (self->ended_) return;
            if (error) return self->lost(error);
            self->read();
        };
        if (connection_->tls) {
            asio::async_write(*connection_->tls, rest, written);
        } else {
            asio::async_write(connection_->socket, rest, written);
        }
    }

    void read() {
        const auto got = [self = shared_from_this()](const Failure& error, std::size_t count) {
            if (self->ended_) return;
            self->connection_->buffer.commit(count);
            self->on_read(error);
        };
        const auto space = connection_->buffer.prepare(read_bytes);
        if (connection_->tls) {
            connection_->tls->async_read_some(space, got);
        } else {
            connection_->socket.async_read_some(space, got);
        }
    }

    void on_read(const Failure& error) {
        Failure parsing;
        if (error) {
            if (!parser_->got_some()) return lost(error);
            parser_->put_eof(parsing);
            if (parsing || !parser_->is_done()) return finish(failed("closed in the middle of an answer"));
            return deliver();
        }
        any_ = true;
        while (connection_->buffer.size() > 0 && !parser_->is_done()) {
            const std::size_t used = parser_->put(connection_->buffer.data(), parsing);
            connection_->buffer.consume(used);
            if (parsing == beast::http::error::need_more) break;
            if (parsing) return finish(failed(parsing.message()));
            if (used == 0) break;
        }
        deliver();
    }

    void deliver() {
        const std::shared_ptr<AsyncListener> listener = listener_;  // it may cancel the call it is called by
        if (parser_->is_header_done() && !announced_) {
            announced_ = true;
            Headers headers;
            for (const auto& field : parser_->get()) {
                const auto name = field.name_string();
                const auto value = field.value();
                headers.add({name.data(), name.size()}, {value.data(), value.size()});
            }
            listener->on_header(static_cast<int>(parser_->get().result_int()), headers);
            if (ended_) return;
        }
        std::string& body = parser_->get().body();
        if (!body.empty()) {
            listener->on_body(body);
            if (ended_) return;
            body.clear();
        }
        if (parser_->is_done()) return finish({});
        expires_after(request_.quiet_seconds);
        read();
    }

    // A kept connection may have been closed by the other side just before we wrote.
    void lost(const Failure& error) {
        if (!reused_ || any_) return finish(failed(error.message()));
        connect();
    }

    void finish(const Status& status) {
        if (ended_) return;
        ended_ = true;
        unlink();
        if (resolver_) resolver_->cancel();
        if (status && parser_->keep_alive() && connection_->buffer.size() == 0) {
            auto& idle = pool().idle[request_.server->origin];
            if (idle.size() < max_idle) idle.push_back(std::move(connection_));
        } else if (connection_) {
            Failure ignored;
            connection_->socket.close(ignored);
        }
        // It holds this call, and this call it.
        const std::shared_ptr<AsyncListener> listener = std::move(listener_);
        listener->on_end(status);
    }

    Loop& loop_;
    AsyncRequest request_;
    std::shared_ptr<AsyncListener> listener_;
    std::string message_;
    std::optional<tcp::resolver> resolver_;  // while it connects
    std::unique_ptr<Connection> connection_;
    std::optional<Parser> parser_;
    bool reused_ = false;
    bool any_ = false;
    bool announced_ = false;
    bool ended_ = false;
};

}  // namespace

std::shared_ptr<AsyncCall> start_request(AsyncRequest request, std::shared_ptr<AsyncListener> listener) {
    auto call = std::make_shared<Call>(*current_loop(), std::move(request), std::move(listener));
    call->start();
    return call;
}

}  // namespace retort::http
