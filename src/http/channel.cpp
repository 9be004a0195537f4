#include "http/channel.h"

#include <netdb.h>
#include <poll.h>

#include <array>
#include <boost/asio/ip/address.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "http/address.h"

namespace retort::http {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr auto poll_interval = std::chrono::milliseconds(50);

struct Lookup {
    std::mutex mutex;
    std::condition_variable finished;
    bool done = false;
    int status = 0;
    std::vector<tcp::endpoint> endpoints;
};

void look_up(const std::shared_ptr<Lookup>& lookup, const std::string& host, std::uint16_t port) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int status = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    const std::lock_guard lock(lookup->mutex);
    for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
        if (entry->ai_family == AF_INET) {
            const auto* address = reinterpret_cast<const sockaddr_in*>(entry->ai_addr);
            lookup->endpoints.emplace_back(asio::ip::address_v4(ntohl(address->sin_addr.s_addr)), port);
        } else if (entry->ai_family == AF_INET6) {
            const auto* address = reinterpret_cast<const sockaddr_in6*>(entry->ai_addr);
            std::array<unsigned char, 16> bytes{};
            std::copy_n(address->sin6_addr.s6_addr, 16, bytes.begin());
            lookup->endpoints.emplace_back(asio::ip::address_v6(bytes, address->sin6_scope_id), port);
        }
    }
    if (found != nullptr) ::freeaddrinfo(found);
    lookup->status = status;
    lookup->done = true;
    lookup->finished.notify_all();
}

std::string inside_text(std::string_view host) {
    return fmt::format(
        "{} is an address inside, to which a server outside leads: not followed; if it is meant, "
        "give that URL yourself",
        host);
}

bool is_cancelled(const Channel::Patience& patience) {
    return patience.cancelled != nullptr && *patience.cancelled && (*patience.cancelled)();
}

// getaddrinfo cannot be interrupted, so it runs on a thread of its own that is left behind when it outstays.
Result<std::vector<tcp::endpoint>> resolve(const std::string& host, std::uint16_t port,
                                           const Channel::Patience& patience) {
    boost::system::error_code not_literal;
    const asio::ip::address literal = asio::ip::make_address(host, not_literal);
    if (!not_literal) return std::vector{tcp::endpoint(literal, port)};
    auto lookup = std::make_shared<Lookup>();
    try {
        std::thread(look_up, lookup, host, port).detach();
    } catch (const std::system_error& error) {
        return fail(ErrorCode::network, "cannot start a thread to look up {}: {}", host, error.what());
    }
    std::unique_lock lock(lookup->mutex);
    while (!lookup->done) {
        lookup->finished.wait_for(lock, poll_interval);
        if (lookup->done) break;
        if (is_cancelled(patience)) return fail(ErrorCode::cancelled, "cancelled");
        if (patience.deadline && Channel::Clock::now() > *patience.deadline) {
            return fail(ErrorCode::network, "looking up {} timed out", host);
        }
    }
    if (lookup->status != 0 || lookup->endpoints.empty()) {
        return fail(ErrorCode::network, "cannot find host {}: {}", host,
                    lookup->status != 0 ? ::gai_strerror(lookup->status) : "no address");
    }
    return std::move(lookup->endpoints);
}

}  // namespace

template <typename Start>
std::size_t Channel::wait(const Start& start, ErrorCodeOf& error) {
    bool done = false;
    std::size_t count = 0;
    ended_ = Ended::by_itself;
    const auto begin = Clock::now();
    auto deadline = begin + std::chrono::duration_cast<Clock::duration>(
                                std::chrono::duration<double>(patience_.quiet_seconds));
    if (patience_.deadline) deadline = std::min(deadline, *patience_.deadline);
    const auto give_up = [&] {
        if (is_cancelled(patience_)) {
            ended_ = Ended::cancelled;
        } else if (Clock::now() >= deadline) {
            ended_ = Ended::timed_out;
            waited_limit_ = std::chrono::duration<double>(deadline - begin).count();
        }
        return ended_ != Ended::by_itself;
    };
    // A peer that sends a byte now and then must not outlast the deadline of the whole.
    if (give_up()) {
        error = asio::error::timed_out;
        return 0;
    }
    context_.restart();
    start([&](const ErrorCodeOf& result, std::size_t bytes = 0) {
        error = result;
        count = bytes;
        done = true;
    });
    while (!done) {  // NOLINT(bugprone-infinite-loop): the handler sets it
        const auto left = std::max<Clock::duration>(deadline - Clock::now(), Clock::duration::zero());
        context_.run_one_for(ended_ == Ended::by_itself ? std::min<Clock::duration>(left, poll_interval)
                                                        : Clock::duration(poll_interval));
        if (done || ended_ != Ended::by_itself || !give_up()) continue;
        ErrorCodeOf ignored;
        socket_.close(ignored);
    }
    return count;
}

