// JSON Schema to grammars. Where a keyword allows more than is worth generating, a part of it is generated:
// every text of the grammar is valid by the schema, not every valid text is one of the grammar.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "grammar/json_grammar.h"
#include "grammar/schemas_apart.h"

namespace retort::grammar {

namespace {

constexpr std::int64_t max_count = 10'000;  // of items, characters
constexpr int max_depth = 200;              // of schemas within schemas, references included

constexpr auto annotations = std::to_array<std::string_view>(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "example",
     "examples", "deprecated", "readOnly", "writeOnly", "strict"});
constexpr auto keywords = std::to_array<std::string_view>({"type",
                                                           "enum",
                                                           "const",
                                                           "$ref",
                                                           "anyOf",
                                                           "oneOf",
                                                           "allOf",
                                                           "properties",
                                                           "required",
                                                           "additionalProperties",
                                                           "items",
                                                           "prefixItems",
                                                           "minItems",
                                                           "maxItems",
                                                           "minLength",
                                                           "maxLength",
                                                           "pattern",
                                                           "format",
                                                           "minimum",
                                                           "maximum",
                                                           "exclusiveMinimum",
                                                           "exclusiveMaximum"});
// Refused only where they would ask for something.
constexpr auto harmless_if_off = std::to_array<std::string_view>({"uniqueItems", "nullable"});

struct Format {
    std::string_view name;
    std::string_view pattern;
};
#define RETORT_DATE                                                                                         \
    "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-" \
    "9]|2[0-8]))"
#define RETORT_TIME \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define RETORT_HOST "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\\.[a-z]([a-z0-9-]{0,30}[a-z0-9])?){1,4}"
constexpr auto formats = std::to_array<Format>({
    {"date", "^" RETORT_DATE "$"},
    {"time", "^" RETORT_TIME "$"},
    {"date-time", "^" RETORT_DATE "T" RETORT_TIME "$"},
    {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    {"ipv4",
     "^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$"},
    {"hostname", "^" RETORT_HOST "$"},
    {"email", "^[A-Za-z0-9_+-]{1,30}(\\.[A-Za-z0-9_+-]{1,20}){0,3}@" RETORT_HOST "$"},
    {"uri", "^https?://" RETORT_HOST "(/[A-Za-z0-9._~-]{0,40}){0,8}$"},
});

bool is_one_of(std::span<const std::string_view> list, std::string_view name) {
    return std::find(list.begin(), list.end(), name) != list.end();
}

std::string text_of(const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string_view type_of(const Json& value) {
    if (value.is_number()) return "number";
    return value.is_null()      ? "null"
           : value.is_boolean() ? "boolean"
           : value.is_string()  ? "string"
           : value.is_array()   ? "array"
                                : "object";
}

class SchemaCompiler {
  public:
    SchemaCompiler(GrammarBuilder& builder, const Json& root, std::string at)
        : b_(builder), json_(builder), root_(root), root_at_(std::move(at)) {}

    Result<Fragment> compile(const Json& schema, const std::string& at) {
        if (depth_ >= max_depth)
            return fail(ErrorCode::unsupported, "{} lies deeper than {} levels", at, max_depth);
        ++depth_;
        auto out = compile_at_depth(schema, at);
        --depth_;
        return out;
    }

  private:
    Result<Fragment> compile_at_depth(const Json& schema, const std::string& at) {
        if (schema.is_boolean()) return schema.get<bool>() ? json_.value() : b_.choice({});
        if (!schema.is_object()) return fail(ErrorCode::invalid_argument, "{} is not a schema", at);
        RETORT_CHECK(check_keywords(schema, at));
        if (const auto it = schema.find("$ref"); it != schema.end()) return reference(*it, schema, at);
        for (const char* name : {"anyOf", "oneOf", "allOf"}) {
            if (const auto it = schema.find(name); it != schema.end()) return combined(name, *it, schema, at);
        }
        if (schema.contains("const")) return constants(Json::array({schema["const"]}), schema, at);
        if (const auto it = schema.find("enum"); it != schema.end()) return constants(*it, schema, at);
        RETORT_TRY(const std::vector<std::string> types, types_of(schema, at));
        if (types.empty()) return json_.value();
        std::vector<Fragment> ways;
        for (const std::string& type : types) {
            RETORT_TRY(const Fragment way, typed(type, schema, at));
            ways.push_back(way);
        }
        return b_.choice(ways);
    }

    static Status check_keywords(const Json& schema, const std::string& at) {
        for (const auto& [name, value] : schema.items()) {
            if (is_one_of(annotations, name) || is_one_of(keywords, name)) continue;
            if (is_one_of(harmless_if_off, name) && value == Json(false)) continue;
            if (name == "multipleOf" && value == Json(1) && schema.value("type", Json()) == Json("integer"))
                continue;
            return fail(ErrorCode::unsupported, "the keyword '{}' at {} is not supported", name, at);
        }
        return {};
    }

    // What stands beside a keyword that must stand alone.
    static Status check_alone(std::string_view keyword, const Json& schema, const std::string& at,
                              std::string_view also = {}) {
        for (const auto& [name, value] : schema.items()) {
            if (name == keyword || name == also || is_one_of(annotations, name)) continue;
            return fail(ErrorCode::unsupported, "'{}' beside '{}' at {} is not supported", name, keyword, at);
        }
        return {};
    }

    Result<Fragment> reference(const Json& ref, const Json& schema, const std::string& at) {
        RETORT_CHECK(check_alone("$ref", schema, at));
        if (!ref.is_string()) return fail(ErrorCode::invalid_argument, "'$ref' at {} is not a string", at);
        const std::string target = ref.get<std::string>();
        if (const auto known = references_.find(target); known != references_.end())
            return b_.call(known->second);
        if (target != "#" && !target.starts_with("#/")) {
            return fail(ErrorCode::unsupported,
                        "'$ref' at {} is '{}': only references within the schema (#/…) are supported", at,
                        target);
        }
        const Json* found = nullptr;
        try {
            const Json::json_pointer pointer(target.substr(1));
            if (root_.contains(pointer)) found = &root_.at(pointer);
        } catch (const nlohmann::json::exception&) {
            found = nullptr;
        }
        if (found == nullptr) {
            return fail(ErrorCode::invalid_argument, "'$ref' at {} is '{}', which is not there", at, target);
        }
        const std::int32_t rule = b_.new_rule();
        references_.emplace(target, rule);
        RETORT_TRY(const Fragment body, compile(*found, root_at_ + target.substr(1)));
        b_.define(rule, body);
        return b_.call(rule);
    }

    Result<Fragment> combined(const std::string& name, const Json& list, const Json& schema,
                              const std::string& at) {
        RETORT_CHECK(check_alone(name, schema, at, "type"));
        if (!list.is_array() || list.empty()) {
            return fail(ErrorCode::invalid_argument, "'{}' at {} is not a list of schemas", name, at);
        }
        if (name == "allOf" && list.size() > 1) {
            return fail(ErrorCode::unsupported, "'allOf' of more than one schema at {} is not supported", at);
        }
        if (name == "oneOf") {
            for (std::size_t i = 0; i < list.size(); ++i) {
                for (std::size_t j = 0; j < i; ++j) {
                    if (!are_apart(root_, list[i], list[j])) {
                        return fail(
                            ErrorCode::unsupported,
                            "'oneOf' at {} has schemas {} and {} that might both fit: not supported; use "
                            "'anyOf', or tell them apart by 'type' or a 'const' property",
                            at, j, i);
                    }
                }
            }
        }
        std::vector<Fragment> ways;
        for (std::size_t i = 0; i < list.size(); ++i) {
            RETORT_TRY(const Fragment way, compile(list[i], fmt::format("{}/{}/{}", at, name, i)));
            ways.push_back(way);
        }
        return b_.choice(ways);
    }

    Result<Fragment> constants(const Json& values, const Json& schema, const std::string& at) {
        const char* keyword = schema.contains("const") ? "const" : "enum";
        RETORT_CHECK(check_alone(keyword, schema, at, "type"));
        if (!values.is_array() || values.empty()) {
            return fail(ErrorCode::invalid_argument, "'enum' at {} is not a list of values", at);
        }
        RETORT_TRY(const std::vector<std::string> types, types_of(schema, at));
        std::vector<Fragment> ways;
        for (const Json& value : values) {
            const std::string_view type = type_of(value);
            const bool fits =
                types.empty() || std::any_of(types.begin(), types.end(), [&](const std::string& wanted) {
                    return wanted == type || (wanted == "integer" && value.is_number_integer());
                });
            if (fits) ways.push_back(b_.literal(text_of(value)));
        }
        if (ways.empty())
            return fail(ErrorCode::invalid_argument, "no value of '{}' at {} has its 'type'", keyword, at);
        return b_.choice(ways);
    }

    // Empty: any. Without "type", the keywords that are there tell which is meant.
    static Result<std::vector<std::string>> types_of(const Json& schema, const std::string& at) {
        constexpr auto known = std::to_array<std::string_view>(
            {"string", "number", "integer", "boolean", "null", "object", "array"});
        std::vector<std::string> types;
        const Json given = schema.value("type", Json());
        const Json list = given.is_array() ? given : given.is_null() ? Json::array() : Json::array({given});
        for (const Json& type : list) {
            if (!type.is_string() || !is_one_of(known, type.get<std::string>())) {
                return fail(ErrorCode::invalid_argument, "'type' at {} is {}, which is no type", at,
                            text_of(type));
            }
            types.push_back(type.get<std::string>());
        }
        if (!types.empty()) return types;
        const auto has = [&](std::initializer_list<const char*> names) {
            return std::any_of(names.begin(), names.end(),
                               [&](const char* name) { return schema.contains(name); });
        };
        if (has({"properties", "required", "additionalProperties"})) types.emplace_back("object");
        if (has({"items", "prefixItems", "minItems", "maxItems"})) types.emplace_back("array");
        if (has({"minLength", "maxLength", "pattern", "format"})) types.emplace_back("string");
        if (has({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) types.emplace_back("number");
        return types;
    }

    Result<Fragment> typed(const std::string& type, const Json& schema, const std::string& at) {
        if (type == "string") return string(schema, at);
        if (type == "integer" || type == "number") return number(type == "integer", schema, at);
        if (type == "object") return object(schema, at);
        if (type == "array") return array(schema, at);
        if (type == "boolean") return b_.choice({b_.literal("true"), b_.literal("false")});
        return b_.literal("null");
    }

    static Result<std::optional<std::int64_t>> count_of(const Json& schema, const char* name,
                                                        const std::string& at) {
        const auto it = schema.find(name);
        if (it == schema.end()) return std::optional<std::int64_t>();
        if (!it->is_number_integer() || *it < 0) {
            return fail(ErrorCode::invalid_argument, "'{}' at {} is not a whole number from 0", name, at);
        }
        if (it->get<double>() > static_cast<double>(max_count)) {
            return fail(ErrorCode::unsupported, "'{}' at {} is above {}, which is not supported", name, at,
                        max_count);
        }
        return std::optional(it->get<std::int64_t>());
    }

    Result<Fragment> string(const Json& schema, const std::string& at) {
        RETORT_TRY(const auto least, count_of(schema, "minLength", at));
        RETORT_TRY(const auto most, count_of(schema, "maxLength", at));
        std::string pattern;
        for (const char* name : {"format", "pattern"}) {
            const auto it = schema.find(name);
            if (it == schema.end()) continue;
            if (!it->is_string())
                return fail(ErrorCode::invalid_argument, "'{}' at {} is not a string", name, at);
            if (!pattern.empty())
                return fail(ErrorCode::unsupported, "'pattern' beside 'format' at {} is not supported", at);
            pattern = it->get<std::string>();
            if (std::string_view(name) == "pattern") continue;
            const auto format = std::find_if(formats.begin(), formats.end(),
                                             [&](const Format& f) { return f.name == pattern; });
            if (format == formats.end()) {
                return fail(ErrorCode::unsupported, "the format '{}' at {} is not supported", pattern, at);
            }
            pattern = format->pattern;
        }
        if (schema.contains("pattern") || schema.contains("format")) {
            if ((least && *least > 0) || most) {
                return fail(ErrorCode::unsupported,
                            "'minLength' or 'maxLength' beside '{}' at {} is not supported",
                            schema.contains("pattern") ? "pattern" : "format", at);
            }
            auto body = string_matching(b_, pattern);
            if (!body) return fail_from(body.error(), at);
            return b_.sequence({b_.literal("\""), *body, b_.literal("\"")});
        }
        if (!least && !most) return json_.string();
        if (most && least && *most < *least) {
            return fail(ErrorCode::invalid_argument, "'maxLength' is below 'minLength' at {}", at);
        }
        return b_.sequence(
            {b_.literal("\""),
             b_.repeat([this] { return json_.character(); }, least.value_or(0), most.value_or(-1)),
             b_.literal("\"")});
    }

    Result<Fragment> number(bool whole, const Json& schema, const std::string& at) {
        NumberRange range;
        for (const char* name : {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}) {
            const auto it = schema.find(name);
            if (it == schema.end()) continue;
            if (!it->is_number())
                return fail(ErrorCode::invalid_argument, "'{}' at {} is not a number", name, at);
            const bool is_low = std::string_view(name).ends_with("inimum");
            const bool excluded = std::string_view(name).starts_with("excl");
            double bound = it->get<double>();
            bool open = excluded;
            if (bound != std::floor(bound)) {
                if (!whole) {
                    return fail(ErrorCode::unsupported,
                                "'{}' of a number that is not whole ({}) at {} is not supported", name, bound,
                                at);
                }
                bound = is_low ? std::ceil(bound) : std::floor(bound);
                open = false;
            }
            if (std::abs(bound) > 1e15) continue;  // beyond what is generated
            auto& side = is_low ? range.low : range.high;
            bool& side_open = is_low ? range.low_excluded : range.high_excluded;
            const auto value = static_cast<std::int64_t>(bound);
            const bool tighter =
                !side || (is_low ? value > *side : value < *side) || (value == *side && open);
            if (tighter) side = value, side_open = open;
        }
        if (!range.low && !range.high) return whole ? json_.integer() : json_.number();
        return whole ? integer_in(b_, range) : decimal_in(b_, range);
    }

    Result<Fragment> array(const Json& schema, const std::string& at) {
        RETORT_TRY(const auto least, count_of(schema, "minItems", at));
        RETORT_TRY(const auto most, count_of(schema, "maxItems", at));
        std::vector<std::int32_t> prefix;
        if (const auto it = schema.find("prefixItems"); it != schema.end()) {
            if (!it->is_array())
                return fail(ErrorCode::invalid_argument, "'prefixItems' at {} is not a list", at);
            for (std::size_t i = 0; i < it->size(); ++i) {
                RETORT_TRY(const Fragment item, compile((*it)[i], fmt::format("{}/prefixItems/{}", at, i)));
                prefix.push_back(as_rule(item));
            }
        }
        std::int32_t rest = -1;  // none further
        if (const auto it = schema.find("items"); it != schema.end()) {
            if (*it != Json(false)) {
                RETORT_TRY(const Fragment item, compile(*it, at + "/items"));
                rest = as_rule(item);
            }
        } else if (prefix.empty()) {
            rest = as_rule(json_.value());
        }
        const auto fixed = static_cast<std::int64_t>(prefix.size());
        std::int64_t low = least.value_or(0);
        std::int64_t high = most.value_or(-1);
        if (rest < 0) high = high < 0 ? fixed : std::min(high, fixed);
        if (high >= 0 && low > high) {
            return fail(ErrorCode::invalid_argument, "no array fits 'minItems' and 'maxItems' at {}", at);
        }
        // From the back: what may follow item i, each tail made once.
        const std::int64_t chained = std::max({low, high, fixed, std::int64_t{0}});
        Fragment tail = b_.nothing();
        if (high < 0) tail = b_.star(b_.sequence({b_.literal(","), json_.space(), b_.call(rest)}));
        for (std::int64_t i = chained - 1; i >= 0; --i) {
            if (high >= 0 && i >= high) continue;
            std::vector<Fragment> parts;
            if (i > 0) parts = {b_.literal(","), json_.space()};
            parts.push_back(b_.call(i < fixed ? prefix[static_cast<std::size_t>(i)] : rest));
            parts.push_back(tail);
            tail = b_.sequence(parts);
            if (i >= low) tail = b_.optional(tail);
        }
        if (chained == 0 && high < 0) {
            tail = b_.optional(b_.sequence({b_.call(rest), tail}));
        }
        return b_.sequence({b_.literal("["), json_.space(), tail, json_.space(), b_.literal("]")});
    }

    std::int32_t as_rule(Fragment body) {
        const std::int32_t rule = b_.new_rule();
        b_.define(rule, body);
        return rule;
    }

    struct Property {
        std::int32_t rule;
        bool required;
    };

    Result<Fragment> object(const Json& schema, const std::string& at) {
        static const Json none = Json::object();
        const Json& given = schema.contains("properties") ? schema["properties"] : none;
        const Json wanted = schema.value("required", Json::array());
        if (!given.is_object())
            return fail(ErrorCode::invalid_argument, "'properties' at {} is not an object", at);
        if (!wanted.is_array())
            return fail(ErrorCode::invalid_argument, "'required' at {} is not a list", at);
        const bool says_more = schema.contains("additionalProperties");
        const Json more = says_more ? schema["additionalProperties"] : Json(!schema.contains("properties"));
        const auto is_required = [&](const std::string& name) {
            return std::find(wanted.begin(), wanted.end(), Json(name)) != wanted.end();
        };
        std::vector<Property> properties;
        std::vector<std::string> names;
        const auto add = [&](const std::string& name, const Json& of, const std::string& where) -> Status {
            RETORT_TRY(const Fragment value, compile(of, where));
            names.push_back(name);
            properties.push_back(
                {as_rule(b_.sequence({b_.literal(text_of(Json(name)) + ":"), json_.space(), value})),
                 is_required(name)});
            return {};
        };
        for (const auto& [name, of] : given.items()) RETORT_CHECK(add(name, of, at + "/properties/" + name));
        for (const Json& name : wanted) {
            if (!name.is_string())
                return fail(ErrorCode::invalid_argument, "'required' at {} is not a list of names", at);
            if (given.contains(name.get<std::string>())) continue;
            if (says_more && more == Json(false)) {
                return fail(ErrorCode::invalid_argument,
                            "'{}' is required but not among the properties at {}", name.get<std::string>(),
                            at);
            }
            RETORT_CHECK(
                add(name.get<std::string>(), says_more ? more : Json(true), at + "/additionalProperties"));
        }
        std::int32_t extra = -1;
        if (more != Json(false)) {
            RETORT_TRY(const Fragment value, compile(more, at + "/additionalProperties"));
            extra =
                as_rule(b_.sequence({json_.key_other_than(names), b_.literal(":"), json_.space(), value}));
        }
        return b_.sequence({b_.literal("{"), json_.space(), members(properties, extra), b_.literal("}")});
    }

    // Members in the order of the schema. Two tracks side by side: nothing written yet, and something, after
    // which a comma is needed. Made from the back.
    Fragment members(const std::vector<Property>& properties, std::int32_t extra) {
        const auto comma = [&] { return b_.sequence({b_.literal(","), json_.space()}); };
        // Rules, as both tracks lead into the second one.
        std::int32_t some = as_rule(
            extra < 0 ? json_.space()
                      : b_.sequence({b_.star(b_.sequence({comma(), b_.call(extra)})), json_.space()}));
        Fragment fresh = extra < 0 ? b_.nothing() : b_.optional(b_.sequence({b_.call(extra), b_.call(some)}));
        for (auto property = properties.rbegin(); property != properties.rend(); ++property) {
            const Fragment first = b_.sequence({b_.call(property->rule), b_.call(some)});
            fresh = property->required ? first : b_.choice({first, fresh});
            const Fragment with = b_.sequence({comma(), b_.call(property->rule), b_.call(some)});
            some = as_rule(property->required ? with : b_.choice({with, b_.call(some)}));
        }
        return fresh;
    }

    GrammarBuilder& b_;
    JsonGrammar json_;
    const Json& root_;
    std::string root_at_;
    int depth_ = 0;
    std::map<std::string, std::int32_t> references_;
};

}  // namespace

Result<Fragment> schema_value(GrammarBuilder& builder, const Json& schema, const std::string& at) {
    return SchemaCompiler(builder, schema, at).compile(schema, at);
}

}  // namespace retort::grammar
