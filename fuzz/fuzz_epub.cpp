// part: screen
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "screen/read_work.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    (void)retort::screen::extract_text(bytes, "epub", "fuzz");
    return 0;
}
