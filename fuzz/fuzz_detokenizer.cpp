// part: text
// Any bytes as token ids: each piece is valid UTF-8, and the pieces together are decode(). The same bytes as
// text: the words written out by hand are those of the regular expression, and decode(encode()) gives the
// text back.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"
#include "text/bpe.h"
#include "text/regex.h"
#include "text/scanner.h"
#include "text/streaming_detokenizer.h"
#include "text/unicode.h"

namespace {

using namespace retort::text;

const Tokenizer& tokenizer() {
    static const Tokenizer instance = [] {
        retort::formats::Json vocabulary = retort::formats::Json::object();
        for (int b = 0; b < 256; ++b) vocabulary[alphabet_of_bytes(std::string(1, static_cast<char>(b)))] = b;
        const retort::formats::Json json = {
            {"added_tokens", {{{"id", 256}, {"content", "<|end|>"}, {"special", true}}}},
            {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
            {"decoder", {{"type", "ByteLevel"}}},
            {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", retort::formats::Json::array()}}}};
        auto loaded = Tokenizer::from_json(json.dump());
        if (!loaded) std::abort();
        return *loaded;
    }();
    return instance;
}

void check_words(WordPattern pattern, std::string_view text) {
    static const Regex expressions[] = {*Regex::compile(word_pattern_text(WordPattern::gpt2)),
                                        *Regex::compile(word_pattern_text(WordPattern::llama3)),
                                        *Regex::compile(word_pattern_text(WordPattern::qwen2))};
    std::vector<std::string_view> words;
    scan_words(pattern, text, words);
    std::size_t next = 0;
    expressions[static_cast<std::size_t>(pattern)].find_all(text, [&](std::size_t begin, std::size_t end) {
        if (next >= words.size() || words[next] != text.substr(begin, end - begin)) std::abort();
        ++next;
    });
    if (next != words.size()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 4096) return 0;
    std::vector<std::int32_t> ids;
    std::string streamed;
    StreamingDetokenizer stream(tokenizer());
    for (std::size_t i = 0; i < size; ++i) {
        ids.push_back(data[i] == 0 ? 256 : data[i]);
        const std::string piece = stream.push(ids.back());
        if (!is_valid_utf8(piece)) std::abort();
        streamed += piece;
    }
    streamed += stream.finish();
    if (streamed != tokenizer().decode(ids, true)) std::abort();

    const std::string text = lossy_utf8({reinterpret_cast<const char*>(data), size});
    for (const WordPattern pattern : {WordPattern::gpt2, WordPattern::llama3, WordPattern::qwen2})
        check_words(pattern, text);
    if (tokenizer().decode(tokenizer().encode(text)) != text) std::abort();
    return 0;
}
