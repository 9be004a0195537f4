#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "base/strings.h"
#include "data/pattern.h"
#include "data/spec_file.h"
#include "data/verify_rule.h"

namespace retort::data {

using formats::Json;

namespace {

constexpr int max_depth = 64;

constexpr std::array<std::string_view, 25> known_keywords = {"$schema",
                                                             "$id",
                                                             "title",
                                                             "description",
                                                             "type",
                                                             "properties",
                                                             "required",
                                                             "items",
                                                             "additionalProperties",
                                                             "enum",
                                                             "const",
                                                             "minimum",
                                                             "maximum",
                                                             "exclusiveMinimum",
                                                             "exclusiveMaximum",
                                                             "minLength",
                                                             "maxLength",
                                                             "pattern",
                                                             "minItems",
                                                             "maxItems",
                                                             "minProperties",
                                                             "maxProperties",
                                                             "anyOf",
                                                             "allOf",
                                                             "multipleOf"};

// What is kept of a schema: patterns compiled, everything else looked up in the JSON that it came as.
struct Patterns {
    std::vector<std::pair<std::string, Pattern>> compiled;
    [[nodiscard]] const Pattern* find(const std::string& source) const {
        for (const auto& [text, pattern] : compiled)
            if (text == source) return &pattern;
        return nullptr;
    }
};

bool is_type(const Json& value, std::string_view type) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "number") return value.is_number();
    return value.is_number_integer() ||
           (value.is_number_float() && std::nearbyint(value.get<double>()) == value.get<double>());
}

bool is_type_name(const Json& name) {
    constexpr std::array<std::string_view, 7> names = {"object", "array",  "string", "boolean",
                                                       "null",   "number", "integer"};
    return name.is_string() && std::find(names.begin(), names.end(), name.get<std::string>()) != names.end();
}

template <typename... Args>
Status wrong(const std::string& at, fmt::format_string<Args...> text, Args&&... args) {
    return fail(ErrorCode::invalid_argument, "verifier of type json_schema: {}: {}", at,
                fmt::format(text, std::forward<Args>(args)...));
}

Status check_schema(const Json& schema, const std::string& at, int depth,
                    Patterns& patterns);  // NOLINT(misc-no-recursion)

Status check_list(const Json& schema, std::string_view key, const std::string& at, int depth,
                  Patterns& patterns) {  // NOLINT(misc-no-recursion)
    const Json* list = formats::json_find(schema, key);
    if (list == nullptr) return {};
    if (!list->is_array() || list->empty()) return wrong(at, "{} must be a list with an entry", key);
    for (const Json& part : *list)
        RETORT_CHECK(check_schema(part, fmt::format("{}.{}", at, key), depth + 1, patterns));
    return {};
}

Status check_keyword_values(const Json& schema, const std::string& at) {
    if (const Json* type = formats::json_find(schema, "type")) {
        const bool good = is_type_name(*type) || (type->is_array() && !type->empty() &&
                                                  std::all_of(type->begin(), type->end(), is_type_name));
        if (!good) return wrong(at, "type {} is no type of JSON", type->dump());
    }
    for (const std::string_view key :
         {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}) {
        const Json* bound = formats::json_find(schema, key);
        if (bound != nullptr && !bound->is_number()) return wrong(at, "{} must be a number", key);
        if (bound != nullptr && key == "multipleOf" && bound->get<double>() <= 0)
            return wrong(at, "multipleOf must be above 0");
    }
    for (const std::string_view key :
         {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}) {
        const Json* bound = formats::json_find(schema, key);
        if (bound != nullptr && (!bound->is_number_integer() || bound->get<std::int64_t>() < 0))
            return wrong(at, "{} must be a whole number, 0 or more", key);
    }
    if (const Json* values = formats::json_find(schema, "enum"); values != nullptr && !values->is_array())
        return wrong(at, "enum must be a list");
    if (const Json* names = formats::json_find(schema, "required")) {
        const bool good = names->is_array() && std::all_of(names->begin(), names->end(),
                                                           [](const Json& name) { return name.is_string(); });
        if (!good) return wrong(at, "required must be a list of names");
    }
    return {};
}

