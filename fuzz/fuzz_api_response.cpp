// part: api
// What a teacher's server may send: whole answers, chunks, lists of models and errors.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/chat_response.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort::api;
    const std::string_view body(reinterpret_cast<const char*>(data), size);
    if (const auto response = parse_chat_response(body)) {
        const std::string written = write_chat_response(*response);
        const auto again = parse_chat_response(written);
        if (!again || write_chat_response(*again) != written) std::abort();
    }
    ChatResponse whole;
    if (const auto chunk = parse_chat_chunk(body); chunk && !chunk->error) {
        append_chunk(whole, *chunk);
        append_chunk(whole, *chunk);
        (void)write_chat_chunk(*chunk, true);
    }
    (void)parse_models(body);
    (void)write_error(parse_error(500, body));
    return 0;
}
