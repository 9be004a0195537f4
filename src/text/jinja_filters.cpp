// Filters: `value | name(arguments)`.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "text/jinja_interpreter.h"
#include "text/jinja_python.h"
#include "text/unicode.h"

namespace retort::text::jinja {
namespace {

Result<std::int64_t> integer_or(const Arguments& arguments, std::size_t index, std::string_view name,
                                std::int64_t fallback) {
    const Value* value = arguments.get(index, name);
    if (value == nullptr || value->is_none()) return fallback;
    if (!value->is_integer()) {
        return fail(ErrorCode::invalid_argument, "the argument '{}' must be an integer, not '{}'", name,
                    type_name(*value));
    }
    return value->as_integer();
}

bool flag(const Arguments& arguments, std::size_t index, std::string_view name, bool fallback) {
    const Value* value = arguments.get(index, name);
    return value == nullptr ? fallback : truthy(*value);
}

// "a.b.0" of a value, as attribute= arguments have it.
Result<Value> attribute_path(Interpreter& interpreter, Value value, const Value& path) {
    if (path.is_integer()) return interpreter.get_item(value, path);
    if (!path.is_string())
        return fail(ErrorCode::invalid_argument, "an attribute must be a string or an integer");
    std::string_view rest = path.text();
    while (true) {
        const std::size_t dot = rest.find('.');
        const std::string_view part = rest.substr(0, dot);
        std::int64_t index = 0;
        const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), index);
        const bool number =
            code == std::errc() && end == part.data() + part.size() && !part.empty() && part[0] != '-';
        RETORT_TRY(value, interpreter.get_item(
                              value, number ? Value::integer(index) : Value::string(std::string(part))));
        if (dot == std::string_view::npos) return value;
        rest.remove_prefix(dot + 1);
    }
}

Result<Value> trim(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("trim", {"chars"}));
    RETORT_TRY(const std::string text, interpreter.to_text(value));
    const Value* chars = arguments.get(0, "chars");
    std::optional<std::string_view> set;
    if (chars != nullptr && chars->is_string()) set = chars->text();
    if (set) RETORT_CHECK(interpreter.step(text.size() * set->size() / 64));
    return interpreter.make_string(std::string(strip(text, set, true, true)));
}

// Words begin after white space, a hyphen or an opening bracket; str.title() sees more of them.
std::string title_words(std::string_view text) {
    std::string out;
    std::size_t begin = 0;
    const auto flush = [&](std::size_t end) {
        if (end <= begin) return;
        const std::size_t first = decode_valid(text, begin).length;
        out +=
            to_upper(text.substr(begin, first)) + to_lower(text.substr(begin + first, end - begin - first));
    };
    for (std::size_t at = 0; at < text.size();) {
        const Decoded c = decode_valid(text, at);
        if (is_python_space(c.point) || c.point == '-' || c.point == '(' || c.point == '{' ||
            c.point == '[' || c.point == '<') {
            flush(at);
            out += text.substr(at, c.length);
            begin = at + c.length;
        }
        at += c.length;
    }
    flush(text.size());
    return out;
}

template <std::string (*function)(std::string_view)>
Result<Value> change_case(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("a filter of case", {}));
    RETORT_TRY(const std::string text, interpreter.to_text(value));
    return interpreter.make_string(function(text));
}

Result<Value> length(Interpreter&, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("length", {}));
    std::size_t count = 0;
    if (value.is_string()) {
        count = length_in_characters(value.text());
    } else if (const List* list = value.as_list(); list != nullptr && list->kind != List::Kind::generator) {
        count = list->items.size();
    } else if (const Dict* dict = value.as_dict()) {
        count = dict->entries().size();
    } else if (!value.is_undefined()) {
        return fail(ErrorCode::invalid_argument, "object of type '{}' has no length", type_name(value));
    }
    return Value::integer(static_cast<std::int64_t>(count));
}

Result<Value> default_value(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("default", {"default_value", "boolean"}));
    if (!value.is_undefined() && !(flag(arguments, 1, "boolean", false) && !truthy(value))) return value;
    const Value* fallback = arguments.get(0, "default_value");
    if (fallback != nullptr) return *fallback;
    return interpreter.make_string({});
}

