#include "text/jinja_lexer.h"

#include <algorithm>
#include <charconv>

#include "text/jinja_strings.h"
#include "text/unicode.h"

namespace retort::text::jinja {
namespace {

// \r\n and \r become \n, and the last of them goes.
std::string normal_newlines(std::string_view source) {
    std::string out;
    out.reserve(source.size());
    for (std::size_t i = 0; i < source.size(); ++i) {
        if (source[i] == '\r') {
            out += '\n';
            if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
        } else {
            out += source[i];
        }
    }
    if (out.ends_with('\n')) out.pop_back();
    return out;
}

bool is_name_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool is_ascii_space(char c) {
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F);
}

int digit_value(char c) {
    if (is_digit(c)) return c - '0';
    const char lower = static_cast<char>(c | 32);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
}

class Lexer {
  public:
    explicit Lexer(std::string source) : source_(std::move(source)) {}

    Result<std::vector<Token>> run() {
        while (at_ < source_.size()) RETORT_CHECK(text_and_tag());
        push(TokenKind::end);
        return std::move(tokens_);
    }

  private:
    [[nodiscard]] std::string_view rest() const { return std::string_view(source_).substr(at_); }
    [[nodiscard]] char byte(std::size_t i) const { return i < source_.size() ? source_[i] : '\0'; }

    template <typename... Args>
    [[nodiscard]] tl::unexpected<base::Error> error(ErrorCode code, fmt::format_string<Args...> text,
                                                    Args&&... args) const {
        return fail(code, "line {}: {}", line_, fmt::format(text, std::forward<Args>(args)...));
    }

    void push(TokenKind kind, std::string text = {}) { tokens_.push_back({kind, line_, std::move(text)}); }

    void advance(std::size_t to) {
        line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                             source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
        at_ = to;
        line_starting_ = to > 0 && source_[to - 1] == '\n';
    }

    void skip_space() {
        std::size_t end = at_;
        while (end < source_.size()) {
            const Decoded c = decode_valid(source_, end);
            if (!is_python_space(c.point)) break;
            end += c.length;
        }
        if (end > at_) advance(end);
    }

    // Text up to the next tag, and the tag.
    Status text_and_tag() {
        std::size_t tag = at_;
        while (true) {
            tag = source_.find('{', tag);
            if (tag == std::string::npos || byte(tag + 1) == '%' || byte(tag + 1) == '{' ||
                byte(tag + 1) == '#')
                break;
            ++tag;
        }
        if (tag == std::string::npos) {
            data(rest());
            advance(source_.size());
            return {};
        }
        std::string_view text = std::string_view(source_).substr(at_, tag - at_);
        const char kind = byte(tag + 1);
        const char sign = byte(tag + 2);
        if (sign == '-') {
            text = strip(text, std::nullopt, false, true);
        } else if (sign != '+' && kind != '{') {
            const std::size_t line_begin = text.rfind('\n') + 1;  // npos + 1 is 0
            if ((line_begin > 0 || line_starting_) &&
                strip(text.substr(line_begin), std::nullopt, true, false).empty()) {
                text = text.substr(0, line_begin);
            }
        }
        data(text);
        advance(tag);
        const std::size_t inside = tag + 2 + (sign == '-' || sign == '+' ? 1 : 0);
        if (kind == '#') return comment(inside);
        if (kind == '%') {
            std::size_t end = 0;
            if (raw_tag(inside, "raw", false, end)) return raw(end);
        }
        push(kind == '%' ? TokenKind::block_begin : TokenKind::print_begin);
        advance(inside);
        return expression_tokens(kind == '%');
    }

    void data(std::string_view text) {
        if (!text.empty()) push(TokenKind::data, std::string(text));
    }

    // What ends a tag: "-" strips the white space behind, else a block or a comment takes one newline along
    // unless "+" says not to. True and past it when `closing` stands at `at`.
    bool closing(std::string_view mark, bool trims, std::size_t at, std::size_t& end, bool& strips) const {
        const std::string_view here = std::string_view(source_).substr(at);
        strips = here.starts_with('-') && here.substr(1).starts_with(mark);
        if (strips) {
            end = at + 1 + mark.size();
            return true;
        }
        if (trims && here.starts_with('+') && here.substr(1).starts_with(mark)) {
            end = at + 1 + mark.size();
            return true;
        }
        if (!here.starts_with(mark)) return false;
        end = at + mark.size();
        if (trims && byte(end) == '\n') ++end;
        return true;
    }

