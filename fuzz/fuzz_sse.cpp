// part: http
// Event streams: the events do not depend on where the stream is cut.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "http/sse.h"

namespace {
std::string events(std::string_view stream, std::size_t piece) {
    std::string all;
    retort::http::SseReader reader(4096);
    for (std::size_t at = 0; at < stream.size(); at += piece) {
        const auto fed = reader.feed(stream.substr(at, piece), [&](const retort::http::SseEvent& event) {
            all += event.event + '\0' + event.data + '\0' + event.id + '\1';
            return retort::Status{};
        });
        if (!fed) return "error";
    }
    return all;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view stream(reinterpret_cast<const char*>(data), size);
    if (stream.empty()) return 0;
    const std::string whole = events(stream, stream.size());
    for (const std::size_t piece : {1, 2, 3, 7}) {
        if (events(stream, piece) != whole) std::abort();
    }
    return 0;
}
