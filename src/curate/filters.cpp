#include "curate/filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "base/hash.h"

namespace retort::curate {

namespace {

bool is_word_byte(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '\'' ||
           c >= 0x80;
}

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Lower case, typographic apostrophes plain.
std::string folded(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text.substr(i).starts_with("\u2019")) {
            out.push_back('\'');
            i += 2;
        } else {
            out.push_back(lower(text[i]));
        }
    }
    return out;
}

constexpr std::array<std::string_view, 34> refusals = {
    "i'm sorry, but i can't",
    "i'm sorry, but i cannot",
    "i'm sorry, i can't",
    "i'm sorry, i cannot",
    "i am sorry, but i can",
    "i apologize, but i can",
    "i apologise, but i can",
    "sorry, but i can't",
    "sorry, i can't",
    "i can't assist",
    "i cannot assist",
    "i can't help with",
    "i cannot help with",
    "i can't provide",
    "i cannot provide",
    "i'm unable to",
    "i am unable to",
    "i'm not able to",
    "i am not able to",
    "i won't be able to",
    "i must decline",
    "i can't fulfill",
    "i cannot fulfill",
    "i can't comply",
    "i cannot comply",
    "as an ai language model",
    "as an ai, i",
    "as a language model",
    "i'm just an ai",
    "it would be inappropriate for me",
    "i don't have the capability",
    "i'm not equipped to",
    "i can't help you",
    "i won't help",
};

std::uint64_t hash_words(const std::vector<std::string>& words, std::size_t begin, std::size_t count) {
    std::uint64_t hash = count;
    for (std::size_t i = begin; i < begin + count; ++i) hash = base::xxh3_64(words[i], hash);
    return hash;
}

std::optional<std::string> character_run(std::string_view text, int limit) {
    std::size_t begin = 0;
    for (std::size_t i = 1; i <= text.size(); ++i) {
        if (i < text.size() && text[i] == text[begin]) continue;
        const char c = text[begin];
        const bool counted = c != ' ' && c != '\n' && c != '\t' && c != '-' && c != '=' && c != '_' &&
                             c != '*' && c != '.' && c != '#' && static_cast<unsigned char>(c) < 0x80;
        if (counted && i - begin >= static_cast<std::size_t>(limit)) {
            return fmt::format("'{}' {} times in a row", c, i - begin);
        }
        begin = i;
    }
    return std::nullopt;
}

// For each period p: how far text[i] == text[i - p] runs.
std::optional<std::string> loop(const std::vector<std::string>& words, int repeats) {
    constexpr std::size_t longest = 20;
    for (std::size_t period = 1; period <= longest && period < words.size(); ++period) {
        const auto wanted = static_cast<std::size_t>(period == 1 ? 2 * repeats : repeats);
        std::size_t run = period;
        for (std::size_t i = period; i < words.size(); ++i) {
            run = words[i] == words[i - period] ? run + 1 : period;
            if (run >= wanted * period) {
                std::string phrase;
                for (std::size_t k = i + 1 - period; k <= i; ++k)
                    phrase += (phrase.empty() ? "" : " ") + words[k];
                return fmt::format("\"{}\" {} times in a row", phrase, wanted);
            }
        }
    }
    return std::nullopt;
}

Script script_of(char32_t c) {
    const auto in = [c](char32_t low, char32_t high) { return c >= low && c <= high; };
    if (in('A', 'Z') || in('a', 'z') || in(0xC0, 0x24F) || in(0x1E00, 0x1EFF)) return Script::latin;
    if (in(0x370, 0x3FF) || in(0x1F00, 0x1FFF)) return Script::greek;
    if (in(0x400, 0x52F)) return Script::cyrillic;
    if (in(0x590, 0x5FF)) return Script::hebrew;
    if (in(0x600, 0x6FF) || in(0x750, 0x77F)) return Script::arabic;
    if (in(0x900, 0x97F)) return Script::devanagari;
    if (in(0xE00, 0xE7F)) return Script::thai;
    if (in(0x1100, 0x11FF) || in(0xAC00, 0xD7AF)) return Script::hangul;
    // Han and kana together: Japanese mixes them.
    if (in(0x3040, 0x30FF) || in(0x3400, 0x4DBF) || in(0x4E00, 0x9FFF) || in(0x20000, 0x2FA1F)) {
        return Script::east_asian;
    }
    return Script::other;
}

