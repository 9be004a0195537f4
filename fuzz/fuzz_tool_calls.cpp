// part: serve
// Tool calls in a model's text: in pieces or whole, the same calls; and nothing of a text without marks is
// lost.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "serve/tool_calls.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort::serve;
    if (size < 2 || size > 20'000) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
    const auto style = static_cast<ToolStyle>(data[0] % 6);
    const std::size_t step = data[1] % 16 + 1;
    ToolCallParser whole(style);
    ToolCallParser pieces(style);
    ToolCallParser::Parts one = whole.push(text);
    const ToolCallParser::Parts end = whole.finish();
    std::size_t calls = 0;
    std::string content;
    const auto add = [&](const ToolCallParser::Parts& parts) {
        content += parts.content;
        calls += parts.calls.size();
        for (const ToolCall& call : parts.calls) {
            if (call.id.empty()) std::abort();
        }
    };
    for (std::size_t i = 0; i < text.size(); i += step) add(pieces.push(text.substr(i, step)));
    add(pieces.finish());
    if (calls != one.calls.size() + end.calls.size()) std::abort();
    if (content != one.content + end.content) std::abort();
    if (calls == 0 && content != text) std::abort();
    return 0;
}
