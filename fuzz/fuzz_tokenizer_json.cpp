// part: text
// tokenizer.json: what loads encodes, decodes to valid UTF-8, and comes back the same from its own writing.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/tokenizer.h"
#include "text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using retort::text::Tokenizer;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto tokenizer =
        Tokenizer::from_json(text, R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})");
    if (!tokenizer) return 0;
    constexpr std::string_view texts[] = {"", "Hello,  world 123\n\n<s> don't",
                                          "\xe4\xbd\xa0\xff a\xcc\x81 \xf0\x9f\x98\x80</s>"};
    for (const std::string_view sample : texts) {
        const auto ids = tokenizer->encode(sample);
        for (const std::int32_t id : ids) {
            if (id < 0 || id >= tokenizer->vocab_size()) std::abort();
        }
        if (!retort::text::is_valid_utf8(tokenizer->decode(ids))) std::abort();
        const auto plain = tokenizer->encode(sample, {.add_special_tokens = false, .parse_special = false});
        if (!retort::text::is_valid_utf8(tokenizer->decode(plain, true))) std::abort();
    }
    if (const auto json = tokenizer->to_tokenizer_json()) {
        const auto again = Tokenizer::from_json(*json, tokenizer->to_tokenizer_config_json());
        if (!again || again->hash() != tokenizer->hash()) std::abort();
        if (again->encode(texts[1]) != tokenizer->encode(texts[1])) std::abort();
    }
    const auto metadata = tokenizer->to_gguf(0);
    return 0;
}
