// Regular expressions (the regular part of ECMA-262) over the characters of a JSON string, as it is written:
// quotes, backslashes and control characters are escaped, all others stand for themselves.
#include <algorithm>
#include <utility>

#include "grammar/json_grammar.h"

namespace retort::grammar {

namespace {

struct Range {
    std::int32_t low;
    std::int32_t high;
};
using Characters = std::vector<Range>;  // sorted, apart

constexpr std::int32_t last_character = 0x10ffff;

Characters united(Characters ranges) {
    std::sort(ranges.begin(), ranges.end(), [](Range a, Range b) { return a.low < b.low; });
    Characters out;
    for (const Range& range : ranges) {
        if (!out.empty() && range.low <= out.back().high + 1) {
            out.back().high = std::max(out.back().high, range.high);
        } else {
            out.push_back(range);
        }
    }
    return out;
}

Characters complement(const Characters& ranges) {
    Characters out;
    std::int32_t next = 0;
    for (const Range& range : united(ranges)) {
        if (range.low > next) out.push_back({next, range.low - 1});
        next = range.high + 1;
    }
    if (next <= last_character) out.push_back({next, last_character});
    return out;
}

const Characters& class_characters(char name) {
    static const Characters digits{{'0', '9'}};
    static const Characters words = united({{'0', '9'}, {'A', 'Z'}, {'a', 'z'}, {'_', '_'}});
    static const Characters spaces = united({{'\t', '\r'},
                                             {' ', ' '},
                                             {0xa0, 0xa0},
                                             {0x1680, 0x1680},
                                             {0x2000, 0x200a},
                                             {0x2028, 0x2029},
                                             {0x202f, 0x202f},
                                             {0x205f, 0x205f},
                                             {0x3000, 0x3000},
                                             {0xfeff, 0xfeff}});
    static const Characters line_ends = united({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}});
    switch (name) {
        case 'd':
            return digits;
        case 'w':
            return words;
        case 's':
            return spaces;
        default:
            return line_ends;
    }
}

// Bytes of UTF-8 from `low` to `high`, which have the same number of bytes.
void add_utf8(GrammarBuilder& b, std::vector<Fragment>& ways, const std::string& low,
              const std::string& high) {
    const auto byte = [](char c) { return static_cast<unsigned char>(c); };
    if (low.size() == 1) return ways.push_back(b.bytes(byte_range(byte(low[0]), byte(high[0]))));
    const std::string least(low.size() - 1, '\x80');
    const std::string most(low.size() - 1, '\xbf');
    const auto with = [&](unsigned char from, unsigned char to, const std::string& rest_low,
                          const std::string& rest_high) {
        if (from > to) return;
        std::vector<Fragment> rest;
        add_utf8(b, rest, rest_low, rest_high);
        ways.push_back(b.sequence({b.bytes(byte_range(from, to)), b.choice(rest)}));
    };
    const std::string low_rest = low.substr(1);
    const std::string high_rest = high.substr(1);
    if (low[0] == high[0]) return with(byte(low[0]), byte(low[0]), low_rest, high_rest);
    unsigned char from = byte(low[0]);
    unsigned char to = byte(high[0]);
    if (low_rest != least) with(from++, byte(low[0]), low_rest, most);
    if (high_rest != most) with(to--, byte(high[0]), least, high_rest);
    with(from, to, least, most);
}

std::string utf8(std::int32_t c) {
    const auto byte = [](std::int32_t value) { return static_cast<char>(value); };
    if (c < 0x80) return {byte(c)};
    if (c < 0x800) return {byte(0xc0 | c >> 6), byte(0x80 | (c & 0x3f))};
    if (c < 0x10000) return {byte(0xe0 | c >> 12), byte(0x80 | (c >> 6 & 0x3f)), byte(0x80 | (c & 0x3f))};
    return {byte(0xf0 | c >> 18), byte(0x80 | (c >> 12 & 0x3f)), byte(0x80 | (c >> 6 & 0x3f)),
            byte(0x80 | (c & 0x3f))};
}

// One character of the set, as it stands in a JSON string.
Fragment written(GrammarBuilder& b, const Characters& set) {
    std::vector<Fragment> ways;
    constexpr std::int32_t steps[] = {0x20, 0x80, 0x800, 0xd800, 0xe000, 0x10000, last_character + 1};
    ByteSet ascii;
    for (const Range& range : set) {
        for (std::int32_t c = range.low; c <= std::min(range.high, 0x7f); ++c) {
            if (c == '"' || c == '\\') {
                const char text[] = {'\\', static_cast<char>(c)};
                ways.push_back(b.literal({text, 2}));
            } else if (c >= 0x20) {
                ascii.set(static_cast<std::size_t>(c));
            } else {
                const std::size_t short_form = std::string_view("\b\f\n\r\t").find(static_cast<char>(c));
                ways.push_back(b.literal(short_form == std::string_view::npos
                                             ? fmt::format("\\u{:04x}", c)
                                             : std::string("\\") + "bfnrt"[short_form]));
            }
        }
        for (std::size_t i = 1; i + 1 < std::size(steps); ++i) {
            if (steps[i] == 0xd800) continue;  // surrogates are no characters
            const std::int32_t low = std::max(range.low, steps[i]);
            const std::int32_t high = std::min(range.high, steps[i + 1] - 1);
            if (low <= high) add_utf8(b, ways, utf8(low), utf8(high));
        }
    }
    if (ascii.any()) ways.push_back(b.bytes(ascii));
    return b.choice(ways);
}

class PatternParser {
  public:
    PatternParser(GrammarBuilder& builder, std::string_view pattern) : b_(builder), text_(pattern) {}

