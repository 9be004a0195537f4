#include "text/scanner.h"

#include <array>
#include <cstdint>

#include "text/unicode.h"

namespace retort::text {
namespace {

constexpr std::string_view gpt2_text =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3_text =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_text =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

enum Kind : std::uint8_t { letter, number, space, line_end, other };

constexpr std::array<std::uint8_t, 128> ascii_kinds() {
    std::array<std::uint8_t, 128> kinds{};
    for (unsigned c = 0; c < 128; ++c) {
        const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (is_letter) {
            kinds[c] = letter;
        } else if (c >= '0' && c <= '9') {
            kinds[c] = number;
        } else if (c == '\r' || c == '\n') {
            kinds[c] = line_end;
        } else if (c == ' ' || (c >= 9 && c <= 13)) {
            kinds[c] = space;
        } else {
            kinds[c] = other;
        }
    }
    return kinds;
}
constexpr std::array<std::uint8_t, 128> ascii = ascii_kinds();

class Cursor {
  public:
    explicit Cursor(std::string_view text) : text_(text), table_(CharacterTable::get()) {}

    [[nodiscard]] bool at_end(std::size_t at) const { return at >= text_.size(); }
    [[nodiscard]] char byte(std::size_t at) const { return at < text_.size() ? text_[at] : '\0'; }

    // Kind of the character at `at`, and where it ends.
    [[nodiscard]] Kind kind(std::size_t at, std::size_t& end) const {
        const auto first = static_cast<unsigned char>(text_[at]);
        if (first < 128) {
            end = at + 1;
            return static_cast<Kind>(ascii[first]);
        }
        const Decoded decoded = decode_valid(text_, at);
        end = at + decoded.length;
        if (table_.in(decoded.point, categories::letters)) return letter;
        if (table_.in(decoded.point, categories::numbers)) return number;
        return table_.white_space(decoded.point) ? space : other;
    }

    // End of the run of characters of this kind from `at`.
    [[nodiscard]] std::size_t run(Kind wanted, std::size_t at) const {
        std::size_t end = at;
        while (at < text_.size() && kind(at, end) == wanted) at = end;
        return at;
    }

    struct Space {
        std::size_t end;            // of the run of white space
        std::size_t last;           // where its last character begins
        std::size_t line_end_past;  // past its last line end; 0 without one
    };
    [[nodiscard]] Space space_run(std::size_t at) const {
        Space found{at, at, 0};
        while (found.end < text_.size()) {
            std::size_t next = 0;
            const Kind what = kind(found.end, next);
            if (what != space && what != line_end) break;
            if (what == line_end) found.line_end_past = next;
            found.last = found.end;
            found.end = next;
        }
        return found;
    }

  private:
    std::string_view text_;
    const CharacterTable& table_;
};

// 's 't 're 've 'm 'll 'd at `at`, where the apostrophe is; 0 when there is none. Without regard to case, the
// long s (U+017F) is an s.
template <bool any_case>
std::size_t contraction(std::string_view text, std::size_t at) {
    const auto lower = [&](std::size_t i) -> char {
        if (i >= text.size()) return '\0';
        const char c = text[i];
        return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 32) : c;
    };
    const char first = lower(at + 1);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
    const char second = lower(at + 2);
    if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
        return 3;
    if (any_case && text.substr(at + 1).starts_with("\xC5\xBF")) return 3;
    return 0;
}

// White space that no word takes: all but its last character, unless it ends the text or is a single one.
std::size_t lone_space_end(const Cursor& cursor, const Cursor::Space& run, std::size_t at) {
    return cursor.at_end(run.end) || run.last == at ? run.end : run.last;
}

std::size_t next_gpt2(const Cursor& cursor, std::string_view text, std::size_t at) {
    if (text[at] == '\'') {
        if (const std::size_t length = contraction<false>(text, at); length > 0) return at + length;
    }
    std::size_t end = 0;
    Kind what = cursor.kind(at, end);
    if (text[at] == ' ' && !cursor.at_end(end)) {
        std::size_t after = 0;
        const Kind follows = cursor.kind(end, after);
        if (follows != space && follows != line_end) {
            what = follows;
            end = after;
        }
    }
    if (what != space && what != line_end) return cursor.run(what, end);
    return lone_space_end(cursor, cursor.space_run(at), at);
}

template <int max_digits>
std::size_t next_llama3(const Cursor& cursor, std::string_view text, std::size_t at) {
    if (text[at] == '\'') {
        if (const std::size_t length = contraction<true>(text, at); length > 0) return at + length;
    }
    std::size_t end = 0;
    Kind what = cursor.kind(at, end);
    if (what == letter) return cursor.run(letter, end);
    if (what == number) {
        for (int i = 1; i < max_digits && !cursor.at_end(end); ++i) {
            std::size_t after = 0;
            if (cursor.kind(end, after) != number) break;
            end = after;
        }
        return end;
    }
    std::size_t after = 0;
    if (what != line_end && !cursor.at_end(end)) {
        const Kind follows = cursor.kind(end, after);
        if (follows == letter) return cursor.run(letter, after);
        if (text[at] == ' ' && follows == other) {
            what = other;
            end = after;
        }
    }
    if (what == other) return cursor.run(line_end, cursor.run(other, end));
    const Cursor::Space run = cursor.space_run(at);
    return run.line_end_past > 0 ? run.line_end_past : lone_space_end(cursor, run, at);
}

}  // namespace

std::string_view word_pattern_text(WordPattern pattern) {
    switch (pattern) {
        case WordPattern::gpt2:
            return gpt2_text;
        case WordPattern::llama3:
            return llama3_text;
        case WordPattern::qwen2:
            return qwen2_text;
    }
    return {};
}

std::optional<WordPattern> find_word_pattern(std::string_view regex) {
    if (regex == gpt2_text) return WordPattern::gpt2;
    if (regex == llama3_text) return WordPattern::llama3;
    if (regex == qwen2_text) return WordPattern::qwen2;
    return std::nullopt;
}

void scan_words(WordPattern pattern, std::string_view text, std::vector<std::string_view>& pieces) {
    const Cursor cursor(text);
    std::size_t at = 0;
    const auto scan = [&](const auto& next) {
        while (at < text.size()) {
            const std::size_t end = next(cursor, text, at);
            pieces.push_back(text.substr(at, end - at));
            at = end;
        }
    };
    switch (pattern) {
        case WordPattern::gpt2:
            return scan(next_gpt2);
        case WordPattern::llama3:
            return scan(next_llama3<3>);
        case WordPattern::qwen2:
            return scan(next_llama3<1>);
    }
}

}  // namespace retort::text
