// part: store
// A block of the event log: what is read is written again and reads the same; nothing is read past the bytes.
#include <cstdlib>
#include <string>

#include "store/event_log.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const auto events = store::read_block(bytes);
    if (!events) return 0;
    const auto again = store::read_block(store::write_block(*events));
    if (!again || again->size() != events->size()) std::abort();
    for (std::size_t i = 0; i < events->size(); ++i) {
        if (store::event_json((*events)[i]) != store::event_json((*again)[i])) std::abort();
    }
    return 0;
}
