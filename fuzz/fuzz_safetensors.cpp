// part: formats
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = retort::formats::SafetensorsFile::parse(std::as_bytes(std::span(data, size)), "fuzz");
    if (!file) return 0;
    std::size_t total = 0;
    for (const auto& tensor : file->tensors()) {
        if (file->find(tensor.name) != &tensor) std::abort();
        total += tensor.data.size();
        if (!tensor.data.empty() &&
            tensor.data.data() + tensor.data.size() > std::as_bytes(std::span(data, size)).data() + size) {
            std::abort();
        }
    }
    if (total > size) std::abort();
    return 0;
}
