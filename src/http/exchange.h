// The server's ResponseWriter: frames an answer and hands it to the connection's thread. Private to this
// part.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "http/server.h"
#include "http/session.h"

namespace retort::http {

class Exchange : public ResponseWriter, public std::enable_shared_from_this<Exchange> {
  public:
    Exchange(std::shared_ptr<Session> session, bool head, bool http_1_0, bool keep_alive,
             std::size_t max_queued);
    ~Exchange() override;
    Exchange(const Exchange&) = delete;
    Exchange& operator=(const Exchange&) = delete;

    void send(int status, Headers headers, std::string body) override;
    void begin_stream(int status, Headers headers) override;
    bool write(std::string_view piece) override;
    void end() override;
    [[nodiscard]] bool is_gone() const override { return gone_.load(std::memory_order_acquire); }
    void on_gone(std::function<void()> callback) override;
    void run(std::function<void()> work) override;

    // From the session.
    void client_went();
    void wrote(std::size_t bytes) { queued_.fetch_sub(bytes, std::memory_order_relaxed); }
    void finish() { finished_.store(true, std::memory_order_release); }
    [[nodiscard]] bool keeps_alive() const { return keep_alive_.load(std::memory_order_acquire); }

  private:
    enum class State { fresh, streaming, ended };
    // With room for the body behind it.
    std::string header_text(int status, const Headers& headers, std::string_view framing,
                            std::size_t body_size) const;
    void post(std::string bytes, bool last);

    std::shared_ptr<Session> session_;
    bool head_;
    bool http_1_0_;
    std::atomic<bool> keep_alive_;
    std::size_t max_queued_;
    std::atomic<std::size_t> queued_{0};
    std::atomic<int> posted_{0};  // pieces on their way to the connection's thread
    std::atomic<bool> gone_{false};
    std::atomic<bool> finished_{false};
    State state_ = State::fresh;
    std::mutex mutex_;
    std::function<void()> gone_callback_;
};

}  // namespace retort::http
