// part: text
// A template: it parses or not, renders or not, within small limits, and prints valid UTF-8.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/jinja.h"
#include "text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using Json = nlohmann::ordered_json;
    static const retort::text::jinja::Variables variables = {
        {"messages", Json::parse(R"([{"role":"system","content":" s "},{"role":"user","content":"hi\nthere"},
            {"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":{"a":[1,2.5,null]}}}]}])")},
        {"tools", Json::parse(R"([{"type":"function","function":{"name":"f","parameters":{"items":{}}}}])")},
        {"add_generation_prompt", true},
        {"bos_token", "<s>"},
        {"text", "  Ünïcode\tß \u2003"},
        {"number", -7},
    };
    const auto parsed = retort::text::jinja::Template::parse({reinterpret_cast<const char*>(data), size});
    if (!parsed) return 0;
    const auto text = parsed->render(
        variables, {.output_bytes = 1 << 16, .total_bytes = 1 << 20, .steps = 20'000, .call_depth = 16});
    if (text && !retort::text::is_valid_utf8(*text)) std::abort();
    return 0;
}
