#include "http/session.h"

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <vector>

#include "base/log.h"
#include "http/exchange.h"

namespace retort::http {

namespace beast = boost::beast;
namespace asio = boost::asio;

namespace {
constexpr std::size_t linger_bytes = std::size_t{16} << 20U;
constexpr double linger_seconds = 2;
constexpr auto tick_interval = std::chrono::milliseconds(100);
constexpr std::size_t watch_bytes = 4096;
constexpr std::size_t header_bytes = 4096;  // read at once, with what of the body comes along
constexpr std::size_t body_bytes = std::size_t{64} << 10U;
constexpr std::size_t kept_bytes = std::size_t{16} << 10U;  // of a connection's buffer between requests
// An answer that takes longer than one to two of these has its client watched. Most are over before, and
// watching costs a system call and a completion each.
constexpr auto sweep_interval = std::chrono::milliseconds(20);

std::chrono::nanoseconds seconds(double value) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(value));
}
}  // namespace

void Loop::watch_time(Timed& what) {
    timed.push_back(what);
    if (std::exchange(ticking, true)) return;
    tick_timer.expires_after(tick_interval);
    tick_timer.async_wait([this](const boost::system::error_code& error) { tick(!error); });
}

void Loop::tick(bool go_on) {
    ticking = false;
    if (!go_on) return;
    const auto now = Timed::Clock::now();
    std::vector<std::shared_ptr<Timed>> late;
    for (Timed& each : timed) {
        if (each.deadline <= now) late.push_back(each.held());
    }
    for (const auto& each : late) {
        if (each->is_linked()) each->expired();
    }
    if (timed.empty()) return;
    ticking = true;
    tick_timer.expires_after(tick_interval);
    tick_timer.async_wait([this](const boost::system::error_code& error) { tick(!error); });
}

Session::Session(std::shared_ptr<Loop> loop, std::shared_ptr<ServerState> state, Socket socket)
    : loop_(std::move(loop)), state_(std::move(state)), socket_(std::move(socket)) {
    loop_->sessions.insert(this);
    loop_->watch_time(*this);
}

Session::~Session() {
    state_->connections.fetch_sub(1);
}

void Session::run() {
    Error error;
    socket_.set_option(asio::ip::tcp::no_delay(true), error);
    const auto endpoint = socket_.remote_endpoint(error);
    if (!error) remote_address_ = endpoint.address().to_string(error);
    if ((tls_context_ = state_->tls())) return shake_hands();
    read_header();
}

void Session::shake_hands() {
    tls_.emplace(socket_, *tls_context_);
    expires_after(state_->options.handshake_seconds);
    tls_->async_handshake(asio::ssl::stream_base::server, [self = shared_from_this()](const Error& error) {
        if (self->closed_) return;
        if (error) return self->close();
        self->read_header();
    });
}

void Session::read_header() {
    if (loop_->draining) return close();
    close_after_ = false;
    linger_after_ = false;
    last_queued_ = false;
    header_read_ = false;
    if (buffer_.size() == 0 && buffer_.capacity() > kept_bytes) buffer_ = beast::flat_buffer();
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(state_->options.max_header_bytes));
    parser_->body_limit(state_->options.max_body_bytes);
    expires_after(state_->options.idle_seconds);
    if (buffer_.size() > 0) return parse();
    read_more();
}

void Session::read_more() {
    const std::size_t room = header_read_ ? body_bytes : header_bytes;
    with_stream([this, room](auto& stream) {
        stream.async_read_some(buffer_.prepare(room),
                               [self = shared_from_this()](const Error& error, std::size_t count) {
                                   if (self->closed_) return;
                                   self->buffer_.commit(count);
                                   if (error) return self->refuse(error);
                                   self->parse();
                               });
    });
}

void Session::parse() {
    Error error;
    while (buffer_.size() > 0 && !parser_->is_done()) {
        const std::size_t used = parser_->put(buffer_.data(), error);
        buffer_.consume(used);
        if (error == beast::http::error::need_more) break;
        if (error) return refuse(error);
        if (parser_->is_header_done() && !std::exchange(header_read_, true)) return on_header();
        if (used == 0) break;
    }
    if (parser_->is_done()) return on_request();
    read_more();
}

