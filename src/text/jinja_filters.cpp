// Filters of one value: `value | name(arguments)`. Those of sequences are in jinja_filters_sequence.cpp.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "text/jinja_interpreter.h"
#include "text/jinja_python.h"
#include "text/jinja_strings.h"
#include "text/unicode.h"

namespace retort::text::jinja {
namespace {

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

Result<Value> default_value(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("default", {"default_value", "boolean"}));
    if (!value.is_undefined() && !(arguments.flag(1, "boolean", false) && !truthy(value))) return value;
    const Value* fallback = arguments.get(0, "default_value");
    if (fallback != nullptr) return *fallback;
    return interpreter.make_string({});
}

Result<Value> replace_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("replace", {"old", "new", "count"}, 2));
    RETORT_TRY(const std::string text, interpreter.to_text(value));
    RETORT_TRY(const std::string from, interpreter.to_text(*arguments.get(0, "old")));
    RETORT_TRY(const std::string to, interpreter.to_text(*arguments.get(1, "new")));
    RETORT_TRY(const std::int64_t count, arguments.integer_or(2, "count", -1));
    RETORT_TRY(std::string result, replace(text, from, to, count, interpreter.bytes_left()));
    return interpreter.make_string(std::move(result));
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
    RETORT_TRY(const std::int64_t base, arguments.integer_or(1, "base", 10));
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
    style.ensure_ascii = arguments.flag(0, "ensure_ascii", false);
    style.sort_keys = arguments.flag(3, "sort_keys", false);
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
        RETORT_TRY(const std::int64_t columns, arguments.integer_or(0, "width", 4));
        indentation.assign(static_cast<std::size_t>(std::clamp<std::int64_t>(columns, 0, 1024)), ' ');
    }
    const bool blank = arguments.flag(2, "blank", false);
    std::string out = arguments.flag(1, "first", false) ? indentation : std::string();
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

Result<Value> abs_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("abs", {}));
    if (!value.is_number()) return fail(ErrorCode::invalid_argument, "abs of a '{}'", type_name(value));
    if (value.is<double>()) return Value::number(std::abs(value.as_number()));
    if (value.as_integer() >= 0) return Value::integer(value.as_integer());
    return binary_operation(interpreter, "-", Value::integer(0), value);
}

Result<Value> round_filter(Interpreter&, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("round", {"precision", "method"}));
    RETORT_TRY(const std::int64_t precision, arguments.integer_or(0, "precision", 0));
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

const std::unordered_map<std::string_view, FilterFunction>& value_filters() {
    static const std::unordered_map<std::string_view, FilterFunction> table = {
        {"abs", abs_filter},
        {"attr", attr},
        {"capitalize", change_case<capitalize>},
        {"d", default_value},
        {"default", default_value},
        {"e", escape},
        {"escape", escape},
        {"float", float_filter},
        {"format", format_filter},
        {"indent", indent_filter},
        {"int", int_filter},
        {"lower", change_case<to_lower>},
        {"replace", replace_filter},
        {"round", round_filter},
        {"safe", safe},
        {"string", string_filter},
        {"title", change_case<title_words>},
        {"tojson", tojson},
        {"trim", trim},
        {"upper", change_case<to_upper>},
        {"wordcount", wordcount},
    };
    return table;
}

}  // namespace

FilterFunction find_filter(std::string_view name) {
    const auto found = value_filters().find(name);
    return found == value_filters().end() ? find_sequence_filter(name) : found->second;
}

}  // namespace retort::text::jinja
