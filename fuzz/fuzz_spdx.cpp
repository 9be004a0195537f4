// part: data
// What is read as a licence expression is written so that it is read as the same; lineages too.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "data/lineage.h"
#include "data/spdx.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto expression = data::parse_spdx(text)) {
        const std::string written = data::write_spdx(*expression);
        const auto again = data::parse_spdx(written);
        if (!again || data::write_spdx(*again) != written || again->licences() != expression->licences())
            std::abort();
        (void)data::licence_objection(*expression, data::Use::commercial);
        (void)data::licence_duties(*expression);
    }
    (void)data::parse_lineage(text, "fuzz");
    return 0;
}