Result<Value> join(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("join", {"d", "attribute"}));
    std::string separator;
    if (const Value* given = arguments.get(0, "d")) {
        RETORT_TRY(separator, interpreter.to_text(*given));
    }
    const Value* attribute = arguments.get(1, "attribute");
    RETORT_TRY(std::vector<Value> items, interpreter.to_items(value));
    std::string out;
    bool first = true;
    for (Value& item : items) {
        if (attribute != nullptr && !attribute->is_none()) {
            RETORT_TRY(item, attribute_path(interpreter, std::move(item), *attribute));
        }
        RETORT_TRY(const std::string text, interpreter.to_text(item));
        RETORT_CHECK(interpreter.charge(separator.size()));
        if (!first) out += separator;
        first = false;
        out += text;
    }
    return interpreter.make_string(std::move(out));
}

Result<Value> replace_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("replace", {"old", "new", "count"}, 2));
    RETORT_TRY(const std::string text, interpreter.to_text(value));
    RETORT_TRY(const std::string from, interpreter.to_text(*arguments.get(0, "old")));
    RETORT_TRY(const std::string to, interpreter.to_text(*arguments.get(1, "new")));
    RETORT_TRY(const std::int64_t count, integer_or(arguments, 2, "count", -1));
    RETORT_TRY(std::string result, replace(text, from, to, count, interpreter.bytes_left()));
    return interpreter.make_string(std::move(result));
}

Result<Value> first(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("first", {}));
    RETORT_TRY(const std::vector<Value> items, interpreter.to_items(value));
    return items.empty() ? Value::undefined("the first item of nothing") : items.front();
}

Result<Value> last(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("last", {}));
    RETORT_TRY(const std::vector<Value> items, interpreter.to_items(value));
    return items.empty() ? Value::undefined("the last item of nothing") : items.back();
}

Result<Value> list_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("list", {}));
    RETORT_TRY(std::vector<Value> items, interpreter.to_items(value));
    return interpreter.make_list(std::move(items));
}

Result<Value> items_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("items", {}));
    if (value.is_undefined()) return interpreter.make_list({}, List::Kind::generator);
    if (value.as_dict() == nullptr)
        return fail(ErrorCode::invalid_argument, "items: a '{}' is no mapping", type_name(value));
    RETORT_TRY(const Value view, call_method(interpreter, value, "items", {}));
    return interpreter.make_list(view.as_list()->items, List::Kind::generator);
}

Result<Value> string_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("string", {}));
    if (value.is_string()) return value;
    RETORT_TRY(std::string text, interpreter.to_text(value));
    return interpreter.make_string(std::move(text));
}

// int(): "42", " 42 ", "4_2", and through a float "4.9".
Result<Value> int_filter(Interpreter&, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("int", {"default", "base"}));
    const Value* fallback = arguments.get(0, "default");
    RETORT_TRY(const std::int64_t base, integer_or(arguments, 1, "base", 10));
    const auto truncated = [](double number) -> std::optional<std::int64_t> {
        if (!(std::abs(number) < 9.2e18)) return std::nullopt;
        return static_cast<std::int64_t>(number);
    };
    std::optional<std::int64_t> result;
    if (value.is_integer()) {
        result = value.as_integer();
    } else if (value.is<double>()) {
        result = truncated(value.as_number());
    } else if (value.is_string() && base >= 2 && base <= 36) {
        std::string_view text = strip(value.text(), std::nullopt, true, true);
        if (text.starts_with('+')) text.remove_prefix(1);
        std::int64_t integer = 0;
        const char* const end = text.data() + text.size();
        if (const auto [stop, code] = std::from_chars(text.data(), end, integer, static_cast<int>(base));
            code == std::errc() && stop == end) {
            result = integer;
        } else {
            double number = 0;
            if (const auto [at, error] = std::from_chars(text.data(), end, number);
                error == std::errc() && at == end) {
                result = truncated(number);
            }
        }
    }
    if (result) return Value::integer(*result);
    return fallback != nullptr ? *fallback : Value::integer(0);
}

