#include "cli/terminal_input.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "base/interrupt.h"

namespace retort::cli {

namespace {
// A terminal hands over a paste line by line, but without a person's pauses.
constexpr int paste_milliseconds = 20;
constexpr int poll_milliseconds = 100;
constexpr const char* fence = "\"\"\"";
}  // namespace

bool TerminalInput::more_is_there() const {
    if (buffer_.find('\n') != std::string::npos) return true;
    if (at_end_) return false;
    pollfd wait{descriptor_, POLLIN, 0};
    return ::poll(&wait, 1, paste_milliseconds) == 1 && (wait.revents & POLLIN) != 0;
}

std::optional<std::string> TerminalInput::read_line() {
    while (true) {
        const std::size_t end = buffer_.find('\n');
        if (end != std::string::npos) {
            std::string line = buffer_.substr(0, end);
            buffer_.erase(0, end + 1);
            if (!line.empty() && line.back() == '\r') line.pop_back();
            return line;
        }
        if (at_end_) {
            if (buffer_.empty()) return std::nullopt;
            std::string line;
            line.swap(buffer_);
            return line;
        }
        // Polled rather than blocked in read(): a signal that comes just before read() would be slept
        // through.
        pollfd wait{descriptor_, POLLIN, 0};
        const int ready = ::poll(&wait, 1, poll_milliseconds);
        if (base::interrupted()) return std::nullopt;
        if (ready <= 0) continue;
        char bytes[4096];
        const ssize_t got = ::read(descriptor_, bytes, sizeof bytes);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got <= 0) {
            at_end_ = true;
        } else {
            buffer_.append(bytes, static_cast<std::size_t>(got));
        }
    }
}

Input TerminalInput::read_message() {
    auto line = read_line();
    if (!line) {
        if (!base::interrupted()) return {InputKind::end, {}};
        buffer_.clear();
        return {InputKind::interrupted, {}};
    }
    Input input{InputKind::message, *line};
    if (*line == fence) {
        input.text.clear();
        while ((line = read_line()) && *line != fence) input.text += *line + "\n";
    } else {
        while (more_is_there() && (line = read_line())) input.text += "\n" + *line;
    }
    if (base::interrupted()) return {InputKind::interrupted, {}};
    while (!input.text.empty() && input.text.back() == '\n') input.text.pop_back();
    return input;
}

}  // namespace retort::cli
