// part: guard
// What a guard that watches has read: a checkpoint and a frame of its journal, each written and read again
// the same.
#include <cstdlib>
#include <string_view>

#include "guard/follower_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    if (const auto one = guard::read_checkpoint(bytes)) {
        const auto two = guard::read_checkpoint(guard::write_checkpoint(*one));
        if (!two || *two != *one) std::abort();
        for (const auto& [name, place] : one->places)
            if (name.find('/') != std::string::npos) std::abort();
    }
    if (const auto part = guard::read_part(bytes)) {
        if (part->from > part->to || guard::write_part(*part) != bytes) std::abort();
    }
    return 0;
}