    Result<Fragment> parse() {
        RETORT_TRY(const Fragment body, alternatives(true));
        if (at_ < text_.size()) return error("an unmatched ')'");
        return body;
    }

  private:
    tl::unexpected<base::Error> error(std::string_view what) const {
        return fail(ErrorCode::unsupported, "the pattern '{}' has {} at {}, which is not supported", text_,
                    what, at_);
    }
    [[nodiscard]] bool sees(std::string_view what) const { return text_.substr(at_).starts_with(what); }
    bool take(std::string_view what) {
        if (!sees(what)) return false;
        at_ += what.size();
        return true;
    }
    Fragment anything() { return b_.star(written(b_, {{0, last_character}})); }

    // outer: of the whole pattern, where ^ and $ may stand at the ends of each.
    Result<Fragment> alternatives(bool outer) {
        if (++depth_ > 50) return error("groups nested deeper than 50");
        std::vector<Fragment> ways;
        do {
            std::vector<Fragment> parts;
            if (outer && !take("^")) parts.push_back(anything());
            while (at_ < text_.size() && !sees("|") && !sees(")") && !(outer && sees("$"))) {
                RETORT_TRY(const Fragment next, term());
                parts.push_back(next);
            }
            if (outer && !take("$")) parts.push_back(anything());
            if (at_ < text_.size() && !sees("|") && !sees(")")) return error("'$' in the middle");
            ways.push_back(b_.sequence(parts));
        } while (take("|"));
        --depth_;
        return b_.choice(ways);
    }

    Result<Fragment> term() {
        const std::size_t begin = at_;
        RETORT_TRY(const Fragment first, atom());
        std::int64_t min = 1;
        std::int64_t max = 1;
        if (take("*")) {
            min = 0, max = -1;
        } else if (take("+")) {
            max = -1;
        } else if (take("?")) {
            min = 0;
        } else if (sees("{")) {
            RETORT_CHECK(bounds(min, max));
        } else {
            return first;
        }
        take("?");  // lazy: the same texts
        if (sees("*") || sees("+") || sees("{")) return error("two quantifiers in a row");
        const std::size_t after = at_;
        // The atom is read again for each further time that it stands there: a fragment is used once.
        Status problem;
        bool is_first = true;
        const Fragment out = b_.repeat(
            [&] {
                if (std::exchange(is_first, false)) return first;
                at_ = begin;
                auto again = atom();
                if (again) return *again;
                problem = tl::make_unexpected(again.error());
                return b_.nothing();
            },
            min, max);
        at_ = after;
        RETORT_CHECK(std::move(problem));
        return out;
    }

    Status bounds(std::int64_t& min, std::int64_t& max) {
        constexpr std::int64_t largest = 1000;
        take("{");
        const auto number = [&](std::int64_t& out) {
            const std::size_t from = at_;
            out = 0;
            while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9' && out <= largest) {
                out = out * 10 + (text_[at_++] - '0');
            }
            return at_ > from;
        };
        if (!number(min)) return error("'{' without a number");
        max = min;
        if (take(",") && !number(max)) max = -1;
        if (!take("}")) return error("a '{' that does not end");
        if (min > largest || max > largest || (max >= 0 && max < min)) return error("such a repetition");
        return {};
    }

