#include "cli/pull.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"

namespace retort::cli {

Status check_weights_file(const std::filesystem::path& path) {
    if (path.extension() == ".gguf") {
        RETORT_CHECK(formats::GgufFile::open(path));
    } else if (path.extension() == ".safetensors") {
        RETORT_CHECK(formats::SafetensorsFile::open(path));
    }
    return {};
}

}  // namespace retort::cli
