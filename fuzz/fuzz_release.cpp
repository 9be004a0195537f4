// part: release
// Policies and the list of a sealed bundle.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "release/bundle.h"
#include "release/check.h"
#include "release/personal_data.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    (void)release::parse_policy(text, "fuzz", "/");
    (void)release::parse_manifest_text(text);
    (void)release::personal_data_in(text);
    return 0;
}
