// part: formats
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "formats/recipe.h"

namespace {

void read_all(const retort::formats::TomlTable& table, int depth) {
    const auto before = table.check_unknown_keys();
    if (depth > 8) return;
    const retort::formats::Json json = table.to_json();
    for (const auto& [key, value] : json.items()) {
        const auto text = table.string(key);
        const auto whole = table.integer_or(key, 1, 0, 100);
        const auto number = table.number_or(key, 0.5, 0.0, 1.0);
        const auto strings = table.strings_or(key, {});
        const auto numbers = table.numbers(key);
        const auto choice = table.choice_or(key, "a", {"a", "b"});
        if (const auto inner = table.table_or_empty(key)) read_all(*inner, depth + 1);
        if (const auto tables = table.tables_or_empty(key)) {
            for (const auto& inner : *tables) read_all(inner, depth + 1);
        }
    }
    const auto after = table.check_unknown_keys();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto recipe =
        retort::formats::TomlTable::parse({reinterpret_cast<const char*>(data), size}, "fuzz.toml");
    if (recipe) read_all(*recipe, 0);
    return 0;
}
