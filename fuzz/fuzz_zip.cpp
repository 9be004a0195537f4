// part: formats
#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/wheel.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto archive = retort::formats::ZipArchive::parse(std::as_bytes(std::span(data, size)), "fuzz");
    if (!archive) return 0;
    constexpr std::uint64_t most = 1 << 20;
    for (const auto& entry : archive->entries()) {
        const auto text = archive->read(entry, most);
    }
    const auto hashes = retort::formats::read_wheel_record(*archive);
    return 0;
}