Result<Value> float_filter(Interpreter&, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("float", {"default"}));
    if (value.is_number()) return Value::number(value.as_number());
    if (value.is_string()) {
        std::string_view text = strip(value.text(), std::nullopt, true, true);
        if (text.starts_with('+')) text.remove_prefix(1);
        double number = 0;
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (code == std::errc() && end == text.data() + text.size()) return Value::number(number);
    }
    const Value* fallback = arguments.get(0, "default");
    return fallback != nullptr ? *fallback : Value::number(0);
}

Result<Value> tojson(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}));
    JsonStyle style;
    style.ensure_ascii = flag(arguments, 0, "ensure_ascii", false);
    style.sort_keys = flag(arguments, 3, "sort_keys", false);
    const Value* indent = arguments.get(1, "indent");
    if (indent != nullptr && !indent->is_none()) {
        if (indent->is_string()) {
            style.indent = indent->text();
        } else if (indent->is_integer()) {
            style.indent = std::string(
                static_cast<std::size_t>(std::clamp<std::int64_t>(indent->as_integer(), 0, 64)), ' ');
        } else {
            return fail(ErrorCode::invalid_argument, "tojson: indent must be an integer or a string");
        }
        style.item_separator = ",";
    }
    const Value* separators = arguments.get(2, "separators");
    if (separators != nullptr && !separators->is_none()) {
        const List* pair = separators->as_list();
        if (pair == nullptr || pair->items.size() != 2 || !pair->items[0].is_string() ||
            !pair->items[1].is_string()) {
            return fail(ErrorCode::invalid_argument, "tojson: separators must be two strings");
        }
        style.item_separator = pair->items[0].text();
        style.key_separator = pair->items[1].text();
    }
    RETORT_TRY(std::string text, json_dumps(value, style, interpreter.bytes_left()));
    return interpreter.make_string(std::move(text));
}

Result<Value> indent_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("indent", {"width", "first", "blank"}));
    RETORT_TRY(const std::string text, interpreter.to_text(value));
    const Value* width = arguments.get(0, "width");
    std::string indentation(4, ' ');
    if (width != nullptr && width->is_string()) {
        indentation = width->text();
    } else if (width != nullptr) {
        RETORT_TRY(const std::int64_t columns, integer_or(arguments, 0, "width", 4));
        indentation.assign(static_cast<std::size_t>(std::clamp<std::int64_t>(columns, 0, 1024)), ' ');
    }
    const bool blank = flag(arguments, 2, "blank", false);
    std::string out = flag(arguments, 1, "first", false) ? indentation : std::string();
    const std::string ended = text + "\n";
    const std::vector<std::string_view> lines = splitlines(ended);
    for (std::size_t i = 0; i < lines.size(); ++i) {
        RETORT_CHECK(interpreter.charge(indentation.size() + lines[i].size() + 1));
        if (i > 0) {
            out += '\n';
            if (blank || !lines[i].empty()) out += indentation;
        }
        out += lines[i];
    }
    return interpreter.make_string(std::move(out));
}

// The arguments of map(), select() and their like after the first `count` positional ones.
Arguments rest_of(const Arguments& arguments, std::size_t count) {
    Arguments rest;
    for (std::size_t i = count; i < arguments.positional.size(); ++i)
        rest.positional.push_back(arguments.positional[i]);
    rest.named = arguments.named;
    return rest;
}

Result<Value> map_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    if (!truthy(value))
        return interpreter.make_list({}, List::Kind::generator);  // none counts as nothing here
    RETORT_TRY(std::vector<Value> items, interpreter.to_items(value));
    const Value* attribute = arguments.get(SIZE_MAX, "attribute");
    if (arguments.positional.empty() && attribute != nullptr) {
        RETORT_CHECK(arguments.check("map", {"attribute", "default"}));
        const Value* fallback = arguments.get(SIZE_MAX, "default");
        for (Value& item : items) {
            RETORT_CHECK(interpreter.step());
            RETORT_TRY(item, attribute_path(interpreter, std::move(item), *attribute));
            if (item.is_undefined() && fallback != nullptr) item = *fallback;
        }
    } else {
        if (arguments.positional.empty() || !arguments.positional[0].is_string()) {
            return fail(ErrorCode::invalid_argument, "map requires a filter's name or attribute=");
        }
        const Arguments rest = rest_of(arguments, 1);
        for (Value& item : items) {
            RETORT_CHECK(interpreter.step());
            RETORT_TRY(item, interpreter.filter(arguments.positional[0].text(), item, rest));
        }
    }
    return interpreter.make_list(std::move(items), List::Kind::generator);
}