Status Channel::connect(const std::string& host, std::uint16_t port, const Patience& patience) {
    patience_ = patience;
    RETORT_TRY(const std::vector<tcp::endpoint> endpoints, resolve(host, port, patience));
    ErrorCodeOf error;
    bool tried = false;
    for (const tcp::endpoint& endpoint : endpoints) {
        if (patience.outside_only && http::is_inside(endpoint.address())) continue;
        tried = true;
        socket_.close(error);
        wait([&](auto handler) { socket_.async_connect(endpoint, handler); }, error);
        if (!error || ended_ != Ended::by_itself) break;
    }
    if (!tried) return fail(ErrorCode::refused, "{}", inside_text(host));
    if (error) return tl::make_unexpected(describe(error));
    socket_.set_option(tcp::no_delay(true), error);
    return {};
}

Status Channel::start_tls(asio::ssl::context& context, const std::string& host, const Patience& patience) {
    patience_ = patience;
    tls_.emplace(socket_, context);
    ErrorCodeOf is_name;
    asio::ip::make_address(host, is_name);
    // A server name is for names only (RFC 6066, 3).
    if (is_name && SSL_set_tlsext_host_name(tls_->native_handle(), host.c_str()) != 1) {
        return fail(ErrorCode::network, "TLS: the host name {} cannot be sent", host);
    }
    ErrorCodeOf error;
    tls_->set_verify_mode(asio::ssl::verify_peer, error);
    tls_->set_verify_callback(asio::ssl::host_name_verification(host), error);
    wait([&](auto handler) { tls_->async_handshake(asio::ssl::stream_base::client, handler); }, error);
    if (!error) return {};
    const long verdict = SSL_get_verify_result(tls_->native_handle());
    if (ended_ == Ended::by_itself && verdict != X509_V_OK) {
        return fail(
            ErrorCode::network,
            "TLS: the server's certificate is not accepted: {} (a private authority's root can be named "
            "by SSL_CERT_FILE)",
            X509_verify_cert_error_string(verdict));
    }
    base::Error described = describe(error);
    if (described.code == ErrorCode::network && ended_ == Ended::by_itself) {
        described.message = "TLS handshake failed: " + described.message +
                            (verdict == X509_V_OK && error.category() == asio::error::get_ssl_category()
                                 ? " (or the certificate names another host)"
                                 : "");
    }
    return tl::make_unexpected(std::move(described));
}

bool Channel::is_inside() const {
    ErrorCodeOf error;
    const tcp::endpoint peer = socket_.remote_endpoint(error);
    return !error && http::is_inside(peer.address());
}

bool Channel::is_quiet() {
    pollfd descriptor{socket_.native_handle(), POLLIN, 0};
    return ::poll(&descriptor, 1, 0) == 0;
}

std::size_t Channel::read(asio::mutable_buffer buffer, ErrorCodeOf& error) {
    return wait(
        [&](auto handler) {
            if (tls_) {
                tls_->async_read_some(buffer, handler);
            } else {
                socket_.async_read_some(buffer, handler);
            }
        },
        error);
}

void Channel::write_all(std::string_view bytes, ErrorCodeOf& error) {
    do {
        const asio::const_buffer buffer = asio::buffer(bytes);
        const std::size_t count = wait(
            [&](auto handler) {
                if (tls_) {
                    tls_->async_write_some(buffer, handler);
                } else {
                    socket_.async_write_some(buffer, handler);
                }
            },
            error);
        bytes.remove_prefix(count);
    } while (!error && !bytes.empty());
}

base::Error Channel::describe(const ErrorCodeOf& error) const {
    if (ended_ == Ended::cancelled) return {ErrorCode::cancelled, "cancelled"};
    if (ended_ == Ended::timed_out) {
        return {ErrorCode::network, fmt::format("timed out after {:.3g} s", waited_limit_)};
    }
    if (error == asio::error::connection_refused) return {ErrorCode::network, "connection refused"};
    if (error == asio::error::connection_reset || error == asio::error::broken_pipe) {
        return {ErrorCode::network, "the server closed the connection early (reset)"};
    }
    if (error == asio::error::eof || error == asio::ssl::error::stream_truncated) {
        return {ErrorCode::network, "the server closed the connection early"};
    }
    return {ErrorCode::network, error.message()};
}

}  // namespace retort::http