// Everything that the schema says is understood, or refused by name.
Status check_schema(const Json& schema, const std::string& at, int depth,
                    Patterns& patterns) {  // NOLINT(misc-no-recursion)
    if (schema.is_boolean()) return {};
    if (!schema.is_object()) return wrong(at, "a schema is a table, true or false");
    if (depth > max_depth) return wrong(at, "nested deeper than {}", max_depth);
    for (const auto& [key, value] : schema.items()) {
        if (std::find(known_keywords.begin(), known_keywords.end(), key) == known_keywords.end())
            return wrong(at, "\"{}\" is not understood; what is: {}", key, fmt::join(known_keywords, ", "));
    }
    RETORT_CHECK(check_keyword_values(schema, at));
    if (const Json* pattern = formats::json_find(schema, "pattern")) {
        if (!pattern->is_string()) return wrong(at, "pattern must be text");
        auto compiled = Pattern::compile(pattern->get<std::string>());
        if (!compiled) return wrong(at, "{}", compiled.error().message);
        patterns.compiled.emplace_back(pattern->get<std::string>(), *compiled);
    }
    if (const Json* properties = formats::json_find(schema, "properties")) {
        if (!properties->is_object()) return wrong(at, "properties must be a table");
        for (const auto& [name, part] : properties->items())
            RETORT_CHECK(check_schema(part, at + "." + name, depth + 1, patterns));
    }
    for (const std::string_view key : {"items", "additionalProperties"}) {
        if (const Json* part = formats::json_find(schema, key))
            RETORT_CHECK(check_schema(*part, fmt::format("{}.{}", at, key), depth + 1, patterns));
    }
    RETORT_CHECK(check_list(schema, "anyOf", at, depth, patterns));
    return check_list(schema, "allOf", at, depth, patterns);
}