    Result<Fragment> atom() {
        if (take("(?:") || (!sees("(?") && take("("))) {
            RETORT_TRY(const Fragment inner, alternatives(false));
            if (!take(")")) return error("a '(' that does not end");
            return inner;
        }
        if (sees("(?")) return error("a group of this kind");
        if (sees("^") || sees("$")) return error("an anchor in the middle");
        if (sees("*") || sees("+") || sees("?") || sees("{")) return error("a quantifier of nothing");
        if (take(".")) return written(b_, complement(class_characters('.')));
        if (take("[")) {
            RETORT_TRY(const Characters set, bracket());
            return written(b_, set);
        }
        RETORT_TRY(const Characters set, one());
        return written(b_, set);
    }

    // A character, or a class such as \d.
    Result<Characters> one() {
        if (take("\\")) return escape();
        const auto lead = static_cast<unsigned char>(text_[at_]);
        const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        std::int32_t c = length == 1 ? lead : lead & (0xff >> (length + 1));
        if (at_ + length > text_.size()) return error("broken UTF-8");
        for (std::size_t i = 1; i < length; ++i)
            c = c << 6 | (static_cast<unsigned char>(text_[at_ + i]) & 0x3f);
        at_ += length;
        return Characters{{c, c}};
    }

    Result<Characters> escape() {
        if (at_ >= text_.size()) return error("a '\\' at the end");
        const char c = text_[at_++];
        switch (c) {
            case 'd':
            case 'w':
            case 's':
                return class_characters(c);
            case 'D':
            case 'W':
            case 'S':
                return complement(class_characters(static_cast<char>(c - 'A' + 'a')));
            case 'n':
                return Characters{{'\n', '\n'}};
            case 'r':
                return Characters{{'\r', '\r'}};
            case 't':
                return Characters{{'\t', '\t'}};
            case 'f':
                return Characters{{'\f', '\f'}};
            case 'v':
                return Characters{{'\v', '\v'}};
            case 'u':
                return hexadecimal(4);
            case 'x':
                return hexadecimal(2);
            default:
                break;
        }
        const bool is_word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (is_word) return error(fmt::format("'\\{}'", c));
        if (static_cast<unsigned char>(c) >= 0x80) return error("a '\\' before a character beyond ASCII");
        return Characters{{c, c}};
    }

    Result<Characters> hexadecimal(std::size_t digits) {
        const std::string hex(text_.substr(at_, digits));
        if (hex.size() < digits || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
            return error("an escape without its digits");
        }
        at_ += digits;
        const std::int32_t c = std::stoi(hex, nullptr, 16);
        return Characters{{c, c}};
    }

    Result<Characters> bracket() {
        const bool negated = take("^");
        Characters set;
        while (!sees("]")) {
            if (at_ >= text_.size()) return error("a '[' that does not end");
            RETORT_TRY(const Characters first, one());
            const bool single = first.size() == 1 && first[0].low == first[0].high;
            if (single && sees("-") && !sees("-]")) {
                take("-");
                if (at_ >= text_.size()) return error("a '[' that does not end");
                RETORT_TRY(const Characters last, one());
                if (last.size() != 1 || last[0].low != last[0].high || last[0].low < first[0].low) {
                    return error("a range without order");
                }
                set.push_back({first[0].low, last[0].low});
                continue;
            }
            set.insert(set.end(), first.begin(), first.end());
        }
        take("]");
        return negated ? complement(set) : united(set);
    }

    GrammarBuilder& b_;
    std::string_view text_;
    std::size_t at_ = 0;
    int depth_ = 0;
};

}  // namespace

Result<Fragment> string_matching(GrammarBuilder& builder, std::string_view pattern) {
    constexpr std::size_t max_pattern = 4096;
    if (pattern.size() > max_pattern) {
        return fail(ErrorCode::unsupported, "a pattern of {} bytes is longer than {}", pattern.size(),
                    max_pattern);
    }
    return PatternParser(builder, pattern).parse();
}

}  // namespace retort::grammar
