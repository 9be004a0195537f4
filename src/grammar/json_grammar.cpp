#include "grammar/json_grammar.h"

#include <algorithm>

namespace retort::grammar {

namespace {

constexpr std::int64_t max_indent = 20;
constexpr std::int64_t max_digits = 16;

ByteSet digit_set() {
    return byte_range('0', '9');
}

ByteSet hex_set() {
    return digit_set() | byte_range('a', 'f') | byte_range('A', 'F');
}

// Characters outside ASCII as well-formed UTF-8 (The Unicode Standard, table 3-7).
Fragment wide_character(GrammarBuilder& b) {
    const auto range = [&](int low, int high) {
        return b.bytes(byte_range(static_cast<unsigned char>(low), static_cast<unsigned char>(high)));
    };
    const auto tail = [&] { return range(0x80, 0xbf); };
    return b.choice({
        b.sequence({range(0xc2, 0xdf), tail()}),
        b.sequence({range(0xe0, 0xe0), range(0xa0, 0xbf), tail()}),
        b.sequence({range(0xe1, 0xec), tail(), tail()}),
        b.sequence({range(0xed, 0xed), range(0x80, 0x9f), tail()}),
        b.sequence({range(0xee, 0xef), tail(), tail()}),
        b.sequence({range(0xf0, 0xf0), range(0x90, 0xbf), tail(), tail()}),
        b.sequence({range(0xf1, 0xf3), tail(), tail(), tail()}),
        b.sequence({range(0xf4, 0xf4), range(0x80, 0x8f), tail(), tail()}),
    });
}

// What may follow "\u": a character of the basic plane, or a pair of surrogates.
Fragment escaped_unit(GrammarBuilder& b) {
    const auto hex = [&] { return b.bytes(hex_set()); };
    const ByteSet not_d = hex_set() & ~bytes_of("dD");
    return b.choice({
        b.sequence({b.bytes(not_d), hex(), hex(), hex()}),
        b.sequence({b.bytes(bytes_of("dD")), b.bytes(byte_range('0', '7')), hex(), hex()}),
        b.sequence({b.bytes(bytes_of("dD")), b.bytes(bytes_of("89abAB")), hex(), hex(), b.literal("\\u"),
                    b.bytes(bytes_of("dD")), b.bytes(bytes_of("cdefCDEF")), hex(), hex()}),
    });
}

}  // namespace

std::int32_t JsonGrammar::rule(std::string_view name) {
    if (const auto known = rules_.find(name); known != rules_.end()) return known->second;
    const std::int32_t id = builder_.new_rule();
    rules_.emplace(name, id);
    builder_.define(id, body_of(name));
    return id;
}

Fragment JsonGrammar::body_of(std::string_view name) {
    GrammarBuilder& b = builder_;
    if (name == "space") {
        const auto blank = [&] { return b.bytes(bytes_of(" \t")); };
        return b.choice(
            {b.nothing(), b.literal(" "), b.sequence({b.literal("\n"), b.repeat(blank, 0, max_indent)})});
    }
    if (name == "character") {
        const ByteSet plain = byte_range(0x20, 0x7f) & ~bytes_of("\"\\");
        return b.choice({b.bytes(plain), wide_character(b),
                         b.sequence({b.literal("\\"), b.bytes(bytes_of("\"\\/bfnrt"))}),
                         b.sequence({b.literal("\\u"), escaped_unit(b)})});
    }
    if (name == "string") return b.sequence({b.literal("\""), b.star(character()), b.literal("\"")});
    if (name == "number") return number_body(false);
    if (name == "integer") return number_body(true);
    if (name == "object") {
        const auto member = [&] { return b.sequence({string(), b.literal(":"), space(), value()}); };
        return b.sequence({b.literal("{"), space(),
                           b.optional(b.sequence(
                               {member(), b.star(b.sequence({b.literal(","), space(), member()})), space()})),
                           b.literal("}")});
    }
    if (name == "array") {
        return b.sequence({b.literal("["), space(),
                           b.optional(b.sequence(
                               {value(), b.star(b.sequence({b.literal(","), space(), value()})), space()})),
                           b.literal("]")});
    }
    return b.choice(
        {object(), array(), string(), number(), b.literal("true"), b.literal("false"), b.literal("null")});
}

Fragment JsonGrammar::digits(std::int64_t min, std::int64_t max) {
    return builder_.repeat([this] { return builder_.bytes(digit_set()); }, min, max);
}

Fragment JsonGrammar::number_body(bool whole) {
    GrammarBuilder& b = builder_;
    const Fragment integral =
        b.choice({b.literal("0"), b.sequence({b.bytes(byte_range('1', '9')), digits(0, max_digits - 1)})});
    std::vector<Fragment> parts{b.optional(b.literal("-")), integral};
    if (!whole) {
        parts.push_back(b.optional(b.sequence({b.literal("."), digits(1, max_digits)})));
        parts.push_back(b.optional(
            b.sequence({b.bytes(bytes_of("eE")), b.optional(b.bytes(bytes_of("+-"))), digits(1, 2)})));
    }
    return b.sequence(parts);
}

Fragment JsonGrammar::space() {
    return builder_.call(rule("space"));
}
Fragment JsonGrammar::value() {
    return builder_.call(rule("value"));
}
Fragment JsonGrammar::object() {
    return builder_.call(rule("object"));
}
Fragment JsonGrammar::array() {
    return builder_.call(rule("array"));
}
Fragment JsonGrammar::string() {
    return builder_.call(rule("string"));
}
Fragment JsonGrammar::character() {
    return builder_.call(rule("character"));
}
Fragment JsonGrammar::number() {
    return builder_.call(rule("number"));
}
Fragment JsonGrammar::integer() {
    return builder_.call(rule("integer"));
}

// Without escapes, by which a name could be written in another way; nor beyond ASCII, for the same names'
// sake a byte at a time.
Fragment JsonGrammar::key_other_than(const std::vector<std::string>& names) {
    GrammarBuilder& b = builder_;
    const ByteSet plain = byte_range(0x20, 0x7e) & ~bytes_of("\"\\");
    // After `prefix`, which is a beginning of some of the names.
    const std::function<Fragment(const std::string&)> after = [&](const std::string& prefix) {
        ByteSet on_the_way;
        for (const std::string& name : names) {
            if (name.size() > prefix.size() && name.starts_with(prefix)) {
                on_the_way.set(static_cast<unsigned char>(name[prefix.size()]));
            }
        }
        std::vector<Fragment> ways;
        if (std::find(names.begin(), names.end(), prefix) == names.end()) ways.push_back(b.literal("\""));
        ways.push_back(b.sequence({b.bytes(plain & ~on_the_way), b.star(b.bytes(plain)), b.literal("\"")}));
        for (unsigned byte = 0x20; byte < 0x7f; ++byte) {
            if (!on_the_way.test(byte) || !plain.test(byte)) continue;
            const char c = static_cast<char>(byte);
            ways.push_back(b.sequence({b.literal({&c, 1}), after(prefix + c)}));
        }
        return b.choice(ways);
    };
    return b.sequence({b.literal("\""), after("")});
}

}  // namespace retort::grammar