template <bool by_attribute, bool keep>
Result<Value> select_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    if (!truthy(value)) return interpreter.make_list({}, List::Kind::generator);
    RETORT_TRY(std::vector<Value> items, interpreter.to_items(value));
    constexpr std::size_t test_index = by_attribute ? 1 : 0;
    if (by_attribute && arguments.positional.empty()) {
        return fail(ErrorCode::invalid_argument, "{}attr requires an attribute", keep ? "select" : "reject");
    }
    const bool has_test = arguments.positional.size() > test_index;
    if (has_test && !arguments.positional[test_index].is_string()) {
        return fail(ErrorCode::invalid_argument, "a test's name must be a string");
    }
    const Arguments rest = rest_of(arguments, test_index + 1);
    std::vector<Value> kept;
    for (Value& item : items) {
        RETORT_CHECK(interpreter.step());
        Value subject = item;
        if (by_attribute) {
            RETORT_TRY(subject, attribute_path(interpreter, std::move(subject), arguments.positional[0]));
        }
        bool holds = truthy(subject);
        if (has_test) {
            RETORT_TRY(holds, interpreter.test(arguments.positional[test_index].text(), subject, rest));
        }
        if (holds == keep) kept.push_back(std::move(item));
    }
    return interpreter.make_list(std::move(kept), List::Kind::generator);
}

// What sort, unique, min and max compare by: the attribute, strings without regard to case.
Result<Value> sort_key(Interpreter& interpreter, const Value& item, const Value* attribute,
                       bool case_sensitive) {
    Value key = item;
    if (attribute != nullptr && !attribute->is_none()) {
        RETORT_TRY(key, attribute_path(interpreter, std::move(key), *attribute));
    }
    if (key.is_string() && !case_sensitive) return interpreter.make_string(to_lower(key.text()));
    return key;
}

using Keyed = std::vector<std::pair<Value, Value>>;

// Merge sort by hand: a comparison may fail, which std::sort has no place for.
Result<Keyed> sort_keyed(Interpreter& interpreter, Keyed items, bool reverse) {
    Keyed other(items.size());
    for (std::size_t width = 1; width < items.size(); width *= 2) {
        for (std::size_t begin = 0; begin < items.size(); begin += 2 * width) {
            const std::size_t middle = std::min(begin + width, items.size());
            const std::size_t end = std::min(begin + 2 * width, items.size());
            std::size_t left = begin;
            std::size_t right = middle;
            for (std::size_t at = begin; at < end; ++at) {
                bool take_left = right >= end;
                if (left < middle && right < end) {
                    RETORT_TRY(const int order, interpreter.order(items[left].first, items[right].first));
                    take_left = reverse ? order >= 0 : order <= 0;
                }
                other[at] = std::move(take_left ? items[left++] : items[right++]);
            }
        }
        items.swap(other);
    }
    return items;
}

Result<Keyed> keyed_items(Interpreter& interpreter, const Value& value, const Value* attribute,
                          bool case_sensitive) {
    RETORT_TRY(std::vector<Value> items, interpreter.to_items(value));
    Keyed keyed;
    for (Value& item : items) {
        RETORT_TRY(Value key, sort_key(interpreter, item, attribute, case_sensitive));
        keyed.emplace_back(std::move(key), std::move(item));
    }
    return keyed;
}

Result<Value> sort_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("sort", {"reverse", "case_sensitive", "attribute"}));
    RETORT_TRY(Keyed keyed, keyed_items(interpreter, value, arguments.get(2, "attribute"),
                                        flag(arguments, 1, "case_sensitive", false)));
    RETORT_TRY(keyed, sort_keyed(interpreter, std::move(keyed), flag(arguments, 0, "reverse", false)));
    std::vector<Value> items;
    for (auto& [key, item] : keyed) items.push_back(std::move(item));
    return interpreter.make_list(std::move(items));
}