void Session::on_header() {
    answering_ = true;
    parser_->eager(true);
    if (beast::iequals(parser_->get()[beast::http::field::expect], "100-continue") && !parser_->is_done()) {
        constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
        expires_after(state_->options.write_seconds);
        with_stream([this, go_on](auto& stream) {
            asio::async_write(stream, asio::buffer(go_on),
                              [self = shared_from_this()](const Error& failed, std::size_t) {
                                  if (self->closed_) return;
                                  if (failed) return self->close();
                                  self->read_body();
                              });
        });
        return;
    }
    if (parser_->is_done()) return on_request();
    read_body();
}

// Most bodies came with their header.
void Session::read_body() {
    expires_after(state_->options.body_seconds);
    parse();
}

void Session::on_request() {
    expires_never();
    auto message = parser_->release();
    ServerRequest request;
    request.method = std::string(message.method_string());
    const std::string_view target(message.target().data(), message.target().size());
    const std::size_t query = target.find('?');
    request.path = target.substr(0, query);
    if (query != std::string_view::npos) request.query = target.substr(query + 1);
    for (const auto& field : message) {
        const auto name = field.name_string();
        const auto value = field.value();
        request.headers.add({name.data(), name.size()}, {value.data(), value.size()});
    }
    request.body = std::move(message.body());
    request.remote_address = remote_address_;
    auto exchange = std::make_shared<Exchange>(
        shared_from_this(), request.method == "HEAD", message.version() < 11,
        message.keep_alive() && !loop_->draining, state_->options.max_queued_bytes);
    exchange_ = exchange;
    is_slow_ = false;
    sweep(*loop_);
    try {
        state_->handler(std::move(request), exchange);
    } catch (const std::exception& failure) {
        spdlog::error("a request's handler threw: {}", failure.what());
        close();
    }
}

void Session::refuse(const Error& error) {
    int status = 400;
    std::string message;
    if (error == beast::http::error::body_limit) {
        status = 413;
        message = fmt::format("The request's body is longer than {} bytes.", state_->options.max_body_bytes);
    } else if (error == beast::http::error::header_limit) {
        status = 431;
        message =
            fmt::format("The request's header is longer than {} bytes.", state_->options.max_header_bytes);
    } else if (error == beast::http::error::end_of_stream || error == beast::http::error::partial_message ||
               error.category() != make_error_code(beast::http::error::bad_version).category()) {
        return close();
    } else {
        message = fmt::format("The request is not HTTP/1.1: {}.", error.message());
    }
    auto exchange =
        std::make_shared<Exchange>(shared_from_this(), false, false, false, state_->options.max_queued_bytes);
    exchange_ = exchange;
    answering_ = true;
    linger_after_ = true;
    const auto& make_body = state_->options.error_body;
    const auto& make_headers = state_->options.error_headers;
    Headers headers = make_headers ? make_headers() : Headers();
    headers.set("Content-Type", state_->options.error_content_type);
    exchange->send(status, std::move(headers), make_body ? make_body(status, message) : message);
}

void Session::sweep(Loop& loop) {
    if (loop.sweeping) return;
    loop.sweeping = true;
    loop.sweep_timer.expires_after(sweep_interval);
    loop.sweep_timer.async_wait([&loop](const Error& error) {
        loop.sweeping = false;
        if (error) return;
        std::vector<Session*> slow;
        bool again = false;
        for (Session* session : loop.sessions) {
            if (!session->answering_ || session->watching_) continue;
            if (session->is_slow_) {
                slow.push_back(session);
            } else {
                session->is_slow_ = true;
                again = true;
            }
        }
        for (Session* session : slow) session->watch();
        if (again) sweep(loop);
    });
}

void Session::watch() {
    if (watching_) return;
    watching_ = true;
    if (tls_) return watch_tls();
    socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](const Error& error) {
        self->watching_ = false;
        if (self->closed_ || error || !self->answering_) return;
        char byte = 0;
        const ssize_t count = ::recv(self->socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        // More bytes are a pipelined request: read after this answer.
        if (count > 0) return;
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return self->watch();
        self->close();
    });
}