    Status comment(std::size_t inside) {
        for (std::size_t at = inside; at < source_.size(); ++at) {
            std::size_t end = 0;
            bool strips = false;
            if (!closing("#}", true, at, end, strips)) continue;
            advance(end);
            if (strips) skip_space();
            return {};
        }
        return error(ErrorCode::format, "a comment that does not end");
    }

    // "raw" or "endraw" with the end of its tag, after "{%" and its sign.
    bool raw_tag(std::size_t at, std::string_view word, bool trims, std::size_t& end) {
        while (at < source_.size() && is_ascii_space(source_[at])) ++at;
        if (!std::string_view(source_).substr(at).starts_with(word)) return false;
        at += word.size();
        while (at < source_.size() && is_ascii_space(source_[at])) ++at;
        bool strips = false;
        if (!closing("%}", trims, at, end, strips)) return false;
        while (strips && end < source_.size() && is_ascii_space(source_[end])) ++end;
        return true;
    }

    Status raw(std::size_t begin) {
        advance(begin);
        for (std::size_t at = source_.find("{%", begin); at != std::string::npos;
             at = source_.find("{%", at + 2)) {
            const char sign = byte(at + 2);
            std::size_t end = 0;
            if (!raw_tag(at + 2 + (sign == '-' || sign == '+' ? 1 : 0), "endraw", true, end)) continue;
            std::string_view text = std::string_view(source_).substr(begin, at - begin);
            if (sign == '-') text = strip(text, std::nullopt, false, true);
            if (sign != '-' && sign != '+') {
                const std::size_t line_begin = text.rfind('\n') + 1;
                if ((line_begin > 0 || line_starting_) &&
                    strip(text.substr(line_begin), std::nullopt, true, false).empty()) {
                    text = text.substr(0, line_begin);
                }
            }
            data(text);
            advance(end);
            return {};
        }
        return error(ErrorCode::format, "a raw block that does not end");
    }

    Status expression_tokens(bool block) {
        std::string open;  // brackets that are open
        while (true) {
            std::size_t end = 0;
            bool strips = false;
            if (open.empty() && closing(block ? "%}" : "}}", block, at_, end, strips)) {
                push(block ? TokenKind::block_end : TokenKind::print_end);
                advance(end);
                if (strips) skip_space();
                return {};
            }
            if (at_ >= source_.size()) return error(ErrorCode::format, "a tag that does not end");
            const std::size_t before = at_;
            skip_space();
            if (at_ > before) continue;
            RETORT_CHECK(expression_token(open));
        }
    }

    Status expression_token(std::string& open) {
        const char c = byte(at_);
        if (is_name_start(c)) {
            std::size_t end = at_;
            while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
            push(TokenKind::name, source_.substr(at_, end - at_));
            advance(end);
            return {};
        }
        if (is_digit(c)) return number();
        if (c == '"' || c == '\'') return string(c);
        constexpr std::string_view operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                  "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                  ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
        for (const std::string_view text : operators) {
            if (!rest().starts_with(text)) continue;
            if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : (c == '[' ? ']' : '}');
            if (c == ')' || c == ']' || c == '}') {
                if (open.empty() || open.back() != c) return error(ErrorCode::format, "unexpected '{}'", c);
                open.pop_back();
            }
            if (open.size() > 200) return error(ErrorCode::refused, "brackets nested too deeply");
            push(TokenKind::op, std::string(text));
            advance(at_ + text.size());
            return {};
        }
        const std::string_view character = rest().substr(0, decode_valid(source_, at_).length);
        return error(ErrorCode::format, "unexpected character {:?}", character);
    }

