#include "http/server.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/log.h"
#include "http/session.h"
#include "http/tls.h"

namespace retort::http {

namespace asio = boost::asio;
using asio::ip::tcp;

Loop*& current_loop() {
    thread_local Loop* loop = nullptr;
    return loop;
}

class Server::Implementation {
  public:
    Implementation(ServerOptions options, Handler handler) : state_(std::make_shared<ServerState>()) {
        state_->options = std::move(options);
        state_->handler = std::move(handler);
    }

    ~Implementation() {
        stop();
        join();
    }

    Status reload_certificate() {
        RETORT_TRY(auto context,
                   make_tls_context(state_->options.certificate_file, state_->options.key_file));
        const std::lock_guard lock(state_->tls_mutex);
        state_->tls_context = std::move(context);
        return {};
    }

    Status start() {
        const ServerOptions& options = state_->options;
        if (!options.certificate_file.empty()) RETORT_CHECK(reload_certificate());
        boost::system::error_code error;
        tcp::resolver resolver(accepting_.context);
        const auto found =
            resolver.resolve(options.host, std::to_string(options.port),
                             tcp::resolver::passive | tcp::resolver::address_configured, error);
        if (error || found.empty()) {
            return fail(ErrorCode::invalid_argument, "--host {}: no such address: {}", options.host,
                        error.message());
        }
        const tcp::endpoint endpoint = found.begin()->endpoint();
        acceptor_.open(endpoint.protocol(), error);
        if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
        if (!error) acceptor_.bind(endpoint, error);
        if (!error) acceptor_.listen(1024, error);
        if (error) {
            return fail(
                ErrorCode::io, "cannot listen on {}:{}: {}{}", options.host, options.port, error.message(),
                error == asio::error::address_in_use ? " (another program has the port; choose --port)" : "");
        }
        port_ = acceptor_.local_endpoint(error).port();
        for (int i = 0; i < std::max(options.threads, 1); ++i) {
            auto loop = std::make_shared<Loop>();
            loop->work.emplace(loop->context.get_executor());
            loops_.push_back(loop);
            threads_.emplace_back([loop] {
                current_loop() = loop.get();
                loop->context.run();
            });
        }
        accepting_.work.emplace(accepting_.context.get_executor());
        accept();
        threads_.emplace_back([this] { accepting_.context.run(); });
        return {};
    }

    [[nodiscard]] std::uint16_t port() const { return port_; }
    [[nodiscard]] std::size_t connections() const { return state_->connections.load(); }

    void stop() {
        if (stopping_.exchange(true)) return;
        asio::post(accepting_.context, [this] {
            boost::system::error_code ignored;
            acceptor_.close(ignored);
            retry_.cancel();
            deadline_ = std::chrono::steady_clock::now() +
                        std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                            std::chrono::duration<double>(state_->options.drain_seconds));
            for (const auto& loop : loops_) asio::post(loop->context, [loop] { drain(*loop); });
            wait_for_drain();
        });
    }

    void join() {
        const std::lock_guard lock(join_mutex_);
        for (std::thread& thread : threads_) {
            if (thread.joinable()) thread.join();
        }
        // What was posted while the threads ended holds sessions that hold the loop.
        for (const auto& loop : loops_) {
            loop->context.restart();
            loop->context.poll();
            loop->attached.reset();
        }
        threads_.clear();
        loops_.clear();
    }

  private:
    static void drain(Loop& loop) {
        loop.draining = true;
        const std::vector<Session*> sessions(loop.sessions.begin(), loop.sessions.end());
        for (Session* session : sessions) session->shared_from_this()->drain();
    }

    static void close_all(Loop& loop) {
        const std::vector<Session*> sessions(loop.sessions.begin(), loop.sessions.end());
        for (Session* session : sessions) session->shared_from_this()->close();
    }

    void wait_for_drain() {
        const bool late = std::chrono::steady_clock::now() >= deadline_;
        if (state_->connections.load() == 0 || late) {
            for (const auto& loop : loops_) {
                asio::post(loop->context, [loop] {
                    close_all(*loop);
                    loop->work.reset();
                    // Handlers of what was closed are still to run: the loop ends when it has no more work.
                });
            }
            accepting_.work.reset();
            return;
        }
        retry_.expires_after(std::chrono::milliseconds(10));
        retry_.async_wait([this](const boost::system::error_code&) { wait_for_drain(); });
    }

    void accept() {
        const std::shared_ptr<Loop> loop = loops_[next_loop_++ % loops_.size()];
        acceptor_.async_accept(
            loop->context, [this, loop](const boost::system::error_code& error, Socket socket) {
                if (stopping_ || error == asio::error::operation_aborted) return;
                if (error) {  // out of descriptors, most likely: give some time to be freed
                    spdlog::warn("cannot accept a connection: {}", error.message());
                    retry_.expires_after(std::chrono::milliseconds(100));
                    retry_.async_wait([this](const boost::system::error_code& cancelled) {
                        if (!cancelled) accept();
                    });
                    return;
                }
                if (state_->connections.fetch_add(1) >= state_->options.max_connections) {
                    state_->connections.fetch_sub(1);
                } else {
                    auto shared = std::make_shared<Socket>(std::move(socket));
                    asio::post(loop->context, [state = state_, loop, shared] {
                        auto session = std::make_shared<Session>(loop, state, std::move(*shared));
                        session->run();
                    });
                }
                accept();
            });
    }

    std::shared_ptr<ServerState> state_;
    Loop accepting_;
    tcp::acceptor acceptor_{accepting_.context};
    asio::steady_timer retry_{accepting_.context};
    std::vector<std::shared_ptr<Loop>> loops_;
    std::vector<std::thread> threads_;
    std::atomic<bool> stopping_{false};
    std::chrono::steady_clock::time_point deadline_;
    std::mutex join_mutex_;
    std::size_t next_loop_ = 0;
    std::uint16_t port_ = 0;
};

Server::Server(std::unique_ptr<Implementation> implementation) : implementation_(std::move(implementation)) {}

Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::start(ServerOptions options, Handler handler) {
    try {
        auto implementation = std::make_unique<Implementation>(std::move(options), std::move(handler));
        if (Status started = implementation->start(); !started) {
            return tl::make_unexpected(started.error());
        }
        return std::unique_ptr<Server>(new Server(std::move(implementation)));
    } catch (const std::exception& error) {
        return fail(ErrorCode::io, "cannot start the server: {}", error.what());
    }
}

std::uint16_t Server::port() const {
    return implementation_->port();
}

void Server::stop() {
    implementation_->stop();
}

void Server::join() {
    implementation_->join();
}

Status Server::reload_certificate() {
    return implementation_->reload_certificate();
}

std::size_t Server::connections() const {
    return implementation_->connections();
}

}  // namespace retort::http
