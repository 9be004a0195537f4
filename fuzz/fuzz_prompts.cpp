// part: data
// Prompt files, as JSON lines and as plain text.
#include <cstdlib>
#include <string_view>

#include "data/prompts.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    for (const auto format : {data::PromptFormat::json_lines, data::PromptFormat::plain_text}) {
        const auto prompts = data::parse_prompts(text, format, "fuzz", "Be brief.");
        if (!prompts) continue;
        if (prompts->empty()) std::abort();
        for (const data::Prompt& prompt : *prompts) {
            if (prompt.messages.empty() || prompt.id.empty()) std::abort();
            (void)data::normalised_prompt(prompt.messages);
        }
    }
    return 0;
}
