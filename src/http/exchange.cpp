#include "http/exchange.h"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <ctime>
#include <iterator>

namespace retort::http {

namespace {

// "Sun, 06 Nov 1994 08:49:37 GMT", made once a second.
std::string_view http_date() {
    thread_local std::time_t made_at = 0;
    thread_local std::string text;
    const std::time_t now = std::time(nullptr);
    if (now == made_at) return text;
    std::tm parts{};
    gmtime_r(&now, &parts);
    constexpr std::string_view days = "SunMonTueWedThuFriSat";
    constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const auto three = [](std::string_view names, int index) {
        return names.substr(static_cast<std::size_t>(index) * 3, 3);
    };
    text = fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", three(days, parts.tm_wday), parts.tm_mday,
                       three(months, parts.tm_mon), parts.tm_year + 1900, parts.tm_hour, parts.tm_min,
                       parts.tm_sec);
    made_at = now;
    return text;
}

// A handler's header must not be able to split the answer.
void append_field(std::string& out, std::string_view name, std::string_view value) {
    const std::size_t start = out.size();
    ((out += name) += ": ") += value;
    for (std::size_t i = start; i < out.size(); ++i) {
        if (out[i] == '\r' || out[i] == '\n' || out[i] == '\0') out[i] = ' ';
    }
    out += "\r\n";
}

}  // namespace

std::string_view status_text(int status) {
    switch (status) {
        case 200:
            return "OK";
        case 204:
            return "No Content";
        case 206:
            return "Partial Content";
        case 301:
            return "Moved Permanently";
        case 302:
            return "Found";
        case 303:
            return "See Other";
        case 307:
            return "Temporary Redirect";
        case 308:
            return "Permanent Redirect";
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 403:
            return "Forbidden";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 408:
            return "Request Timeout";
        case 409:
            return "Conflict";
        case 413:
            return "Payload Too Large";
        case 415:
            return "Unsupported Media Type";
        case 416:
            return "Range Not Satisfiable";
        case 429:
            return "Too Many Requests";
        case 431:
            return "Request Header Fields Too Large";
        case 499:
            return "Client Closed Request";
        case 500:
            return "Internal Server Error";
        case 501:
            return "Not Implemented";
        case 502:
            return "Bad Gateway";
        case 503:
            return "Service Unavailable";
        case 504:
            return "Gateway Timeout";
        default:
            return "Unknown";
    }
}

Exchange::Exchange(std::shared_ptr<Session> session, bool head, bool http_1_0, bool keep_alive,
                   std::size_t max_queued)
    : session_(std::move(session)),
      head_(head),
      http_1_0_(http_1_0),
      keep_alive_(keep_alive),
      max_queued_(max_queued) {}

Exchange::~Exchange() {
    if (finished_ || gone_ || state_ == State::ended) return;
    try {
        boost::asio::post(session_->loop_->context, [session = session_] { session->close(); });
    } catch (const std::exception&) {  // out of memory: the connection's own timeouts close it
    }
}

std::string Exchange::header_text(int status, const Headers& headers, std::string_view framing,
                                  std::size_t body_size) const {
    std::string out;
    std::size_t size = 160 + framing.size() + body_size;
    for (const auto& [name, value] : headers) size += name.size() + value.size() + 4;
    out.reserve(size);
    fmt::format_to(std::back_inserter(out), "HTTP/1.1 {} {}\r\nServer: retort\r\nDate: {}\r\n", status,
                   status_text(status), http_date());
    for (const auto& [name, value] : headers) append_field(out, name, value);
    out += framing;
    if (!keep_alive_) {
        out += "Connection: close\r\n";
    } else if (http_1_0_) {
        out += "Connection: keep-alive\r\n";
    }
    out += "\r\n";
    return out;
}

void Exchange::post(std::string bytes, bool last) {
    queued_.fetch_add(bytes.size(), std::memory_order_relaxed);
    // Not before what another thread has given up for this one.
    if (current_loop() == session_->loop_.get() && posted_.load(std::memory_order_acquire) == 0) {
        return session_->enqueue(shared_from_this(), std::move(bytes), last);
    }
    posted_.fetch_add(1, std::memory_order_relaxed);
    boost::asio::post(session_->loop_->context,
                      [self = shared_from_this(), data = std::move(bytes), last]() mutable {
                          self->posted_.fetch_sub(1, std::memory_order_release);
                          self->session_->enqueue(self, std::move(data), last);
                      });
}

void Exchange::send(int status, Headers headers, std::string body) {
    if (state_ != State::fresh) return;
    state_ = State::ended;
    if (gone_) return;
    const bool bodiless = status == 204 || status == 304;
    std::string out = header_text(
        status, headers, bodiless ? std::string() : fmt::format("Content-Length: {}\r\n", body.size()),
        body.size());
    if (!head_ && !bodiless) out += body;
    post(std::move(out), true);
}

void Exchange::begin_stream(int status, Headers headers) {
    if (state_ != State::fresh) return;
    state_ = State::streaming;
    if (gone_) return;
    if (http_1_0_) keep_alive_ = false;  // the end of the connection is the end of the body
    post(header_text(status, headers, http_1_0_ ? "" : "Transfer-Encoding: chunked\r\n", 0), false);
}

bool Exchange::write(std::string_view piece) {
    if (state_ != State::streaming || gone_) return false;
    if (piece.empty() || head_) return true;
    if (queued_.load(std::memory_order_relaxed) > max_queued_) {
        boost::asio::post(session_->loop_->context, [session = session_] { session->close(); });
        return false;
    }
    post(http_1_0_ ? std::string(piece) : fmt::format("{:x}\r\n{}\r\n", piece.size(), piece), false);
    return true;
}

void Exchange::end() {
    if (state_ != State::streaming) return;
    state_ = State::ended;
    if (gone_) return;
    post(http_1_0_ || head_ ? "" : "0\r\n\r\n", true);
}

void Exchange::on_gone(std::function<void()> callback) {
    {
        const std::lock_guard lock(mutex_);
        if (!gone_) {
            gone_callback_ = std::move(callback);
            return;
        }
    }
    callback();
}

void Exchange::run(std::function<void()> work) {
    boost::asio::dispatch(session_->loop_->context, std::move(work));
}

void Exchange::client_went() {
    std::function<void()> callback;
    {
        const std::lock_guard lock(mutex_);
        if (finished_ || gone_.exchange(true)) return;
        callback = std::move(gone_callback_);
        gone_callback_ = nullptr;
    }
    if (callback) callback();
}

}  // namespace retort::http
