// part: collect
// A journal of answers: frames end within the bytes, and what is valid is parsed the same from the valid
// bytes alone.
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "base/journal.h"
#include "collect/answers.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const auto bytes = std::as_bytes(std::span(data, size));
    std::vector<std::string> frames;
    std::uint64_t valid = 0;
    const auto keep = [&](std::string_view frame) -> Status {
        frames.emplace_back(frame);
        return {};
    };
    const auto recovery = base::parse_journal(bytes, keep, &valid);
    if (!recovery) return 0;
    if (valid > size || recovery->frames != frames.size()) std::abort();
    const std::vector<std::string> first = std::move(frames);
    frames.clear();
    std::uint64_t again = 0;
    if (!base::parse_journal(bytes.first(valid), keep, &again) || again != valid || frames != first)
        std::abort();
    for (const std::string& frame : first) (void)collect::parse_frame(frame);
    // The frames' contents too, without a checksum to stop the fuzzer.
    (void)collect::parse_frame({reinterpret_cast<const char*>(data), size});
    return 0;
}
