#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "grammar/automaton.h"
#include "grammar/json_grammar.h"
#include "grammar/token_mask.h"

namespace retort::grammar {
namespace {

Result<Grammar> of_schema(const std::string& schema) {
    GrammarBuilder builder;
    RETORT_TRY(const Fragment root, schema_value(builder, Json::parse(schema), "schema"));
    return builder.finish(root);
}

bool accepts(Automaton& automaton, std::string_view text) {
    std::int32_t state = automaton.start();
    for (const char byte : text) state = automaton.step(state, static_cast<unsigned char>(byte));
    return automaton.accepts(state);
}

// A schema and what fits it and what does not; a text that fits must be JSON.
void check(const std::string& schema, const std::vector<std::string>& good,
           const std::vector<std::string>& bad) {
    auto grammar = of_schema(schema);
    ASSERT_TRUE(grammar) << schema << ": " << grammar.error().message;
    Automaton automaton(std::move(*grammar));
    for (const std::string& text : good) {
        EXPECT_TRUE(accepts(automaton, text)) << schema << " should take " << text;
        EXPECT_TRUE(Json::accept(text)) << text;
    }
    for (const std::string& text : bad)
        EXPECT_FALSE(accepts(automaton, text)) << schema << " should refuse " << text;
}

std::string refusal(const std::string& schema) {
    const auto grammar = of_schema(schema);
    return grammar ? "" : grammar.error().message;
}

TEST(Grammar, sequences_choices_and_repeats) {
    GrammarBuilder b;
    const auto digit = [&] { return b.bytes(byte_range('0', '9')); };
    auto grammar =
        b.finish(b.sequence({b.literal("a"), b.choice({b.literal("bc"), b.literal("bd"), b.nothing()}),
                             b.repeat(digit, 1, 3), b.star(b.literal("x")), b.optional(b.literal("!"))}));
    ASSERT_TRUE(grammar);
    Automaton automaton(std::move(*grammar));
    for (const char* text : {"abc1", "abd123xxx!", "a1", "a12!", "a1xx"})
        EXPECT_TRUE(accepts(automaton, text)) << text;
    for (const char* text : {"", "a", "ab1", "abc", "abc1234", "abc1!x", "1"})
        EXPECT_FALSE(accepts(automaton, text)) << text;
}

TEST(Grammar, free_text_up_to_a_mark_and_without_it) {
    GrammarBuilder b;
    auto grammar = b.finish(b.sequence({b.text_through("<<a"), b.literal("!")}));
    Automaton through(std::move(*grammar));
    for (const char* text : {"<<a!", "x<<<a!", "<<b<<a!", "<a<<a!"})
        EXPECT_TRUE(accepts(through, text)) << text;
    for (const char* text : {"!", "<<a", "<<a<<a!", "<a!"}) EXPECT_FALSE(accepts(through, text)) << text;
    GrammarBuilder c;
    auto without = c.finish(c.text_without("aab"));
    Automaton free(std::move(*without));
    for (const char* text : {"", "aa", "aba", "aaa", "b"}) EXPECT_TRUE(accepts(free, text)) << text;
    for (const char* text : {"aab", "aaab", "xaaby"}) EXPECT_FALSE(accepts(free, text)) << text;
}

TEST(Grammar, refuses_what_never_ends_or_turns_on_itself) {
    GrammarBuilder b;
    const std::int32_t rule = b.new_rule();
    b.define(rule, b.choice({b.sequence({b.optional(b.literal("x")), b.call(rule)}), b.literal("y")}));
    EXPECT_FALSE(b.finish(b.call(rule)));
    GrammarBuilder c;
    const std::int32_t endless = c.new_rule();
    c.define(endless, c.sequence({c.literal("x"), c.call(endless)}));
    EXPECT_FALSE(c.finish(c.call(endless)));
    EXPECT_NE(refusal(R"({"$ref":"#"})"), "");
    EXPECT_NE(refusal(R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})"), "");
    EXPECT_NE(refusal(R"({"type":"array","minItems":10000,"items":{"type":"array","minItems":10000,"items":)"
                      R"({"type":"string","minLength":10000,"maxLength":10000}}})"),
              "x");  // must end at all
}

TEST(JsonGrammar, any_value) {
    check("true",
          {"{}", "[]", "[1, 2]", R"({"a": [{"b": null}], "c": "x"})", "true", "-0.5e-3", "\"\"",
           R"("\u00e9\ud83d\ude00\n")", "\"caf\u00e9 \U0001F600\"", "{\n  \"a\": 1\n}", "0"},
          {"", "{", "{,}", "[1,]", "01", "+1", ".5", "1.", "tru", R"("\ud83d")", R"("\x")", "\"\n\"",
           "\"\xc3\"", "\"\xed\xa0\x80\"", R"({"a" 1})", R"({a:1})", "[1 2]", "{}x", "1e999"});
}

TEST(JsonSchema, objects) {
    const std::string schema =
        R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},"ok":{"type":"boolean"}},)"
        R"("required":["name"],"additionalProperties":false})";
    check(schema,
          {R"({"name":"x"})", R"({ "name": "x", "age": 3 })", R"({"name":"x","ok":true})",
           R"({"name":"x","age":3,"ok":false})"},
          {"{}", R"({"age":3})", R"({"name":1})", R"({"name":"x","age":"3"})", R"({"name":"x",})",
           R"({"ok":true,"name":"x"})", R"({"name":"x","more":1})", R"({"name":"x" "age":3})",
           R"({,"name":"x"})"});
    check(R"({"type":"object"})", {"{}", R"({"any":[1]})"}, {"[]", "1"});
    check(
        R"({"type":"object","properties":{"a":{"type":"integer"},"ab":{"type":"integer"}},"additionalProperties":{"type":"string"}})",
        {"{}", R"({"a":1})", R"({"ab":1,"b":"x"})", R"({"abc":"x"})", R"({"a":1,"x":"y","z":"w"})",
         R"({"":"x"})"},
        {R"({"a":"x"})", R"({"ab":"x"})", R"({"b":1})", R"({"\u0061":"x"})"});
    check(R"({"type":"object","required":["x"]})", {R"({"x":1})", R"({"x":[],"y":2})"}, {"{}", R"({"y":2})"});
    check(R"({"type":"object","properties":{},"additionalProperties":false})", {"{}", "{ }"}, {R"({"a":1})"});
    check(R"({"properties":{"q\"uote":{"type":"null"}},"required":["q\"uote"]})", {R"({"q\"uote":null})"},
          {R"({"q":null})"});
}

