#include "http/sse.h"

#include <algorithm>

namespace retort::http {

Status SseReader::feed(std::string_view bytes, const std::function<Status(const SseEvent&)>& on_event) {
    while (!bytes.empty()) {
        if (after_cr_) {
            after_cr_ = false;
            if (bytes.front() == '\n') {
                bytes.remove_prefix(1);
                continue;
            }
        }
        const std::size_t end = std::min(bytes.find_first_of("\r\n"), bytes.size());
        line_.append(bytes.substr(0, end));
        if (line_.size() + event_.data.size() > max_bytes_) {
            return fail(ErrorCode::format, "an event of the stream is longer than {} bytes", max_bytes_);
        }
        if (end == bytes.size()) return {};
        after_cr_ = bytes[end] == '\r';
        bytes.remove_prefix(end + 1);
        RETORT_CHECK(end_line(on_event));
    }
    return {};
}

Status SseReader::end_line(const std::function<Status(const SseEvent&)>& on_event) {
    std::string_view line = line_;
    if (first_line_ && line.starts_with("\xef\xbb\xbf")) line.remove_prefix(3);
    first_line_ = false;
    if (line.empty()) {
        line_.clear();
        const bool complete = has_data_;
        has_data_ = false;
        SseEvent event;
        event.id = event_.id;
        std::swap(event, event_);
        if (!complete) return {};
        if (event.event.empty()) event.event = "message";
        return on_event(event);
    }
    const std::size_t colon = std::min(line.find(':'), line.size());
    const std::string_view field = line.substr(0, colon);
    std::string_view value = colon < line.size() ? line.substr(colon + 1) : std::string_view{};
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (field == "data") {
        if (has_data_) event_.data += '\n';
        event_.data.append(value);
        has_data_ = true;
    } else if (field == "event") {
        event_.event = value;
    } else if (field == "id" && value.find('\0') == std::string_view::npos) {
        event_.id = value;
    }
    line_.clear();
    return {};
}

std::string sse_frame(std::string_view data) {
    std::string out;
    out.reserve(data.size() + 10);
    while (true) {
        const std::size_t end = data.find('\n');
        (out += "data: ") += data.substr(0, end);
        out += '\n';
        if (end == std::string_view::npos) break;
        data.remove_prefix(end + 1);
    }
    out += '\n';
    return out;
}

}  // namespace retort::http
