// Decimal numbers of a range, digit by digit.
#include <algorithm>
#include <string>

#include "grammar/json_grammar.h"

namespace retort::grammar {

namespace {

constexpr std::int64_t largest = 1'000'000'000'000'000;  // bounds beyond it count as open
constexpr std::size_t open_digits = 16;
constexpr std::int64_t max_fraction = 15;

Fragment digit(GrammarBuilder& b, char low, char high) {
    return b.bytes(byte_range(static_cast<unsigned char>(low), static_cast<unsigned char>(high)));
}

// Digits from position `at` on, of two numbers of the same length; tight: equal to the bound so far.
Fragment between(GrammarBuilder& b, const std::string& low, const std::string& high, std::size_t at,
                 bool low_tight, bool high_tight) {
    if (at == low.size()) return b.nothing();
    const char from = low_tight ? low[at] : '0';
    const char to = high_tight ? high[at] : '9';
    const auto rest = [&](bool still_low, bool still_high) {
        return between(b, low, high, at + 1, still_low, still_high);
    };
    if (!low_tight && !high_tight) return b.sequence({digit(b, '0', '9'), rest(false, false)});
    if (from == to) return b.sequence({digit(b, from, to), rest(low_tight, high_tight)});
    std::vector<Fragment> ways;
    char middle_from = from;
    char middle_to = to;
    if (low_tight) {
        ways.push_back(b.sequence({digit(b, from, from), rest(true, false)}));
        ++middle_from;
    }
    if (high_tight) {
        ways.push_back(b.sequence({digit(b, to, to), rest(false, true)}));
        --middle_to;
    }
    if (middle_from <= middle_to) {
        ways.push_back(b.sequence({digit(b, middle_from, middle_to), rest(false, false)}));
    }
    return b.choice(ways);
}

// Whole numbers ≥ 0 without leading zeros; no high: up to 16 digits.
Fragment natural(GrammarBuilder& b, std::int64_t low, std::optional<std::int64_t> high) {
    std::vector<Fragment> ways;
    const std::string first = std::to_string(low);
    const std::string last = high ? std::to_string(*high) : std::string(open_digits, '9');
    for (std::size_t length = first.size(); length <= last.size(); ++length) {
        const std::string least = length == first.size() ? first : "1" + std::string(length - 1, '0');
        const std::string most = length == last.size() ? last : std::string(length, '9');
        if (least <= most) ways.push_back(between(b, least, most, 0, true, true));
    }
    return b.choice(ways);
}

Fragment fraction(GrammarBuilder& b, bool of_zeros, bool not_zero) {
    const auto any = [&] { return digit(b, '0', of_zeros ? '0' : '9'); };
    if (!not_zero) return b.sequence({b.literal("."), b.repeat(any, 1, max_fraction)});
    const auto zero = [&] { return digit(b, '0', '0'); };
    return b.sequence({b.literal("."), b.repeat(zero, 0, max_fraction), digit(b, '1', '9'),
                       b.repeat(any, 0, max_fraction)});
}

// Decimal numbers ≥ 0 from low to high.
Fragment positive_decimal(GrammarBuilder& b, std::int64_t low, bool low_excluded,
                          std::optional<std::int64_t> high, bool high_excluded) {
    std::vector<Fragment> ways;
    const bool point = high && *high == low;
    if (point) {
        if (!low_excluded && !high_excluded) {
            ways.push_back(b.sequence({natural(b, low, low), b.optional(fraction(b, true, false))}));
        }
        return b.choice(ways);
    }
    if (high && *high < low) return b.choice(ways);
    // low itself and what lies up to the next whole number; all between; high itself.
    ways.push_back(b.sequence({natural(b, low, low), low_excluded ? fraction(b, false, true)
                                                                  : b.optional(fraction(b, false, false))}));
    if (!high || low + 1 < *high) {
        ways.push_back(b.sequence({natural(b, low + 1, high ? std::optional(*high - 1) : std::nullopt),
                                   b.optional(fraction(b, false, false))}));
    }
    if (high && !high_excluded) {
        ways.push_back(b.sequence({natural(b, *high, *high), b.optional(fraction(b, true, false))}));
    }
    return b.choice(ways);
}

NumberRange clipped(NumberRange range) {
    if (range.low && *range.low < -largest) range.low.reset();
    if (range.high && *range.high > largest) range.high.reset();
    if (range.low) range.low = std::min(*range.low, largest);
    if (range.high) range.high = std::max(*range.high, -largest);
    return range;
}

}  // namespace

Fragment integer_in(GrammarBuilder& builder, NumberRange range) {
    range = clipped(range);
    if (range.low && range.low_excluded) ++*range.low;
    if (range.high && range.high_excluded) --*range.high;
    std::vector<Fragment> ways;
    const auto ordered = [](std::int64_t low, std::optional<std::int64_t> high) {
        return !high || low <= *high;
    };
    if (const std::int64_t low = std::max<std::int64_t>(range.low.value_or(0), 0); ordered(low, range.high)) {
        ways.push_back(natural(builder, low, range.high));
    }
    // Below zero: the sign, and the range mirrored.
    const std::int64_t least = range.high ? std::max<std::int64_t>(-*range.high, 1) : 1;
    const std::optional<std::int64_t> most = range.low ? std::optional(-*range.low) : std::nullopt;
    if (ordered(least, most))
        ways.push_back(builder.sequence({builder.literal("-"), natural(builder, least, most)}));
    return builder.choice(ways);
}

Fragment decimal_in(GrammarBuilder& builder, NumberRange range) {
    range = clipped(range);
    std::vector<Fragment> ways;
    if (!range.high || *range.high >= 0) {
        const bool from_low = range.low && *range.low >= 0;
        ways.push_back(positive_decimal(builder, from_low ? *range.low : 0, from_low && range.low_excluded,
                                        range.high, range.high_excluded));
    }
    if (!range.low || *range.low < 0) {
        const bool from_high = range.high && *range.high <= 0;
        ways.push_back(builder.sequence(
            {builder.literal("-"),
             positive_decimal(builder, from_high ? -*range.high : 0, from_high && range.high_excluded,
                              range.low ? std::optional(-*range.low) : std::nullopt, range.low_excluded)}));
    }
    return builder.choice(ways);
}

}  // namespace retort::grammar