// Whether a TLS peer has closed only reading tells. What comes instead begins its next request.
void Session::watch_tls() {
    tls_->async_read_some(buffer_.prepare(watch_bytes),
                          [self = shared_from_this()](const Error& error, std::size_t count) {
                              self->watching_ = false;
                              if (self->closed_) return;
                              self->buffer_.commit(count);
                              if (error) return self->close();
                              if (!self->answering_) self->read_header();
                          });
}

void Session::wait_for_watch() {
    if (!idle_timer_) idle_timer_.emplace(loop_->context);
    idle_timer_->expires_after(
        std::chrono::duration_cast<asio::steady_timer::duration>(seconds(state_->options.idle_seconds)));
    idle_timer_->async_wait([weak = weak_from_this()](const Error& error) {
        const auto self = weak.lock();
        if (!error && self && self->watching_ && !self->answering_) self->close();
    });
}

void Session::enqueue(const std::shared_ptr<Exchange>& exchange, std::string bytes, bool last) {
    if (closed_ || exchange_.lock() != exchange) return;
    queue_.push_back(std::move(bytes));
    if (last) {
        last_queued_ = true;
        close_after_ = close_after_ || !exchange->keeps_alive();
        exchange->finish();
    }
    if (!writing_.empty()) return;
    if (!tls_ && queue_.size() == 1) {
        std::string& only = queue_.front();
        const std::size_t sent = send_now(only);
        exchange->wrote(sent);
        if (sent == only.size()) {
            queue_.clear();
            return on_written({});
        }
        only.erase(0, sent);
    }
    write_queued();
}

// Sockets mostly take what they are given: no round through the loop to learn that. An error is left for the
// write that follows to find.
std::size_t Session::send_now(std::string_view bytes) {
    const ssize_t count =
        ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return count > 0 ? static_cast<std::size_t>(count) : 0;
}

void Session::write_queued() {
    writing_.swap(queue_);
    std::vector<asio::const_buffer> buffers;
    buffers.reserve(writing_.size());
    for (const std::string& piece : writing_) buffers.emplace_back(asio::buffer(piece));
    expires_after(state_->options.write_seconds);
    with_stream([&](auto& stream) {
        asio::async_write(stream, buffers,
                          [self = shared_from_this()](const Error& error, std::size_t count) {
                              if (const auto exchange = self->exchange_.lock()) exchange->wrote(count);
                              self->on_written(error);
                          });
    });
}

void Session::on_written(const Error& error) {
    writing_.clear();
    if (closed_) return;
    if (error) return close();
    if (!queue_.empty()) return write_queued();
    expires_never();
    if (last_queued_) answer_ended();
}

void Session::answer_ended() {
    answering_ = false;
    exchange_.reset();
    if (linger_after_) return linger();
    if (close_after_ || loop_->draining) return close();
    if (tls_ && watching_) return wait_for_watch();
    // The wait for the peer's closing would steal nothing, but would find the next request and end by itself.
    if (buffer_.size() == 0) return read_header();
    // A request that came with the one before is not answered deeper and deeper on one stack.
    asio::post(loop_->context, [self = shared_from_this()] {
        if (!self->closed_) self->read_header();
    });
}

void Session::linger() {
    Error ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    expires_after(linger_seconds);
    buffer_.clear();
    socket_.async_read_some(buffer_.prepare(16UL * 1024),
                            [self = shared_from_this()](const Error& error, std::size_t count) {
                                self->lingered_ += count;
                                if (error || self->lingered_ > linger_bytes) return self->close();
                                self->linger();
                            });
}

void Session::drain() {
    if (!answering_) {
        close();
    } else {
        close_after_ = true;
    }
}

void Session::close() {
    if (closed_) return;
    closed_ = true;
    loop_->sessions.erase(this);
    unlink();
    if (idle_timer_) idle_timer_->cancel();
    Error ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
    socket_.close(ignored);
    const auto exchange = exchange_.lock();
    exchange_.reset();
    if (exchange) exchange->client_went();
}

}  // namespace retort::http
