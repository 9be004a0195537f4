// Server-sent events: an incremental reader for streams cut at any byte, and the writer's framing. Knows
// nothing of what the events hold.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::http {

struct SseEvent {
    std::string event;  // "message" unless the stream names another
    std::string data;   // lines joined by '\n'
    std::string id;     // the last id seen
};

// Follows the WHATWG rules: LF, CR or CRLF end a line, lines that begin with ':' are comments, an event
// without data is not reported, an unfinished event at the end of the stream is dropped, a byte-order mark at
// the start is skipped.
class SseReader {
  public:
    explicit SseReader(std::size_t max_event_bytes = std::size_t{8} << 20U) : max_bytes_(max_event_bytes) {}

    // Calls on_event for each event that `bytes` completes; an error from it, or an event above the limit,
    // ends the reading.
    Status feed(std::string_view bytes, const std::function<Status(const SseEvent&)>& on_event);
    // Whether bytes have come that no event was made of: the stream was cut.
    [[nodiscard]] bool has_partial_event() const { return has_data_ || !line_.empty(); }

  private:
    Status end_line(const std::function<Status(const SseEvent&)>& on_event);

    std::size_t max_bytes_;
    std::string line_;
    SseEvent event_;
    bool has_data_ = false;
    bool after_cr_ = false;
    bool first_line_ = true;
};

// "data: …\n\n", one data line for each line of the text.
std::string sse_frame(std::string_view data);

}  // namespace retort::http