Result<Value> dictsort(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("dictsort", {"case_sensitive", "by", "reverse"}));
    if (value.as_dict() == nullptr)
        return fail(ErrorCode::invalid_argument, "dictsort of a '{}'", type_name(value));
    const Value* by = arguments.get(1, "by");
    const bool by_value = by != nullptr && by->is_string() && by->text() == "value";
    RETORT_TRY(const Value view, call_method(interpreter, value, "items", {}));
    const Value index = Value::integer(by_value ? 1 : 0);
    RETORT_TRY(Keyed keyed,
               keyed_items(interpreter, view, &index, flag(arguments, 0, "case_sensitive", false)));
    RETORT_TRY(keyed, sort_keyed(interpreter, std::move(keyed), flag(arguments, 2, "reverse", false)));
    std::vector<Value> items;
    for (auto& [key, item] : keyed) items.push_back(std::move(item));
    return interpreter.make_list(std::move(items));
}

template <bool largest>
Result<Value> extreme(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check(largest ? "max" : "min", {"case_sensitive", "attribute"}));
    RETORT_TRY(Keyed keyed, keyed_items(interpreter, value, arguments.get(1, "attribute"),
                                        flag(arguments, 0, "case_sensitive", false)));
    if (keyed.empty()) return Value::undefined("the extreme of nothing");
    std::size_t best = 0;
    for (std::size_t i = 1; i < keyed.size(); ++i) {
        RETORT_TRY(const int order, interpreter.order(keyed[i].first, keyed[best].first));
        if (largest ? order > 0 : order < 0) best = i;
    }
    return keyed[best].second;
}

Result<Value> unique(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("unique", {"case_sensitive", "attribute"}));
    RETORT_TRY(Keyed keyed, keyed_items(interpreter, value, arguments.get(1, "attribute"),
                                        flag(arguments, 0, "case_sensitive", false)));
    Keyed kept;
    for (auto& [key, item] : keyed) {
        bool seen = false;
        for (std::size_t i = 0; i < kept.size() && !seen; ++i) {
            RETORT_TRY(seen, interpreter.same(kept[i].first, key));
        }
        if (!seen) kept.emplace_back(std::move(key), std::move(item));
    }
    std::vector<Value> items;
    for (auto& [key, item] : kept) items.push_back(std::move(item));
    return interpreter.make_list(std::move(items), List::Kind::generator);
}

Result<Value> reverse_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("reverse", {}));
    if (value.is_string()) return slice(interpreter, value, Value::none(), Value::none(), Value::integer(-1));
    RETORT_TRY(std::vector<Value> items, interpreter.to_items(value));
    std::reverse(items.begin(), items.end());
    return interpreter.make_list(std::move(items), List::Kind::generator);
}

Result<Value> sum_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("sum", {"attribute", "start"}));
    const Value* attribute = arguments.get(0, "attribute");
    const Value* start = arguments.get(1, "start");
    Value total = start != nullptr ? *start : Value::integer(0);
    RETORT_TRY(std::vector<Value> items, interpreter.to_items(value));
    for (Value& item : items) {
        if (attribute != nullptr && !attribute->is_none()) {
            RETORT_TRY(item, attribute_path(interpreter, std::move(item), *attribute));
        }
        RETORT_TRY(total, binary_operation(interpreter, "+", total, item));
    }
    return total;
}

Result<Value> abs_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("abs", {}));
    if (!value.is_number()) return fail(ErrorCode::invalid_argument, "abs of a '{}'", type_name(value));
    if (value.is<double>()) return Value::number(std::abs(value.as_number()));
    if (value.as_integer() >= 0) return Value::integer(value.as_integer());
    return binary_operation(interpreter, "-", Value::integer(0), value);
}