template <typename OnCharacter>
void each_character(std::string_view text, const OnCharacter& on_character) {
    for (std::size_t i = 0; i < text.size();) {
        const auto first = static_cast<unsigned char>(text[i]);
        std::size_t length = 1;
        if (first >= 0xF0) {
            length = 4;
        } else if (first >= 0xE0) {
            length = 3;
        } else if (first >= 0xC0) {
            length = 2;
        }
        char32_t c = length == 1 ? first : first & (0x7FU >> length);
        for (std::size_t k = 1; k < length && i + k < text.size(); ++k) {
            c = (c << 6U) | (static_cast<unsigned char>(text[i + k]) & 0x3FU);
        }
        on_character(c);
        i += length;
    }
}

struct Language {
    std::string_view name;
    std::array<std::string_view, 16> words;
};

// The commonest words that tell one from another, all of closed classes.
constexpr std::array<Language, 7> languages = {{
    {"en",
     {"the", "of", "and", "to", "is", "that", "with", "for", "it", "are", "you", "this", "be", "from",
      "which", "was"}},
    {"de",
     {"der", "die", "das", "und", "ist", "nicht", "ein", "eine", "mit", "von", "zu", "auf", "sich", "auch",
      "werden", "f\u00fcr"}},
    {"fr",
     {"le", "les", "et", "est", "des", "une", "dans", "que", "pour", "qui", "pas", "sur", "avec", "du", "ce",
      "sont"}},
    {"es",
     {"el", "los", "y", "que", "las", "una", "por", "con", "para", "es", "del", "se", "como", "m\u00e1s",
      "pero", "su"}},
    {"it",
     {"il", "di", "che", "\u00e8", "un", "della", "per", "non", "sono", "con", "del", "gli", "anche", "una",
      "nel", "pi\u00f9"}},
    {"pt",
     {"o", "os", "que", "e", "n\u00e3o", "uma", "para", "com", "do", "da", "em", "um", "mais", "se", "como",
      "\u00e9"}},
    {"nl",
     {"de", "het", "een", "van", "en", "niet", "dat", "zijn", "op", "voor", "met", "ook", "aan", "wordt",
      "naar", "bij"}},
}};

}  // namespace

std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words;
    std::string word;
    for (const char c : folded(text)) {
        if (is_word_byte(static_cast<unsigned char>(c))) {
            word.push_back(c);
        } else if (!word.empty()) {
            words.push_back(std::move(word));
            word.clear();
        }
    }
    if (!word.empty()) words.push_back(std::move(word));
    return words;
}

std::optional<std::string_view> refusal_phrase(std::string_view text) {
    constexpr std::size_t looked_at = 200;
    const std::string beginning = folded(text.substr(0, looked_at));
    for (const std::string_view phrase : refusals) {
        const std::size_t at = beginning.find(phrase);
        if (at == std::string::npos) continue;
        if (at == 0 || !is_word_byte(static_cast<unsigned char>(beginning[at - 1]))) return phrase;
    }
    return std::nullopt;
}

std::optional<std::string> repetition(std::string_view text, const RepetitionLimits& limits) {
    if (auto run = character_run(text, limits.same_characters)) return run;
    const std::vector<std::string> words = words_of(text);
    if (auto found = loop(words, limits.loop_repeats)) return found;
    if (words.size() >= 20) {
        std::unordered_set<std::uint64_t> seen;
        const std::size_t total = words.size() - 3;
        for (std::size_t i = 0; i < total; ++i) seen.insert(hash_words(words, i, 4));
        const double repeated = 1.0 - static_cast<double>(seen.size()) / static_cast<double>(total);
        if (repeated > limits.repeated_ngrams)
            return fmt::format("{:.0f} % of its 4-grams repeat", 100 * repeated);
    }
    if (words.size() >= 50) {
        const std::unordered_set<std::string> distinct(words.begin(), words.end());
        const double share = static_cast<double>(distinct.size()) / static_cast<double>(words.size());
        if (share < limits.unique_words)
            return fmt::format("{:.0f} % of its words are distinct", 100 * share);
    }
    return std::nullopt;
}

