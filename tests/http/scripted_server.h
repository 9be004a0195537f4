// A peer for tests that does exactly what it is told on each connection, wrong things included.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace retort::http {

class ScriptedServer {
  public:
    // Called for each connection on a thread of its own, with its number from 0; the socket is closed after.
    explicit ScriptedServer(std::function<void(int socket, int number)> script) : script_(std::move(script)) {
        listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
        ::listen(listener_, 64);
        socklen_t length = sizeof address;
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
        port_ = ntohs(address.sin_port);
        acceptor_ = std::thread([this] { accept_all(); });
    }

    ~ScriptedServer() {
        stopping_ = true;
        acceptor_.join();
        for (std::thread& thread : threads_) thread.join();
        ::close(listener_);
    }

    ScriptedServer(const ScriptedServer&) = delete;
    ScriptedServer& operator=(const ScriptedServer&) = delete;

    [[nodiscard]] int port() const { return port_; }
    [[nodiscard]] int connections() const { return connections_; }
    [[nodiscard]] std::string url(std::string_view target = "/") const {
        return "http://127.0.0.1:" + std::to_string(port_) + std::string(target);
    }

    // A request's header and, by its Content-Length, body; empty when the peer closed instead.
    static std::string read_request(int socket) {
        std::string text;
        std::size_t want = std::string::npos;
        while (want == std::string::npos || text.size() < want) {
            char buffer[4096];
            const ssize_t count = ::recv(socket, buffer, sizeof buffer, 0);
            if (count <= 0) return {};
            text.append(buffer, static_cast<std::size_t>(count));
            const std::size_t end = text.find("\r\n\r\n");
            if (end == std::string::npos || want != std::string::npos) continue;
            const std::size_t field = text.find("Content-Length: ");
            want = end + 4 + (field < end ? std::stoul(text.substr(field + 16)) : 0);
        }
        return text;
    }

    static void say(int socket, std::string_view text) {
        while (!text.empty()) {
            const ssize_t count = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
            if (count <= 0) return;
            text.remove_prefix(static_cast<std::size_t>(count));
        }
    }

    // Waits until the peer closes, at most some seconds.
    static bool peer_closes(int socket, int milliseconds = 5000) {
        pollfd descriptor{socket, POLLIN, 0};
        char byte = 0;
        return ::poll(&descriptor, 1, milliseconds) == 1 && ::recv(socket, &byte, 1, 0) <= 0;
    }

  private:
    void accept_all() {
        while (!stopping_) {
            pollfd descriptor{listener_, POLLIN, 0};
            if (::poll(&descriptor, 1, 20) != 1) continue;
            const int socket = ::accept(listener_, nullptr, nullptr);
            if (socket < 0) continue;
            const int number = connections_++;
            threads_.emplace_back([this, socket, number] {
                script_(socket, number);
                ::close(socket);
            });
        }
    }

    std::function<void(int, int)> script_;
    int listener_ = -1;
    int port_ = 0;
    std::atomic<int> connections_{0};
    std::atomic<bool> stopping_{false};
    std::thread acceptor_;
    std::vector<std::thread> threads_;
};

}  // namespace retort::http
