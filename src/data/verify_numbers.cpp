#include <cctype>
#include <charconv>
#include <cmath>
#include <numeric>
#include <string>

#include "base/strings.h"
#include "data/verify.h"

namespace retort::data {

namespace {

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// "1,234,567" → "1234567"; a comma that does not part groups of three makes it no number.
bool without_group_commas(std::string_view text, std::string& out) {
    out.clear();
    const std::size_t point = std::min(text.find('.'), text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != ',') {
            out.push_back(text[i]);
            continue;
        }
        if (i >= point || i == 0 || (point - i) % 4 != 0) return false;
    }
    return true;
}

Number from_fraction(std::int64_t numerator, std::int64_t denominator) {
    Number number;
    if (denominator == 0) return number;
    const std::int64_t divisor = std::gcd(numerator, denominator);
    const std::int64_t sign = denominator < 0 ? -1 : 1;
    number.valid = true;
    number.exact = true;
    number.numerator = sign * numerator / divisor;
    number.denominator = sign * denominator / divisor;
    number.value = static_cast<double>(number.numerator) / static_cast<double>(number.denominator);
    return number;
}

Number parse_decimal(std::string_view text) {
    Number number;
    std::string digits;
    if (text.starts_with('+')) text.remove_prefix(1);
    if (!without_group_commas(text, digits)) return number;
    const char* end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, number.value);
    if (digits.empty() || parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(number.value))
        return {};
    number.valid = true;
    // Exact when all its digits fit 18 places: they are an integer over a power of ten.
    const std::size_t point = digits.find('.');
    std::string joined = digits;
    std::int64_t denominator = 1;
    if (point != std::string::npos) {
        joined.erase(point, 1);
        if (digits.size() - point - 1 > 17) return number;
        for (std::size_t i = point + 1; i < digits.size(); ++i) denominator *= 10;
    }
    std::int64_t numerator = 0;
    const char* joined_end = joined.data() + joined.size();
    const auto whole = std::from_chars(joined.data(), joined_end, numerator);
    constexpr std::int64_t bound = 1'000'000'000'000'000'000;
    if (whole.ec == std::errc() && whole.ptr == joined_end && numerator < bound && numerator > -bound) {
        return from_fraction(numerator, denominator);
    }
    return number;
}

Number divide(const Number& above, const Number& below) {
    constexpr std::int64_t bound = 1'000'000'000;
    Number number;
    if (!above.valid || !below.valid || below.value == 0) return number;
    const auto small = [](std::int64_t v) { return v < bound && v > -bound; };
    if (above.exact && below.exact && small(above.numerator) && small(above.denominator) &&
        small(below.numerator) && small(below.denominator)) {
        return from_fraction(above.numerator * below.denominator, above.denominator * below.numerator);
    }
    number.valid = true;
    number.value = above.value / below.value;
    return number;
}

}  // namespace

Number parse_number(std::string_view text) {
    text = base::trimmed(text);
    while (text.starts_with('$') || text.starts_with('(')) text.remove_prefix(1);
    while (text.ends_with('$') || text.ends_with(')')) text.remove_suffix(1);
    text = base::trimmed(text);
    if (text.ends_with("\\%")) {
        return divide(parse_decimal(base::trimmed(text.substr(0, text.size() - 2))), parse_decimal("100"));
    }
    if (text.ends_with('%')) {
        return divide(parse_decimal(base::trimmed(text.substr(0, text.size() - 1))), parse_decimal("100"));
    }
    bool negative = false;
    std::string_view body = text;
    if (body.starts_with('-')) {
        negative = true;
        body = base::trimmed(body.substr(1));
    }
    for (const std::string_view command : {"\\frac{", "\\dfrac{", "\\tfrac{"}) {
        if (!body.starts_with(command) || !body.ends_with('}')) continue;
        const std::string_view inside = body.substr(command.size(), body.size() - command.size() - 1);
        const std::size_t middle = inside.find("}{");
        if (middle == std::string_view::npos) return {};
        Number number =
            divide(parse_decimal(inside.substr(0, middle)), parse_decimal(inside.substr(middle + 2)));
        if (negative) {
            number.numerator = -number.numerator;
            number.value = -number.value;
        }
        return number;
    }
    if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
        return divide(parse_decimal(base::trimmed(text.substr(0, slash))),
                      parse_decimal(base::trimmed(text.substr(slash + 1))));
    }
    return parse_decimal(text);
}

std::string_view final_number_text(std::string_view answer) {
    if (const std::size_t at = answer.rfind("\\boxed{"); at != std::string_view::npos) {
        const std::size_t begin = at + 7;
        int depth = 1;
        for (std::size_t i = begin; i < answer.size(); ++i) {
            if (answer[i] == '{') ++depth;
            if (answer[i] == '}' && --depth == 0) return answer.substr(begin, i - begin);
        }
        return {};
    }
    if (const std::size_t at = answer.rfind("####"); at != std::string_view::npos) {
        const std::string_view rest = answer.substr(at + 4);
        return base::trimmed(rest.substr(0, rest.find('\n')));
    }
    std::size_t end = answer.size();
    while (end > 0 && !is_digit(answer[end - 1])) --end;
    if (end == 0) return {};
    std::size_t begin = end;
    while (begin > 0) {
        const char c = answer[begin - 1];
        const bool inner = c == '.' || c == ',' || c == '/';
        if (!is_digit(c) && !(inner && begin >= 2 && is_digit(answer[begin - 2]))) break;
        --begin;
    }
    // ".5", and a sign that is not the hyphen of a word or a range.
    if (begin > 0 && answer[begin - 1] == '.' && (begin < 2 || answer[begin - 2] == ' ')) --begin;
    if (begin > 0 && answer[begin - 1] == '-' &&
        (begin < 2 || std::isspace(static_cast<unsigned char>(answer[begin - 2])) != 0)) {
        --begin;
    }
    if (end < answer.size() && answer[end] == '%') ++end;
    return answer.substr(begin, end - begin);
}

}  // namespace retort::data
