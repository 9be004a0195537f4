// part: escrow
// Frames of the escrow's journal, records, roots and canaries: what is read is written back the same.
#include <cstdlib>
#include <string_view>

#include "escrow/canaries.h"
#include "escrow/vault.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto frame = escrow::parse_frame(text)) {
        if (escrow::write_frame(*frame) != text) std::abort();
    }
    if (const auto record = escrow::parse_record(text)) {
        const auto again = escrow::parse_record(escrow::write_record(*record));
        if (!again || !(*again == *record)) std::abort();
    }
    if (const auto roots = escrow::parse_roots(text, "fuzz")) (void)escrow::check_roots(*roots, {});
    if (const auto canaries = escrow::parse_canaries(text, "fuzz")) {
        if (!escrow::parse_canaries(escrow::write_canaries(*canaries), "fuzz")) std::abort();
    }
    return 0;
}
