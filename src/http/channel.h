// One TCP or TLS connection used blockingly with deadlines: a Beast SyncReadStream whose every wait can end
// by time or by the caller's wish. Private to this part.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::http {

class Channel {
  public:
    using Clock = std::chrono::steady_clock;
    using ErrorCodeOf = boost::system::error_code;

    // How long the waits that follow may take, and what ends them early.
    struct Patience {
        std::optional<Clock::time_point> deadline;  // of the whole request
        double quiet_seconds = 60;                  // for one read or write
        const std::function<bool()>* cancelled = nullptr;
        bool outside_only = false;  // addresses inside (address.h) are not connected to
    };

    // The name is looked up, and each address tried in turn.
    Status connect(const std::string& host, std::uint16_t port, const Patience& patience);
    // Shakes hands and checks the certificate against `host`.
    Status start_tls(boost::asio::ssl::context& context, const std::string& host, const Patience& patience);
    void set_patience(const Patience& patience) { patience_ = patience; }
    // Whether the peer's address is inside.
    [[nodiscard]] bool is_inside() const;
    // False when the peer has closed, or has sent something nobody asked for: not to be used again.
    [[nodiscard]] bool is_quiet();
    // Why the last operation failed, in words: "timed out after 60 s", "connection refused".
    [[nodiscard]] base::Error describe(const ErrorCodeOf& error) const;

    template <typename Buffers>
    std::size_t read_some(const Buffers& buffers, ErrorCodeOf& error) {
        return read(boost::asio::mutable_buffer(*boost::asio::buffer_sequence_begin(buffers)), error);
    }
    template <typename Buffers>
    std::size_t read_some(const Buffers& buffers) {
        ErrorCodeOf error;
        const std::size_t count = read_some(buffers, error);
        if (error) throw boost::system::system_error(error);
        return count;
    }
    // The whole of it, or an error.
    void write_all(std::string_view bytes, ErrorCodeOf& error);

  private:
    std::size_t read(boost::asio::mutable_buffer buffer, ErrorCodeOf& error);
    // Runs what `start` began until its handler has been called; past the deadline the socket is closed, so
    // that the handler is always called before this returns.
    template <typename Start>
    std::size_t wait(const Start& start, ErrorCodeOf& error);

    enum class Ended { by_itself, timed_out, cancelled };

    boost::asio::io_context context_{1};
    boost::asio::ip::tcp::socket socket_{context_};
    std::optional<boost::asio::ssl::stream<boost::asio::ip::tcp::socket&>> tls_;
    Patience patience_;
    Ended ended_ = Ended::by_itself;
    double waited_limit_ = 0;
};

}  // namespace retort::http