std::int64_t characters_of(std::string_view text) {
    return std::count_if(text.begin(), text.end(),
                         [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
}

// Why a value is not of a checked schema; nothing when it is.
class Judge {
  public:
    explicit Judge(const Patterns& patterns) : patterns_(patterns) {}

    Result<std::optional<std::string>> fault(const Json& value, const Json& schema,
                                             const std::string& at) const {  // NOLINT(misc-no-recursion)
        if (schema.is_boolean()) {
            if (schema.get<bool>()) return std::optional<std::string>();
            return said(at, "must not be there");
        }
        if (const Json* type = formats::json_find(schema, "type")) {
            const bool good = type->is_string()
                                  ? is_type(value, type->get<std::string>())
                                  : std::any_of(type->begin(), type->end(), [&](const Json& one) {
                                        return is_type(value, one.get<std::string>());
                                    });
            if (!good) return said(at, fmt::format("is not of type {}", type->dump()));
        }
        if (const Json* only = formats::json_find(schema, "const"); only != nullptr && value != *only)
            return said(at, fmt::format("is not {}", only->dump()));
        if (const Json* values = formats::json_find(schema, "enum");
            values != nullptr && std::find(values->begin(), values->end(), value) == values->end())
            return said(at, fmt::format("is none of {}", values->dump()));
        RETORT_TRY(auto found, value.is_number()   ? number_fault(value, schema, at)
                               : value.is_string() ? string_fault(value, schema, at)
                               : value.is_array()  ? array_fault(value, schema, at)
                               : value.is_object() ? object_fault(value, schema, at)
                                                   : Result<std::optional<std::string>>(std::nullopt));
        if (found) return found;
        return combined_fault(value, schema, at);
    }

  private:
    using Fault = Result<std::optional<std::string>>;

    static Fault said(const std::string& at, std::string_view what) {
        return std::optional<std::string>(fmt::format("{} {}", at, what));
    }
    static bool below(const Json& schema, std::string_view key, double value) {
        const Json* bound = formats::json_find(schema, key);
        return bound != nullptr && value < bound->get<double>();
    }
    static bool above(const Json& schema, std::string_view key, double value) {
        const Json* bound = formats::json_find(schema, key);
        return bound != nullptr && value > bound->get<double>();
    }
    static Fault counted(const Json& schema, std::int64_t count, std::string_view what, std::string_view name,
                         const std::string& at) {
        if (below(schema, fmt::format("min{}", what), static_cast<double>(count)) ||
            above(schema, fmt::format("max{}", what), static_cast<double>(count)))
            return said(at, fmt::format("has {} {}", count, name));
        return std::optional<std::string>();
    }

    static Fault number_fault(const Json& value, const Json& schema, const std::string& at) {
        const double number = value.get<double>();
        const Json* least = formats::json_find(schema, "exclusiveMinimum");
        const Json* most = formats::json_find(schema, "exclusiveMaximum");
        if (below(schema, "minimum", number) || above(schema, "maximum", number) ||
            (least != nullptr && number <= least->get<double>()) ||
            (most != nullptr && number >= most->get<double>()))
            return said(at, fmt::format("is {}, out of its range", value.dump()));
        if (const Json* step = formats::json_find(schema, "multipleOf")) {
            const double times = number / step->get<double>();
            if (std::abs(times - std::nearbyint(times)) > 1e-9 * std::max(1.0, std::abs(times)))
                return said(at, fmt::format("is {}, no multiple of {}", value.dump(), step->dump()));
        }
        return std::optional<std::string>();
    }

    Fault string_fault(const Json& value, const Json& schema, const std::string& at) const {
        const std::string text = value.get<std::string>();
        RETORT_TRY(auto found, counted(schema, characters_of(text), "Length", "characters", at));
        if (found) return found;
        if (const Json* source = formats::json_find(schema, "pattern")) {
            RETORT_TRY(const bool matches, patterns_.find(source->get<std::string>())->matches(text));
            if (!matches) return said(at, fmt::format("does not match {}", source->dump()));
        }
        return std::optional<std::string>();
    }

    Fault array_fault(const Json& value, const Json& schema,
                      const std::string& at) const {  // NOLINT(misc-no-recursion)
        RETORT_TRY(auto found,
                   counted(schema, static_cast<std::int64_t>(value.size()), "Items", "entries", at));
        if (found) return found;
        const Json* items = formats::json_find(schema, "items");
        for (std::size_t i = 0; items != nullptr && i < value.size(); ++i) {
            RETORT_TRY(found, fault(value[i], *items, fmt::format("{}[{}]", at, i)));
            if (found) return found;
        }
        return std::optional<std::string>();
    }

    Fault object_fault(const Json& value, const Json& schema,
                       const std::string& at) const {  // NOLINT(misc-no-recursion)
        RETORT_TRY(auto found,
                   counted(schema, static_cast<std::int64_t>(value.size()), "Properties", "members", at));
        if (found) return found;
        if (const Json* names = formats::json_find(schema, "required")) {
            for (const Json& name : *names) {
                if (!value.contains(name.get<std::string>()))
                    return said(at, fmt::format("has no {}", name.dump()));
            }
        }
        const Json* properties = formats::json_find(schema, "properties");
        const Json* others = formats::json_find(schema, "additionalProperties");
        for (const auto& [name, member] : value.items()) {
            const Json* part = properties != nullptr ? formats::json_find(*properties, name) : nullptr;
            if (part == nullptr) part = others;
            if (part == nullptr) continue;
            RETORT_TRY(found, fault(member, *part, at + "." + name));
            if (found) return found;
        }
        return std::optional<std::string>();
    }

    Fault combined_fault(const Json& value, const Json& schema,
                         const std::string& at) const {  // NOLINT(misc-no-recursion)
        if (const Json* all = formats::json_find(schema, "allOf")) {
            for (const Json& part : *all) {
                RETORT_TRY(auto found, fault(value, part, at));
                if (found) return found;
            }
        }
        const Json* any = formats::json_find(schema, "anyOf");
        if (any == nullptr) return std::optional<std::string>();
        for (const Json& part : *any) {
            RETORT_TRY(const auto found, fault(value, part, at));
            if (!found) return std::optional<std::string>();
        }
        return said(at, "is none of what anyOf allows");
    }

    const Patterns& patterns_;
};

// The inside of a fenced block that is all of the answer.
std::string_view without_fence(std::string_view text) {
    text = base::trimmed(text);
    if (!text.starts_with("```") || !text.ends_with("```") || text.size() < 6) return text;
    const std::size_t line = text.find('\n');
    if (line == std::string_view::npos) return text;
    return base::trimmed(text.substr(line, text.size() - 3 - line));
}

class SchemaRule : public Verifier::Rule {
  public:
    SchemaRule() : Rule("json_schema") {}

    static Result<RulePointer> build(const Json& spec) {
        RETORT_CHECK(allow_keys(spec, {"schema", "file", "fenced"}));
        auto rule = std::make_shared<SchemaRule>();
        RETORT_TRY(rule->fenced_, formats::json_boolean(spec, "fenced", false));
        const Json* schema = formats::json_find(spec, "schema");
        RETORT_TRY(const std::string file, formats::json_string(spec, "file", std::string()));
        if ((schema == nullptr) == file.empty()) {
            return fail(ErrorCode::invalid_argument,
                        "verifier of type json_schema: give schema, a table, or file, the path of one");
        }
        if (schema != nullptr) {
            rule->schema_ = *schema;
        } else {
            RETORT_TRY(rule->schema_, read_spec_file(file));
        }
        RETORT_CHECK(check_schema(rule->schema_, "schema", 0, rule->patterns_));
        return rule;
    }

    [[nodiscard]] Result<Verdict> check(std::string_view answer, const Json& metadata) const override {
        (void)metadata;
        const auto value =
            formats::parse_json(fenced_ ? without_fence(answer) : base::trimmed(answer), "answer");
        if (!value) return failed("no JSON: {}", value.error().message);
        RETORT_TRY(const auto found, Judge(patterns_).fault(*value, schema_, "answer"));
        return found ? failed("{}", *found) : passed();
    }

  private:
    Json schema_;
    Patterns patterns_;
    bool fenced_ = false;
};

}  // namespace

Result<RulePointer> schema_rule(const Json& spec) {
    return SchemaRule::build(spec);
}

}  // namespace retort::data