TEST(JsonSchema, arrays) {
    check(R"({"type":"array","items":{"type":"integer"}})", {"[]", "[1]", "[1,2, 3]"},
          {"[\"a\"]", "[1,]", "[,1]", "1"});
    check(R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})", {"[1,2]", "[1,2,3]"},
          {"[]", "[1]", "[1,2,3,4]"});
    check(R"({"type":"array","items":{"type":"integer"},"minItems":2})", {"[1,2]", "[1,2,3,4,5]"},
          {"[]", "[1]"});
    check(R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})",
          {"[]", "[1]", "[1,\"a\"]"}, {"[\"a\"]", "[1,\"a\",2]"});
    check(R"({"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"null"},"minItems":1})",
          {"[1]", "[1,null,null]"}, {"[]", "[null]", "[1,1]"});
    check(R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"});
}

TEST(JsonSchema, strings) {
    check(R"({"type":"string","minLength":2,"maxLength":3})",
          {R"("ab")", "\"\u00e9\u00e9\u00e9\"", R"("\n\u0041")"}, {R"("a")", R"("abcd")", "ab"});
    check(R"({"enum":["a","b\"c",3,null,{"x":[1]}]})", {R"("a")", R"("b\"c")", "3", "null", R"({"x":[1]})"},
          {R"("c")", "4", "\"\""});
    check(R"({"type":"string","const":"only"})", {R"("only")"}, {R"("other")"});
    check(R"({"type":"string","format":"date"})", {R"("2026-02-28")", R"("2025-12-31")"},
          {R"("2026-02-30")", R"("2026-13-01")", R"("26-1-1")", R"("2026-04-31")"});
    check(R"({"type":"string","format":"date-time"})",
          {R"("2026-02-28T23:59:59Z")", R"("2026-01-01T00:00:00.5+01:00")"},
          {R"("2026-02-28")", R"("2026-02-28T24:00:00Z")"});
    check(R"({"type":"string","format":"uuid"})", {R"("123e4567-e89b-12d3-a456-426614174000")"},
          {R"("123e4567")"});
    check(R"({"type":"string","format":"ipv4"})", {R"("192.168.0.1")", R"("255.0.0.9")"},
          {R"("256.1.1.1")", R"("1.2.3")"});
    check(R"({"type":"string","format":"email"})", {R"("a.b@example.org")"},
          {R"("a@b")", R"("@example.org")"});
}

