// Looks at one answer alone and says what is wrong with it: nothing of models, nothing of other records. Text
// is UTF-8; bytes that are not are taken as they come.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace retort::curate {

// Words: runs of ASCII letters, digits, apostrophes and bytes above 127, lower-cased.
std::vector<std::string> words_of(std::string_view text);

// The phrase that makes the beginning of an answer (its first 200 characters) a refusal, or nothing.
std::optional<std::string_view> refusal_phrase(std::string_view text);

struct RepetitionLimits {
    double repeated_ngrams = 0.3;  // share of word 4-grams that occurred before; from 20 words on
    double unique_words = 0.2;     // least share of distinct words; from 50 words on
    int loop_repeats = 4;          // the same 2 to 20 words in a row so often (one word: twice as often)
    int same_characters = 32;      // in a row, white space and line-drawing signs not counted
};
// What repeats, in words, or nothing.
std::optional<std::string> repetition(std::string_view text, const RepetitionLimits& limits);

// What is wrong with an answer's reasoning: never closed ("<think>" without its end, in either part), or
// nothing but code blocks. Nothing when all is well, or when there is none.
std::optional<std::string> reasoning_fault(std::string_view content, std::string_view reasoning);

enum class Script { latin, cyrillic, greek, arabic, hebrew, devanagari, thai, hangul, east_asian, other };
std::string_view script_name(Script script);
// Shares of letters by script, over the scripts that occur.
struct ScriptShare {
    Script script;
    std::int64_t letters;
    double share;
};
std::vector<ScriptShare> scripts_of(std::string_view text);

// A script that makes up more than `most` of the answer's letters (and at least 5 of them) beside its main
// one and does not occur in the prompt.
std::optional<Script> foreign_script(std::string_view prompt, std::string_view answer, double most);

// A guess among en, de, fr, es, it, pt, nl by their commonest words; empty when nothing stands out (short
// texts, other languages).
std::string guess_language(std::string_view text);

}  // namespace retort::curate