std::optional<std::string> reasoning_fault(std::string_view content, std::string_view reasoning) {
    for (const std::string_view text : {content, reasoning}) {
        const std::size_t open = text.rfind("<think>");
        if (open != std::string_view::npos && text.find("</think>", open) == std::string_view::npos)
            return "<think> is never closed";
    }
    constexpr std::string_view fence = "```";
    std::string outside;
    bool in_code = false;
    bool any_code = false;
    for (std::size_t at = 0; at < reasoning.size();) {
        const std::size_t next = std::min(reasoning.find(fence, at), reasoning.size());
        if (!in_code) outside += reasoning.substr(at, next - at);
        if (next == reasoning.size()) break;
        in_code = !in_code;
        any_code = true;
        at = next + fence.size();
    }
    if (any_code && words_of(outside).empty()) return "reasoning is nothing but code";
    return std::nullopt;
}

std::string_view script_name(Script script) {
    constexpr std::array<std::string_view, 10> names = {"Latin",    "Cyrillic",   "Greek", "Arabic",
                                                        "Hebrew",   "Devanagari", "Thai",  "Hangul",
                                                        "Han/Kana", "other"};
    return names[static_cast<std::size_t>(script)];
}

std::vector<ScriptShare> scripts_of(std::string_view text) {
    std::array<std::int64_t, 10> counts{};
    std::int64_t total = 0;
    each_character(text, [&](char32_t c) {
        const Script script = script_of(c);
        if (script == Script::other) return;
        ++counts[static_cast<std::size_t>(script)];
        ++total;
    });
    std::vector<ScriptShare> shares;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        if (counts[i] == 0) continue;
        shares.push_back(
            {static_cast<Script>(i), counts[i], static_cast<double>(counts[i]) / static_cast<double>(total)});
    }
    std::stable_sort(shares.begin(), shares.end(),
                     [](const ScriptShare& a, const ScriptShare& b) { return a.letters > b.letters; });
    return shares;
}

std::optional<Script> foreign_script(std::string_view prompt, std::string_view answer, double most) {
    constexpr std::int64_t least_letters = 5;
    const std::vector<ScriptShare> given = scripts_of(prompt);
    const std::vector<ScriptShare> used = scripts_of(answer);
    for (std::size_t i = 1; i < used.size(); ++i) {
        const bool in_prompt = std::any_of(given.begin(), given.end(),
                                           [&](const ScriptShare& s) { return s.script == used[i].script; });
        if (!in_prompt && used[i].letters >= least_letters && used[i].share > most) return used[i].script;
    }
    return std::nullopt;
}

std::string guess_language(std::string_view text) {
    constexpr std::size_t least_words = 8;
    const std::vector<std::string> words = words_of(text);
    if (words.size() < least_words) return {};
    std::array<std::int64_t, languages.size()> hits{};
    for (const std::string& word : words) {
        for (std::size_t i = 0; i < languages.size(); ++i) {
            const auto& common = languages[i].words;
            hits[i] += std::find(common.begin(), common.end(), word) != common.end() ? 1 : 0;
        }
    }
    std::size_t best = 0;
    for (std::size_t i = 1; i < hits.size(); ++i) {
        if (hits[i] > hits[best]) best = i;
    }
    std::int64_t second = 0;
    for (std::size_t i = 0; i < hits.size(); ++i) {
        if (i != best) second = std::max(second, hits[i]);
    }
    const double share = static_cast<double>(hits[best]) / static_cast<double>(words.size());
    const bool clear = hits[best] >= 2 && share >= 0.12 && hits[best] >= 2 * second;
    return clear ? std::string(languages[best].name) : std::string();
}

}  // namespace retort::curate