TEST(JsonSchema, patterns) {
    const auto pattern = [](const std::string& text) {
        return Json{{"type", "string"}, {"pattern", text}}.dump();
    };
    check(pattern("^a+b?$"), {R"("a")", R"("aaab")"}, {R"("b")", R"("ab ")", R"("xa")"});
    check(pattern("ab"), {R"("ab")", R"("xxabyy")"}, {R"("a")", R"("ba")"});
    check(pattern("^(red|gr[ae]y|\\d{2,3})$"), {R"("red")", R"("gray")", R"("grey")", R"("12")", R"("123")"},
          {R"("1")", R"("1234")", R"("gry")", R"("redgray")"});
    check(pattern("^[^a-z]$"), {R"("A")", "\"\u00e9\"", "\"\U0001F600\"", R"("\"")", R"("\n")", R"("\\")"},
          {R"("b")", R"("AB")"});
    check(pattern("^\\w+\\.\\s$"), {R"("ab_1. ")", R"("a.\t")"}, {R"("a-b. ")", R"("ab.")"});
    check(pattern("^[\\u00e0-\\u00ff]$"), {"\"\u00e9\""}, {"\"e\"", "\"\u0100\""});
    check(pattern("^[\\u0400-\\uffff]$"), {"\"\u0416\"", "\"\uac00\""}, {"\"e\"", "\"\U0001F600\""});
    check(pattern("^(?:ab){2}?c*?$"), {R"("abab")", R"("ababcc")"}, {R"("ab")"});
    for (const char* text : {"(?=a)", "\\bx", "\\1", "a**", "(", ")", "[a", "a{2", "\\p{L}", "a$b", "(?<x>a)",
                             "a{5,2}", "[z-a]"}) {
        EXPECT_NE(refusal(pattern(text)), "") << text;
    }
    EXPECT_TRUE(of_schema(pattern("(((((((((a*)*)*)*)*)*)*)*)*)*")));
}

// Every whole number near the bounds, and decimals at them.
TEST(JsonSchema, numbers) {
    const auto bound = [](const char* type, const Json& bounds) {
        Json schema = bounds;
        schema["type"] = type;
        return schema.dump();
    };
    for (const auto& [low, high] : std::vector<std::pair<int, int>>{
             {0, 10}, {-5, 5}, {7, 123}, {-120, -7}, {95, 1005}, {3, 3}, {-1, 0}}) {
        for (const char* type : {"integer", "number"}) {
            auto grammar = of_schema(bound(type, {{"minimum", low}, {"maximum", high}}));
            ASSERT_TRUE(grammar);
            Automaton automaton(std::move(*grammar));
            auto strict =
                of_schema(bound(type, {{"exclusiveMinimum", low - 1}, {"exclusiveMaximum", high + 1}}));
            Automaton exclusive(std::move(*strict));
            for (int i = -1100; i <= 1100; ++i) {
                const std::string text = std::to_string(i);
                EXPECT_EQ(accepts(automaton, text), i >= low && i <= high)
                    << text << " in " << low << ", " << high;
                EXPECT_EQ(accepts(exclusive, text), i >= low && i <= high) << text;
                if (type == std::string("number")) {
                    EXPECT_EQ(accepts(automaton, text + ".0"), i >= low && i <= high) << text;
                    const double half = i + (i < 0 ? -0.5 : 0.5);
                    EXPECT_EQ(accepts(automaton, text + ".5"), half >= low && half <= high) << text;
                    EXPECT_EQ(accepts(exclusive, text + ".50"), half > low - 1 && half < high + 1) << text;
                }
            }
        }
    }
    check(R"({"type":"integer","minimum":5})", {"5", "10", "1234567890123456"},
          {"4", "05", "-5", "5.0", "1e3"});
    check(R"({"type":"integer","maximum":-5})", {"-5", "-10"}, {"-4", "0", "5", "-05"});
    check(R"({"type":"number","exclusiveMinimum":0,"maximum":1})", {"0.5", "0.001", "1", "1.0"},
          {"0", "0.0", "1.5", "-0.5", "-0"});
    check(R"({"type":"number","minimum":0.0})", {"0", "0.25", "17.5"}, {"-0.25"});
    EXPECT_NE(refusal(R"({"type":"number","minimum":0.5})").find("minimum"), std::string::npos);
}

TEST(JsonSchema, references_and_choices) {
    check(
        R"({"$defs":{"tree":{"type":"object","properties":{"value":{"type":"integer"},"children":{"type":"array","items":{"$ref":"#/$defs/tree"}}},)"
        R"("required":["value"],"additionalProperties":false}},"$ref":"#/$defs/tree"})",
        {R"({"value":1})", R"({"value":1,"children":[{"value":2,"children":[]},{"value":3}]})"},
        {"{}", R"({"value":1,"children":[{}]})"});
    check(R"({"anyOf":[{"type":"string"},{"type":"null"}],"title":"T"})", {"\"x\"", "null"}, {"1"});
    check(R"({"type":["string","integer"],"minimum":3})", {"\"x\"", "5"}, {"2", "null"});
    check(
        R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"integer"}},"required":["k","x"]},)"
        R"({"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]})",
        {R"({"k":"a","x":1})", R"({"k":"b"})"}, {R"({"k":"a"})", R"({"k":"c"})"});
    EXPECT_NE(refusal(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})").find("oneOf"),
              std::string::npos);
}

