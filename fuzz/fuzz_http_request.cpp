// part: http
// Requests as the server reads them from a connection: what the handler sees does not depend on how the bytes
// arrive, each request has one answer, and nothing outlives the connection.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "http/session.h"

namespace {

using namespace retort::http;

struct Seen {
    std::string requests;
    int count = 0;
    std::string answers;
    bool operator==(const Seen& other) const { return requests == other.requests && count == other.count; }
};

std::shared_ptr<ServerState> make_state() {
    auto state = std::make_shared<ServerState>();
    state->options.max_header_bytes = 4096;
    state->options.max_body_bytes = 4096;
    return state;
}

void read_all(int peer, Loop& loop, std::string& answers) {
    std::array<char, 16384> buffer{};
    for (;;) {
        loop.context.restart();
        loop.context.poll();
        const ssize_t count = ::recv(peer, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (count <= 0) break;
        answers.append(buffer.data(), static_cast<std::size_t>(count));
    }
}

Seen serve(std::string_view bytes, std::size_t piece) {
    Seen seen;
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) std::abort();
    auto loop = std::make_shared<Loop>();
    current_loop() = loop.get();
    const auto state = make_state();
    state->connections = 1;
    state->handler = [&](const ServerRequest& request, const std::shared_ptr<ResponseWriter>& writer) {
        ++seen.count;
        ((((seen.requests += request.method) += '\0') += request.path) += '\0') += request.query;
        for (const auto& [name, value] : request.headers) ((seen.requests += name) += '\1') += value;
        ((seen.requests += '\2') += request.body) += '\3';
        if (request.path.size() % 2 == 0) return writer->send(200, {}, request.path);
        writer->begin_stream(200, {});
        writer->write(request.method);
        writer->end();
    };
    {
        Socket socket(loop->context);
        socket.assign(boost::asio::ip::tcp::v4(), ends[0]);
        std::make_shared<Session>(loop, state, std::move(socket))->run();
    }
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        const std::string_view part = bytes.substr(at, piece);
        if (::send(ends[1], part.data(), part.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) break;
        read_all(ends[1], *loop, seen.answers);
    }
    ::shutdown(ends[1], SHUT_WR);
    read_all(ends[1], *loop, seen.answers);
    ::close(ends[1]);
    for (int i = 0; i < 4 && state->connections.load() != 0; ++i) {
        loop->context.restart();
        loop->context.poll();
    }
    // An idle connection ends with its peer.
    if (state->connections.load() != 0 || !loop->sessions.empty()) std::abort();
    current_loop() = nullptr;
    return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    if (bytes.size() > 16384) return 0;
    const Seen whole = serve(bytes, bytes.size() + 1);
    if (!whole.answers.empty() && !whole.answers.starts_with("HTTP/1.1 ")) std::abort();
    if (whole.count > 0 && whole.answers.empty()) std::abort();
    for (const std::size_t piece : {std::size_t{7}, std::size_t{64}}) {
        if (bytes.size() <= 64 * piece && !(serve(bytes, piece) == whole)) std::abort();
    }
    return 0;
}
