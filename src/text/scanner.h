// The regular expressions that published byte-level tokenizers split words by, written out by hand: the same
// pieces as the expression gives, several times faster.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace retort::text {

enum class WordPattern {
    gpt2,    // GPT-2, SmolLM2 and the ByteLevel pre-tokenizer's own
    llama3,  // numbers in groups of at most three
    qwen2,   // numbers digit by digit
};

// The expression's text, and which one a text is.
std::string_view word_pattern_text(WordPattern pattern);
std::optional<WordPattern> find_word_pattern(std::string_view regex);

// Appends the pieces of valid UTF-8; together they are the whole of it.
void scan_words(WordPattern pattern, std::string_view text, std::vector<std::string_view>& pieces);

}  // namespace retort::text