TEST(JsonSchema, what_is_not_supported_is_named) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {R"({"type":"integer","multipleOf":3})", "multipleOf"},
        {R"({"type":"array","uniqueItems":true})", "uniqueItems"},
        {R"({"type":"object","patternProperties":{"a":{}}})", "patternProperties"},
        {R"({"type":"object","minProperties":1})", "minProperties"},
        {R"({"not":{"type":"null"}})", "not"},
        {R"({"if":{},"then":{}})", "if"},
        {R"({"type":"string","format":"iri"})", "iri"},
        {R"({"allOf":[{"type":"object"},{"type":"object"}]})", "allOf"},
        {R"({"$ref":"http://example.org/s.json"})", "http://example.org/s.json"},
        {R"({"$ref":"#/$defs/none"})", "#/$defs/none"},
        {R"({"anyOf":[{"type":"null"}],"minimum":3})", "minimum"},
        {R"({"type":"object","properties":{"deep":{"type":"array","contains":{}}}})",
         "schema/properties/deep"},
        {R"({"type":"thing"})", "thing"},
        {R"({"type":"array","minItems":3,"maxItems":2})", "minItems"},
        {"false", "no text"},
    };
    for (const auto& [schema, named] : cases) {
        EXPECT_NE(refusal(schema).find(named), std::string::npos) << schema << ": " << refusal(schema);
    }
}

TEST(TokenGrammar, masks_whole_tokens_that_cross_borders) {
    const std::vector<std::string> vocabulary = {"{\"", "a",    "\":",  "\": [", "1",       "]}",  "]",
                                                 "}",   "x\"y", "",     "{",     "\"a\":",  "tru", "e",
                                                 "  ",  "[[",   "\xc3", "\xa9",  "\xc3\xa9"};
    const auto tree = std::make_shared<const TokenTree>(vocabulary);
    auto grammar = of_schema(
        R"({"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}},"required":["a"]})");
    TokenGrammar masks(std::move(*grammar), tree);
    const std::vector<std::int32_t> end{20};
    const auto allowed = [&](std::int32_t state) {
        std::vector<float> logits(21, 1.0F);
        masks.mask(state, end, logits);
        std::vector<std::int32_t> out;
        for (std::size_t i = 0; i < logits.size(); ++i) {
            if (std::isfinite(logits[i])) out.push_back(static_cast<std::int32_t>(i));
        }
        return out;
    };
    using Tokens = std::vector<std::int32_t>;
    std::int32_t state = masks.start();
    EXPECT_EQ(allowed(state), (Tokens{0, 10}));
    state = masks.step(state, 0);
    EXPECT_EQ(allowed(state), (Tokens{1}));
    state = masks.step(state, 1);
    EXPECT_EQ(allowed(state), (Tokens{2, 3}));
    state = masks.step(state, 3);
    EXPECT_EQ(allowed(state), (Tokens{4, 5, 6, 14}));
    state = masks.step(masks.step(state, 4), 5);
    EXPECT_TRUE(masks.may_end(state));
    EXPECT_TRUE(masks.must_end(state));
    EXPECT_EQ(allowed(state), end);
    EXPECT_EQ(masks.step(state, 4), Automaton::dead);
    EXPECT_EQ(allowed(Automaton::dead), end);  // so that the answer can end

    auto any = of_schema(R"({"type":"string"})");
    TokenGrammar strings(std::move(*any), std::make_shared<const TokenTree>(std::vector<std::string>{
                                              "\"", "\xc3", "\xa9", "\xc3\xa9", "a\""}));
    std::vector<float> logits(5, 0.0F);
    strings.mask(strings.step(strings.start(), 0), {}, logits);
    EXPECT_TRUE(std::isfinite(logits[1]));   // may go on to a character
    EXPECT_FALSE(std::isfinite(logits[2]));  // no character begins so
    EXPECT_TRUE(std::isfinite(logits[3]) && std::isfinite(logits[4]));
}

TEST(TokenGrammar, a_deep_nest_stays_within_its_states) {
    auto grammar = of_schema("true");
    Automaton automaton(std::move(*grammar));
    EXPECT_TRUE(accepts(automaton, std::string(60, '[') + std::string(60, ']')));
    EXPECT_FALSE(accepts(automaton, std::string(5000, '[') + std::string(5000, ']')));
    std::string list = "[0";
    for (int i = 0; i < 10'000; ++i) list += ",{\"a\": 1}";
    EXPECT_TRUE(accepts(automaton, list + "]"));
    EXPECT_LT(automaton.state_count(), 20'000U);
}

}  // namespace
}  // namespace retort::grammar
