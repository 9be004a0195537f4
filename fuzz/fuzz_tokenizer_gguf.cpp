// part: text
// The tokenizer and chat template in a GGUF file's metadata.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "formats/gguf.h"
#include "text/text_model.h"
#include "text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = retort::formats::GgufFile::parse(std::as_bytes(std::span(data, size)), "fuzz");
    if (!file) return 0;
    const auto model = retort::text::text_model_from_gguf(*file);
    if (!model) return 0;
    const auto ids = model->tokenizer.encode("Hello,  world 123\n\n<s> don't \xe4\xbd\xa0\xff</s>");
    if (!retort::text::is_valid_utf8(model->tokenizer.decode(ids))) std::abort();
    const auto metadata = model->tokenizer.to_gguf(0);
    const auto json = model->tokenizer.to_tokenizer_json();
    return 0;
}
