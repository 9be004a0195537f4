// part: model
// A config that is understood must be understood again when written.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto config = retort::model::config_from_json({reinterpret_cast<const char*>(data), size});
    if (!config) return 0;
    const auto text = retort::model::config_to_json(*config, "float32");
    const auto again = retort::model::config_from_json(text);
    if (!again || retort::model::config_to_json(*again, "float32") != text) {
        std::fprintf(stderr, "%s\n%s\n", text.c_str(),
                     again ? "reads back otherwise" : again.error().message.c_str());
        std::abort();
    }
    if (config->head_dim < 4096) {
        const auto frequencies = retort::model::rope_frequencies(*config);
    }
    return 0;
}
