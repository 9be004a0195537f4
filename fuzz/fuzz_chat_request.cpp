// part: api
// Requests: what is accepted is within the contract's ranges, and is read back as it was when written again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/chat_request.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort::api;
    const std::string_view body(reinterpret_cast<const char*>(data), size);
    if (const auto request = parse_chat_request(body)) {
        const SamplingFields& sampling = request->sampling;
        if (request->messages.empty() || sampling.n < 1 || sampling.stop.size() > 4 ||
            request->top_logprobs > 20 || !(sampling.temperature.value_or(0) >= 0) ||
            !(sampling.temperature.value_or(0) <= 2) || sampling.max_tokens.value_or(1) < 1) {
            std::abort();
        }
        const std::string written = write_chat_request(*request);
        const auto again = parse_chat_request(written);
        if (!again || write_chat_request(*again) != written) std::abort();
    } else {
        if (request.error().status != 400 || request.error().message.empty()) std::abort();
        (void)write_error(request.error());
    }
    (void)parse_completion_request(body);
    return 0;
}
