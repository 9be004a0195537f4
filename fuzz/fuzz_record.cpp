// part: data
// A line of records.jsonl: whatever is read is written and read again the same.
#include <cstdlib>
#include <string_view>

#include "data/manifest.h"
#include "data/record.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto record = data::parse_record(text)) {
        const auto again = data::parse_record(data::write_record(*record));
        if (!again || data::write_record(*again) != data::write_record(*record)) std::abort();
        (void)data::check_seal(*record);
        (void)data::write_messages_line(*record);
    }
    if (const auto manifest = data::parse_manifest(text)) {
        if (!data::parse_manifest(data::write_manifest(*manifest))) std::abort();
    }
    return 0;
}
