// One connection of the server, on one thread. Private to this part.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/intrusive/list.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "http/beast.h"
#include "http/server.h"

namespace retort::http {

class Session;

// What ends by itself when its time is over. Looked at ten times a second rather than by a timer each, which
// would cost every request several timers set, cancelled and completed.
struct Timed : boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
    using Clock = std::chrono::steady_clock;
    Clock::time_point deadline = Clock::time_point::max();
    double allowed_seconds = 0;  // how long that was

    void expires_after(double seconds) {
        allowed_seconds = seconds;
        deadline = Clock::now() +
                   std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    }
    void expires_never() { deadline = Clock::time_point::max(); }
    Timed() = default;
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;
    virtual ~Timed() = default;
    virtual void expired() = 0;
    virtual std::shared_ptr<Timed> held() = 0;
};

// An event loop of its own, so that what belongs to a connection needs no locks. Sessions keep it alive.
struct Loop {
    boost::asio::io_context context{1};
    std::optional<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>> work;
    std::set<Session*> sessions;  // touched on the loop's thread only
    bool draining = false;        // likewise
    // Once in a while, as long as answers are being made that nobody watches.
    boost::asio::steady_timer sweep_timer{context};
    bool sweeping = false;
    // Linked in and out on the loop's thread only.
    boost::intrusive::list<Timed, boost::intrusive::constant_time_size<false>> timed;
    boost::asio::steady_timer tick_timer{context};
    bool ticking = false;

    void watch_time(Timed& what);
    void tick(bool go_on);
    std::shared_ptr<void> attached;  // what else lives on this thread and goes before the context
};

// Of the calling thread; null when it is none of a server's.
Loop*& current_loop();

using TlsContext = boost::asio::ssl::context;

// What sessions share: settings, the handler, and the count of connections.
struct ServerState {
    ServerOptions options;
    Server::Handler handler;
    std::atomic<std::size_t> connections{0};

    // Null: plain HTTP. Connections keep the one that they began with.
    [[nodiscard]] std::shared_ptr<TlsContext> tls() const {
        const std::lock_guard lock(tls_mutex);
        return tls_context;
    }
    mutable std::mutex tls_mutex;
    std::shared_ptr<TlsContext> tls_context;
};

class Exchange;

// With the loop's own kind of executor: any_io_executor costs every operation several virtual calls.
using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, boost::asio::io_context::executor_type>;

class Session : public Timed, public std::enable_shared_from_this<Session> {
  public:
    Session(std::shared_ptr<Loop> loop, std::shared_ptr<ServerState> state, Socket socket);
    ~Session() override;
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    void run();
    // When the server drains: closes now if no request is being answered, else after the answer.
    void drain();
    void close();
    void expired() override { close(); }
    std::shared_ptr<Timed> held() override { return shared_from_this(); }

  private:
    friend class Exchange;
    using Error = boost::system::error_code;
    using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

    void shake_hands();
    void read_header();
    void read_more();
    // What lies in the buffer.
    void parse();
    void on_header();
    void read_body();
    void on_request();
    void refuse(const Error& error);
    // Watches, from the second look on, the clients of answers that are still being made.
    static void sweep(Loop& loop);
    // Notices that the peer closes while the answer is being made.
    void watch();
    void watch_tls();
    // The next request, when its first bytes are already being waited for.
    void wait_for_watch();
    // Calls `work` with the stream that carries the requests.
    template <typename Work>
    void with_stream(const Work& work) {
        if (tls_) {
            work(*tls_);
        } else {
            work(socket_);
        }
    }
    // From the exchange that is being answered; `last` ends it.
    void enqueue(const std::shared_ptr<Exchange>& exchange, std::string bytes, bool last);
    // How much of it has left at once.
    std::size_t send_now(std::string_view bytes);
    void write_queued();
    void on_written(const Error& error);
    void answer_ended();
    // Sends what is left, then reads until the peer closes, so that a reset does not overtake the answer.
    void linger();

    std::shared_ptr<Loop> loop_;
    std::shared_ptr<ServerState> state_;
    Socket socket_;
    std::shared_ptr<TlsContext> tls_context_;
    std::optional<boost::asio::ssl::stream<Socket&>> tls_;
    std::optional<boost::asio::steady_timer> idle_timer_;  // of a TLS connection between requests
    boost::beast::flat_buffer buffer_;
    std::optional<Parser> parser_;
    std::string remote_address_;
    std::weak_ptr<Exchange> exchange_;
    std::deque<std::string> queue_;
    std::deque<std::string> writing_;
    bool header_read_ = false;
    bool answering_ = false;
    bool watching_ = false;
    bool is_slow_ = false;  // a sweep has seen this answer before
    bool last_queued_ = false;
    bool close_after_ = false;
    bool linger_after_ = false;
    bool closed_ = false;
    std::size_t lingered_ = 0;
};

}  // namespace retort::http
