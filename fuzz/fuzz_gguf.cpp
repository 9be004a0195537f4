// part: model
// A GGUF file, as far as a model's weights unpacked.
#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/gguf.h"
#include "model/weights.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = retort::formats::GgufFile::parse(std::as_bytes(std::span(data, size)), "fuzz");
    if (!file) return 0;
    for (const auto& [key, value] : file->metadata()) {
        const auto integer = file->integer(key);
        const auto number = file->number(key);
        const auto strings = file->strings(key);
        if (const auto array = file->array(key)) {
            const auto integers = (*array)->integers();
            const auto numbers = (*array)->numbers();
        }
    }
    if (const auto weights = retort::model::load_weights(*file)) {
        const auto unpacked = retort::model::dequantised(*weights);
        const auto frequencies = retort::model::rope_frequencies(unpacked.config);
    }
    return 0;
}
