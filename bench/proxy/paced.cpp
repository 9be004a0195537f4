// Asks at a fixed rate, whatever the answers do: each request is due at its own time, and its latency counts
// from then, also where it had to wait for a free connection (an open loop, without coordinated omission).
// Prints one line: rate offered, rate answered, P50, P90, P99, the worst in ms, answers other than 200. POSIX
// only.
//   g++ -O2 -std=c++20 paced.cpp -o paced; paced PORT RATE SECONDS CONNECTIONS REQUEST_FILE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

struct Connection {
    int socket = -1;
    double due = 0;
    std::string heard;
};

double now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// The status once the whole answer is there; 0: not yet.
int status_of(const std::string& heard) {
    const std::size_t end = heard.find("\r\n\r\n");
    if (end == std::string::npos) return 0;
    std::size_t length = 0;
    for (std::size_t at = heard.find("\r\n"); at < end; at = heard.find("\r\n", at + 2)) {
        if (strncasecmp(heard.c_str() + at + 2, "content-length:", 15) == 0)
            length = std::strtoul(heard.c_str() + at + 17, nullptr, 10);
    }
    return heard.size() >= end + 4 + length ? std::atoi(heard.c_str() + 9) : 0;
}

void fail(const char* what) {
    std::perror(what);
    std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 6) {
        std::fprintf(stderr, "usage: paced PORT RATE SECONDS CONNECTIONS REQUEST_FILE\n");
        return 2;
    }
    const double rate = std::atof(argv[2]);
    const double seconds = std::atof(argv[3]);
    std::ifstream file(argv[5], std::ios::binary);
    const std::string request((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const int poll = epoll_create1(0);
    std::vector<Connection> connections(static_cast<std::size_t>(std::atoi(argv[4])));
    std::vector<std::size_t> idle;
    for (std::size_t i = 0; i < connections.size(); ++i) {
        const int made = socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(argv[1])));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (connect(made, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("connect");
        const int yes = 1;
        setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        epoll_event event{EPOLLIN, {.u64 = i}};
        epoll_ctl(poll, EPOLL_CTL_ADD, made, &event);
        connections[i].socket = made;
        idle.push_back(connections.size() - 1 - i);
    }
    const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    epoll_event ticks{EPOLLIN, {.u64 = connections.size()}};
    epoll_ctl(poll, EPOLL_CTL_ADD, timer, &ticks);

    const auto count = static_cast<std::size_t>(rate * seconds);
    std::vector<double> latencies;
    latencies.reserve(count);
    std::size_t sent = 0;
    std::size_t bad = 0;
    const double start = now() + 0.01;
    const auto due = [&](std::size_t i) { return start + static_cast<double>(i) / rate; };
    double end = start;
    while (latencies.size() < count) {
        const double time = now();
        if (time > start + seconds + 10) break;
        while (sent < count && !idle.empty() && due(sent) <= time) {
            Connection& connection = connections[idle.back()];
            idle.pop_back();
            connection.due = due(sent++);
            if (send(connection.socket, request.data(), request.size(), MSG_NOSIGNAL) !=
                static_cast<ssize_t>(request.size()))
                fail("send");
        }
        if (sent < count && !idle.empty()) {
            itimerspec at{};
            double whole = 0;
            at.it_value.tv_nsec = static_cast<long>(std::modf(due(sent), &whole) * 1e9);
            at.it_value.tv_sec = static_cast<time_t>(whole);
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, nullptr);
        }
        epoll_event events[64];
        const int ready = epoll_wait(poll, events, 64, 1000);
        for (int i = 0; i < ready; ++i) {
            const std::size_t which = events[i].data.u64;
            if (which == connections.size()) {
                std::uint64_t ignored = 0;
                (void)!read(timer, &ignored, sizeof ignored);
                continue;
            }
            Connection& connection = connections[which];
            char buffer[16384];
            const ssize_t got = recv(connection.socket, buffer, sizeof buffer, 0);
            if (got <= 0) fail("recv");
            connection.heard.append(buffer, static_cast<std::size_t>(got));
            const int status = status_of(connection.heard);
            if (status == 0) continue;
            end = now();
            latencies.push_back((end - connection.due) * 1e3);
            bad += status != 200;
            connection.heard.clear();
            idle.push_back(which);
        }
    }
    if (latencies.empty()) return 1;
    std::sort(latencies.begin(), latencies.end());
    const auto at = [&](double share) {
        return latencies[static_cast<std::size_t>(share * static_cast<double>(latencies.size() - 1))];
    };
    std::printf(
        "offered %.0f/s answered %.0f/s P50 %.3f P90 %.3f P99 %.3f worst %.1f ms, not 200: %zu of %zu\n",
        rate, static_cast<double>(latencies.size()) / (end - start), at(0.5), at(0.9), at(0.99),
        latencies.back(), bad, count);
}
