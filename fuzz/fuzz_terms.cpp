// part: collect
// Terms files, TOML and JSON: none that lacks a permission passes the gate.
#include <cstdlib>
#include <string_view>

#include "collect/terms.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto terms = collect::parse_terms(text, "fuzz");
    if (terms && collect::check_terms(*terms, "127.0.0.1", "a-model")) {
        if (!terms->allows_training_on_outputs || terms->permitted_by.empty() || terms->scope.empty() ||
            (terms->licence.empty() && terms->statement.empty())) {
            std::abort();
        }
    }
    (void)collect::parse_known_terms(text);
    return 0;
}