    Status number() {
        std::size_t end = at_;
        std::string digits;
        int base = 10;
        const char second = static_cast<char>(byte(at_ + 1) | 32);
        if (byte(at_) == '0' && (second == 'x' || second == 'o' || second == 'b')) {
            base = second == 'x' ? 16 : (second == 'o' ? 8 : 2);
            end += 2;
        }
        const auto take = [&] {
            while (digit_value(byte(end)) < base || (byte(end) == '_' && digit_value(byte(end + 1)) < base)) {
                if (byte(end) != '_') digits += byte(end);
                ++end;
            }
        };
        take();
        bool is_float = false;
        if (base == 10) {
            if (byte(end) == '.' && is_digit(byte(end + 1))) {
                is_float = true;
                digits += '.';
                ++end;
                take();
            }
            const std::size_t sign =
                (byte(end) | 32) == 'e' && (byte(end + 1) == '+' || byte(end + 1) == '-') ? 1 : 0;
            if ((byte(end) | 32) == 'e' && is_digit(byte(end + 1 + sign))) {
                is_float = true;
                digits += 'e';
                if (sign == 1 && byte(end + 1) == '-') digits += '-';
                end += 1 + sign;
                take();
            }
        }
        const char* const last = digits.data() + digits.size();
        push(is_float ? TokenKind::number : TokenKind::integer);
        const auto [stop, code] = is_float
                                      ? std::from_chars(digits.data(), last, tokens_.back().number)
                                      : std::from_chars(digits.data(), last, tokens_.back().integer, base);
        if (code != std::errc() || stop != last) {
            return error(ErrorCode::unsupported, "the number {} is not supported",
                         source_.substr(at_, end - at_));
        }
        advance(end);
        return {};
    }

    Status string(char quote) {
        std::string text;
        const int first_line = line_;
        std::size_t end = at_ + 1;
        while (true) {
            const char c = byte(end);
            if (end >= source_.size()) return error(ErrorCode::format, "a string that does not end");
            if (c == quote) break;
            if (c != '\\') {
                text += c;
                ++end;
                continue;
            }
            RETORT_CHECK(escape(end, text));
        }
        push(TokenKind::string, std::move(text));
        tokens_.back().line = first_line;
        advance(end + 1);
        return {};
    }

    // A backslash sequence of Python's at `at`.
    Status escape(std::size_t& at, std::string& text) const {
        const char c = byte(at + 1);
        at += 2;
        constexpr std::string_view names = "\n\\'\"abfnrtv";
        constexpr std::string_view values = "?\\'\"\a\b\f\n\r\t\v";
        if (const std::size_t known = names.find(c);
            known != std::string_view::npos && at <= source_.size()) {
            if (c != '\n') text += values[known];
            return {};
        }
        std::size_t digits = 0;
        if (c == 'x') digits = 2;
        if (c == 'u') digits = 4;
        if (c == 'U') digits = 8;
        if (digits > 0) {
            std::uint32_t point = 0;
            for (std::size_t i = 0; i < digits; ++i, ++at) {
                if (digit_value(byte(at)) > 15) return error(ErrorCode::format, "a malformed \\{} escape", c);
                point = point * 16 + static_cast<std::uint32_t>(digit_value(byte(at)));
            }
            if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) {
                return error(ErrorCode::unsupported, "the escape of U+{:04X} is not supported", point);
            }
            append_utf8(text, point);
            return {};
        }
        if (c >= '0' && c <= '7') {
            std::uint32_t point = static_cast<std::uint32_t>(c - '0');
            for (int i = 0; i < 2 && byte(at) >= '0' && byte(at) <= '7'; ++i, ++at) {
                point = point * 8 + static_cast<std::uint32_t>(byte(at) - '0');
            }
            append_utf8(text, point);
            return {};
        }
        if (c == 'N') return error(ErrorCode::unsupported, "the escape \\N is not supported");
        text += '\\';  // unknown to Python: it stays as it is
        --at;
        return {};
    }

    std::string source_;
    std::size_t at_ = 0;
    int line_ = 1;
    bool line_starting_ = true;
    std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize(std::string_view source) {
    if (source.size() > (std::size_t{1} << 24U))
        return fail(ErrorCode::refused, "a template of {} bytes", source.size());
    return Lexer(normal_newlines(is_valid_utf8(source) ? std::string(source) : lossy_utf8(source))).run();
}

}  // namespace retort::text::jinja
