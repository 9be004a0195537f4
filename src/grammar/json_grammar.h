// JSON values as grammars: any value, and the values that a JSON Schema describes. What of JSON Schema is
// understood is in docs/structured-output.md; anything else is refused by name. Knows no token and no model.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/grammar.h"

namespace retort::grammar {

using Json = nlohmann::ordered_json;

// JSON's own rules, made as they are asked for. Between its signs stands nothing, one space, or a line end
// with up to 20 blanks; numbers have at most 16 digits on either side; \u never gives half a pair.
class JsonGrammar {
  public:
    explicit JsonGrammar(GrammarBuilder& builder) : builder_(builder) {}

    Fragment space();
    Fragment value();
    Fragment object();
    Fragment array();
    Fragment string();
    Fragment character();  // of a string
    Fragment number();
    Fragment integer();
    Fragment key_other_than(const std::vector<std::string>& names);

  private:
    std::int32_t rule(std::string_view name);
    Fragment body_of(std::string_view name);
    Fragment number_body(bool whole);
    Fragment digits(std::int64_t min, std::int64_t max);

    GrammarBuilder& builder_;
    std::map<std::string, std::int32_t, std::less<>> rules_;
};

// A number from `low` to `high`, either of which may be open; `excluded`: the bound itself does not count.
struct NumberRange {
    std::optional<std::int64_t> low, high;
    bool low_excluded = false;
    bool high_excluded = false;
};
// Whole numbers, and decimal fractions, of the range. Bounds beyond ±10^15 count as open.
Fragment integer_in(GrammarBuilder& builder, NumberRange range);
Fragment decimal_in(GrammarBuilder& builder, NumberRange range);

// The body of a JSON string (without its quotes) that a regular expression matches, as ECMA-262 writes them:
// somewhere in it, unless ^ and $ say otherwise. Look-around, back-references, \b and \p are refused.
Result<Fragment> string_matching(GrammarBuilder& builder, std::string_view pattern);

// Values of the schema; `at` names it in errors ("response_format.json_schema.schema").
Result<Fragment> schema_value(GrammarBuilder& builder, const Json& schema, const std::string& at);

}  // namespace retort::grammar
