// part: grammar
// Schemas: what compiles makes JSON only. The rest of the input chooses a way through the automaton.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "grammar/automaton.h"
#include "grammar/json_grammar.h"

namespace {

int depth_of(std::string_view text) {
    int depth = 0;
    int deepest = 0;
    for (const char c : text) {
        if (c == '{' || c == '[') deepest = std::max(deepest, ++depth);
        if (c == '}' || c == ']') --depth;
    }
    return deepest;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort::grammar;
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const std::string_view text = input.substr(0, input.find('\n'));
    const std::string_view choices = input.substr(std::min(text.size() + 1, input.size()));
    if (text.size() > 20'000 || depth_of(text) > 64) return 0;
    const Json schema = Json::parse(text, nullptr, false);
    if (schema.is_discarded()) return 0;
    GrammarBuilder builder;
    const auto root = schema_value(builder, schema, "schema");
    if (!root) {
        if (root.error().message.empty()) std::abort();
        return 0;
    }
    auto grammar = builder.finish(*root);
    if (!grammar) return 0;
    Automaton automaton(std::move(*grammar));
    std::string said;
    std::int32_t state = automaton.start();
    for (std::size_t step = 0; step < 200 && automaton.goes_on(state); ++step) {
        const unsigned first = step < choices.size() ? static_cast<unsigned char>(choices[step]) : '"';
        for (unsigned i = 0; i < 256; ++i) {
            const auto byte = static_cast<unsigned char>(first + i);
            const std::int32_t next = automaton.step(state, byte);
            if (next == Automaton::dead) continue;
            said += static_cast<char>(byte);
            state = next;
            break;
        }
        if (automaton.accepts(state) && !Json::accept(said)) std::abort();
    }
    return 0;
}
