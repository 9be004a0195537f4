#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cctype>
#include <optional>
#include <utility>
#include <vector>

#include "text/unicode.h"

namespace retort::text {
namespace {

constexpr std::size_t max_pattern = 16384;
constexpr std::uint32_t match_limit = 1U << 22U;

struct NamedSet {
    std::string_view name;
    CategorySet set;
};

constexpr NamedSet named_sets[] = {
    {"L", categories::letters},     {"M", categories::marks},   {"N", categories::numbers},
    {"P", categories::punctuation}, {"S", categories::symbols}, {"Z", categories::separators},
    {"Lu", bit(Category::lu)},      {"Ll", bit(Category::ll)},  {"Lt", bit(Category::lt)},
    {"Lm", bit(Category::lm)},      {"Lo", bit(Category::lo)},  {"Mn", bit(Category::mn)},
    {"Mc", bit(Category::mc)},      {"Me", bit(Category::me)},  {"Nd", bit(Category::nd)},
    {"Nl", bit(Category::nl)},      {"No", bit(Category::no)},  {"Pc", bit(Category::pc)},
    {"Pd", bit(Category::pd)},      {"Ps", bit(Category::ps)},  {"Pe", bit(Category::pe)},
    {"Pi", bit(Category::pi)},      {"Pf", bit(Category::pf)},  {"Po", bit(Category::po)},
    {"Sm", bit(Category::sm)},      {"Sc", bit(Category::sc)},  {"Sk", bit(Category::sk)},
    {"So", bit(Category::so)},      {"Zs", bit(Category::zs)},  {"Zl", bit(Category::zl)},
    {"Zp", bit(Category::zp)},      {"Cc", bit(Category::cc)},  {"Cf", bit(Category::cf)},
};

constexpr std::string_view white_space_ranges =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{"
    "3000}";
constexpr std::string_view not_white_space_ranges =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-"
    "\\x{2027}"
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";

// The members of a set as the inside of a bracketed class.
std::string class_members(CategorySet set, bool negated) {
    std::string out;
    const auto put = [&](char32_t first, char32_t last) {
        if (first > last) return;
        out += first == last ? fmt::format("\\x{{{:x}}}", static_cast<std::uint32_t>(first))
                             : fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", static_cast<std::uint32_t>(first),
                                           static_cast<std::uint32_t>(last));
    };
    // Surrogates are no characters: PCRE2 refuses them in a pattern.
    const auto put_without_surrogates = [&](char32_t first, char32_t last) {
        put(first, std::min<char32_t>(last, 0xD7FF));
        put(std::max<char32_t>(first, 0xE000), last);
    };
    char32_t next = 0;
    for (const auto& [first, last] : CharacterTable::ranges(set)) {
        if (negated) {
            if (first > next) put_without_surrogates(next, first - 1);
            next = last + 1;
        } else {
            put_without_surrogates(first, last);
        }
    }
    if (negated && next <= 0x10FFFF) put_without_surrogates(next, 0x10FFFF);
    return out;
}

class Translator {
  public:
    explicit Translator(std::string_view source) : source_(source) {}

    Result<std::string> run() {
        while (at_ < source_.size()) {
            const char c = source_[at_];
            if (c == '\\') {
                RETORT_TRY(const std::string members, escape(false));
                out_ += members;
            } else if (c == '[') {
                RETORT_CHECK(bracket());
            } else if (c == '(' && source_.substr(at_).starts_with("(?")) {
                RETORT_CHECK(group());
            } else {
                out_ += c;
                ++at_;
            }
        }
        return std::move(out_);
    }

  private:
    [[nodiscard]] tl::unexpected<base::Error> refuse(std::string_view what) const {
        return fail(ErrorCode::unsupported, "regular expression {:?}: {} at offset {} is not supported",
                    source_, what, at_);
    }

    // One backslash sequence; in a class only its members, outside a whole expression.
    Result<std::string> escape(bool in_class) {
        if (at_ + 1 >= source_.size()) return refuse("a backslash at the end");
        const char c = source_[at_ + 1];
        const auto wrap = [&](std::string members) { return in_class ? members : "[" + members + "]"; };
        switch (c) {
            case 's':
                at_ += 2;
                return wrap(std::string(white_space_ranges));
            case 'S':
                at_ += 2;
                return wrap(std::string(not_white_space_ranges));
            case 'd':
            case 'D':
                at_ += 2;
                return wrap(class_members(bit(Category::nd), c == 'D'));
            case 'w':
            case 'W':
                at_ += 2;
                return wrap(class_members(categories::letters | categories::marks | bit(Category::nd) |
                                              bit(Category::nl) | bit(Category::pc),
                                          c == 'W'));
            case 'p':
            case 'P':
                return property(in_class);
            case 'r':
            case 'n':
            case 't':
            case 'f':
                at_ += 2;
                return std::string{'\\', c};
            case 'v':
                at_ += 2;
                return std::string("\\x{b}");
            case 'x':
            case 'u':
                return code_point();
            default:
                break;
        }
        if (!in_class && (c == 'A' || c == 'z' || c == 'Z' || c == 'b' || c == 'B')) {
            at_ += 2;
            return std::string{'\\', c};
        }
        if (static_cast<unsigned char>(c) < 0x80 && std::ispunct(static_cast<unsigned char>(c)) != 0) {
            at_ += 2;
            return std::string{'\\', c};
        }
        return refuse(fmt::format("\\{}", c));
    }