Result<Value> round_filter(Interpreter&, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("round", {"precision", "method"}));
    RETORT_TRY(const std::int64_t precision, integer_or(arguments, 0, "precision", 0));
    const Value* given = arguments.get(1, "method");
    const std::string method = given != nullptr && given->is_string() ? given->text() : "common";
    if (!value.is_number() || precision < 0 || precision > 300) {
        return fail(ErrorCode::invalid_argument, "round of a '{}' to {} places", type_name(value), precision);
    }
    if (method == "common" && value.is_integer()) return Value::integer(value.as_integer());
    if (method == "common") {
        // Printing rounds the exact value half to even, as Python does.
        const std::string text = fmt::format("{:.{}f}", value.as_number(), precision);
        double rounded = 0;
        std::from_chars(text.data(), text.data() + text.size(), rounded);
        return Value::number(rounded);
    }
    const double scale = std::pow(10.0, static_cast<double>(precision));
    if (method == "ceil") return Value::number(std::ceil(value.as_number() * scale) / scale);
    if (method == "floor") return Value::number(std::floor(value.as_number() * scale) / scale);
    return fail(ErrorCode::invalid_argument, "round: method must be common, ceil or floor");
}

Result<Value> escape(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("escape", {}));
    RETORT_TRY(const std::string text, interpreter.to_text(value));
    std::string out;
    RETORT_CHECK(interpreter.charge(text.size() * 5));
    for (const char c : text) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&#34;";
                break;
            case '\'':
                out += "&#39;";
                break;
            default:
                out += c;
        }
    }
    return interpreter.make_string(std::move(out));
}

Result<Value> safe(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    return string_filter(interpreter, value, arguments);
}

Result<Value> attr(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("attr", {"name"}, 1));
    const Value* name = arguments.get(0, "name");
    if (!name->is_string()) return fail(ErrorCode::invalid_argument, "attr wants a name");
    // Attributes only, never items.
    if (value.as_dict() != nullptr && find_method(value, name->text()).empty())
        return Value::undefined("an attribute");
    return interpreter.get_item(value, *name);
}

Result<Value> format_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    if (!arguments.named.empty())
        return fail(ErrorCode::unsupported, "format with named arguments is not supported");
    RETORT_TRY(const std::string text, interpreter.to_text(value));
    RETORT_TRY(std::string result, printf_format(text, arguments.positional, interpreter.bytes_left()));
    return interpreter.make_string(std::move(result));
}

Result<Value> wordcount(Interpreter&, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("wordcount", {}));
    if (!value.is_string()) return fail(ErrorCode::invalid_argument, "wordcount of a '{}'", type_name(value));
    std::int64_t words = 0;
    bool inside = false;
    for (std::size_t at = 0; at < value.text().size();) {
        const Decoded c = decode_valid(value.text(), at);
        at += c.length;
        const bool word = CharacterTable::get().word(c.point);
        if (word && !inside) ++words;
        inside = word;
    }
    return Value::integer(words);
}

const std::unordered_map<std::string_view, FilterFunction>& filters() {
    static const std::unordered_map<std::string_view, FilterFunction> table = {
        {"abs", abs_filter},
        {"attr", attr},
        {"capitalize", change_case<capitalize>},
        {"count", length},
        {"d", default_value},
        {"default", default_value},
        {"dictsort", dictsort},
        {"e", escape},
        {"escape", escape},
        {"first", first},
        {"float", float_filter},
        {"format", format_filter},
        {"indent", indent_filter},
        {"int", int_filter},
        {"items", items_filter},
        {"join", join},
        {"last", last},
        {"length", length},
        {"list", list_filter},
        {"lower", change_case<to_lower>},
        {"map", map_filter},
        {"max", extreme<true>},
        {"min", extreme<false>},
        {"reject", select_filter<false, false>},
        {"rejectattr", select_filter<true, false>},
        {"replace", replace_filter},
        {"reverse", reverse_filter},
        {"round", round_filter},
        {"safe", safe},
        {"select", select_filter<false, true>},
        {"selectattr", select_filter<true, true>},
        {"sort", sort_filter},
        {"string", string_filter},
        {"sum", sum_filter},
        {"title", change_case<title_words>},
        {"tojson", tojson},
        {"trim", trim},
        {"unique", unique},
        {"upper", change_case<to_upper>},
        {"wordcount", wordcount},
    };
    return table;
}

}  // namespace

FilterFunction find_filter(std::string_view name) {
    const auto found = filters().find(name);
    return found == filters().end() ? nullptr : found->second;
}

}  // namespace retort::text::jinja