    Result<std::string> property(bool in_class) {
        bool negated = source_[at_ + 1] == 'P';
        const std::size_t close = source_.find('}', at_);
        if (at_ + 2 >= source_.size() || source_[at_ + 2] != '{' || close == std::string_view::npos) {
            return refuse("a property without braces");
        }
        std::string_view name = source_.substr(at_ + 3, close - at_ - 3);
        if (name.starts_with('^')) {
            negated = !negated;
            name.remove_prefix(1);
        }
        for (const NamedSet& known : named_sets) {
            if (known.name != name) continue;
            at_ = close + 1;
            std::string members = class_members(known.set, negated);
            return in_class ? members : "[" + members + "]";
        }
        // Scripts: PCRE2's own tables.
        constexpr std::string_view scripts[] = {"Han",   "Hiragana", "Katakana", "Hangul",
                                                "Latin", "Greek",    "Cyrillic"};
        for (const std::string_view script : scripts) {
            if (script != name) continue;
            at_ = close + 1;
            return fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', name);
        }
        return refuse(fmt::format("the property {:?}", name));
    }

    Result<std::string> code_point() {
        std::size_t digits = at_ + 2;
        std::size_t end = digits;
        const bool braces = source_[at_ + 1] == 'x' && digits < source_.size() && source_[digits] == '{';
        if (braces) ++digits;
        end = digits;
        const std::size_t most = braces ? 8 : (source_[at_ + 1] == 'u' ? 4 : 2);
        std::uint32_t value = 0;
        while (end < source_.size() && end - digits < most &&
               std::isxdigit(static_cast<unsigned char>(source_[end])) != 0) {
            const char digit = source_[end++];
            value =
                value * 16 + static_cast<std::uint32_t>(digit <= '9' ? digit - '0' : (digit | 32) - 'a' + 10);
        }
        if (end == digits || value > 0x10FFFF) return refuse("a malformed code point");
        if (braces) {
            if (end >= source_.size() || source_[end] != '}') return refuse("a malformed code point");
            ++end;
        }
        at_ = end;
        return fmt::format("\\x{{{:x}}}", value);
    }

    Status bracket() {
        out_ += '[';
        ++at_;
        if (at_ < source_.size() && source_[at_] == '^') {
            out_ += '^';
            ++at_;
        }
        if (at_ < source_.size() && source_[at_] == ']') return refuse("an empty character class");
        while (at_ < source_.size() && source_[at_] != ']') {
            const char c = source_[at_];
            if (c == '[') return refuse("a class within a class");
            if (c == '&' && source_.substr(at_).starts_with("&&"))
                return refuse("an intersection of classes");
            if (c == '\\') {
                RETORT_TRY(const std::string members, escape(true));
                out_ += members;
            } else {
                out_ += c;
                ++at_;
            }
        }
        if (at_ >= source_.size()) return refuse("an unclosed character class");
        out_ += ']';
        ++at_;
        return {};
    }

    Status group() {
        constexpr std::string_view known[] = {
            "(?:", "(?!", "(?=", "(?<!", "(?<=", "(?>", "(?i:", "(?-i:", "(?i)"};
        for (const std::string_view opening : known) {
            if (!source_.substr(at_).starts_with(opening)) continue;
            out_ += opening;
            at_ += opening.size();
            return {};
        }
        return refuse("this kind of group");
    }

    std::string_view source_;
    std::size_t at_ = 0;
    std::string out_;
};

// Match data, limits and the JIT's stack belong to a thread.
struct MatchState {
    pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
    pcre2_match_context* context = pcre2_match_context_create(nullptr);
    pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, 1024 * 1024, nullptr);
    MatchState() {
        pcre2_set_match_limit(context, match_limit);
        pcre2_jit_stack_assign(context, nullptr, stack);
    }
    ~MatchState() {
        pcre2_match_data_free(data);
        pcre2_match_context_free(context);
        pcre2_jit_stack_free(stack);
    }
    MatchState(const MatchState&) = delete;
    MatchState& operator=(const MatchState&) = delete;
};

}  // namespace

Result<std::string> translate_regex(std::string_view oniguruma) {
    if (oniguruma.size() > max_pattern) {
        return fail(ErrorCode::unsupported, "a regular expression of {} bytes; at most {} are supported",
                    oniguruma.size(), max_pattern);
    }
    return Translator(oniguruma).run();
}

Result<Regex> Regex::compile(std::string_view oniguruma) {
    RETORT_TRY(const std::string pattern, translate_regex(oniguruma));
    int code = 0;
    PCRE2_SIZE offset = 0;
    // MULTILINE: ^ and $ are line ends in Oniguruma's Ruby syntax.
    pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                         PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                         &code, &offset, nullptr);
    if (compiled == nullptr) {
        PCRE2_UCHAR message[256] = {};
        pcre2_get_error_message(code, message, sizeof message);
        return fail(ErrorCode::format, "regular expression {:?}: {}", oniguruma,
                    reinterpret_cast<const char*>(message));
    }
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
    Regex regex;
    regex.code_ = std::shared_ptr<pcre2_real_code_8>(compiled, [](pcre2_code* p) { pcre2_code_free(p); });
    return regex;
}

bool Regex::find(std::string_view text, std::size_t from, std::size_t& begin, std::size_t& end) const {
    thread_local const MatchState state;
    const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                  PCRE2_NO_UTF_CHECK, state.data, state.context);
    if (found < 0) return false;
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(state.data);
    begin = span[0];
    end = span[1];
    return begin >= from && end >= begin;
}

std::size_t Regex::next_character(std::string_view text, std::size_t at) {
    return at < text.size() ? at + decode_valid(text, at).length : at + 1;
}

}  // namespace retort::text
