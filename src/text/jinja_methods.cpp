// Methods of strings, lists and dicts.
#include <algorithm>
#include <charconv>
#include <iterator>

#include "text/jinja_interpreter.h"
#include "text/jinja_strings.h"
#include "text/unicode.h"

namespace retort::text::jinja {
namespace {

constexpr std::string_view string_methods[] = {
    "split",    "rsplit",  "splitlines", "strip",      "lstrip",    "rstrip",       "startswith",
    "endswith", "replace", "upper",      "lower",      "title",     "capitalize",   "find",
    "rfind",    "index",   "count",      "join",       "isdigit",   "isalpha",      "isalnum",
    "isspace",  "isupper", "islower",    "isnumeric",  "isdecimal", "removeprefix", "removesuffix",
    "zfill",    "ljust",   "rjust",      "center",     "partition", "rpartition",   "swapcase",
    "format",   "encode",  "casefold",   "expandtabs", "translate"};
constexpr std::string_view list_methods[] = {"index", "count",  "copy",  "append",  "extend", "insert",
                                             "pop",   "remove", "clear", "reverse", "sort"};
constexpr std::string_view dict_methods[] = {"items", "keys",    "values",     "get",    "copy",
                                             "pop",   "popitem", "setdefault", "update", "clear"};

template <std::size_t N>
std::string_view known(const std::string_view (&names)[N], std::string_view name) {
    const auto* const found = std::find(std::begin(names), std::end(names), name);
    return found == std::end(names) ? std::string_view() : *found;
}

// An argument that must be a string; none and absent give nothing.
Result<std::optional<std::string_view>> optional_text(const Arguments& arguments, std::size_t index,
                                                      std::string_view name) {
    const Value* value = arguments.get(index, name);
    if (value == nullptr || value->is_none()) return std::optional<std::string_view>();
    if (!value->is_string()) {
        return fail(ErrorCode::invalid_argument, "the argument '{}' must be a string, not '{}'", name,
                    type_name(*value));
    }
    return std::optional<std::string_view>(value->text());
}

Result<std::string_view> required_text(const Arguments& arguments, std::size_t index, std::string_view name) {
    RETORT_TRY(const std::optional<std::string_view> text, optional_text(arguments, index, name));
    if (!text) return fail(ErrorCode::invalid_argument, "the argument '{}' must be a string", name);
    return *text;
}

Result<Value> strings(Interpreter& interpreter, const std::vector<std::string_view>& parts,
                      List::Kind kind = List::Kind::list) {
    std::vector<Value> items;
    items.reserve(parts.size());
    for (const std::string_view part : parts) {
        RETORT_TRY(Value item, interpreter.make_string(std::string(part)));
        items.push_back(std::move(item));
    }
    return interpreter.make_list(std::move(items), kind);
}

std::size_t find_last(std::string_view text, std::string_view needle) {
    return text.rfind(needle);
}

Result<Value> split(Interpreter& interpreter, std::string_view text, const Arguments& arguments,
                    bool from_right) {
    RETORT_CHECK(arguments.check("split()", {"sep", "maxsplit"}));
    RETORT_TRY(const std::optional<std::string_view> separator, optional_text(arguments, 0, "sep"));
    RETORT_TRY(std::int64_t left, arguments.integer_or(1, "maxsplit", -1));
    RETORT_CHECK(interpreter.charge(text.size()));
    std::vector<std::string_view> parts;
    if (separator && separator->empty())
        return fail(ErrorCode::invalid_argument, "split() with an empty separator");
    if (separator && !from_right) {
        std::size_t begin = 0;
        while (left-- != 0) {
            const std::size_t at = find(text, *separator, begin);
            if (at == std::string_view::npos) break;
            parts.push_back(text.substr(begin, at - begin));
            begin = at + separator->size();
        }
        parts.push_back(text.substr(begin));
    } else if (separator) {
        while (left-- != 0) {
            const std::size_t at = find_last(text, *separator);
            if (at == std::string_view::npos) break;
            parts.push_back(text.substr(at + separator->size()));
            text = text.substr(0, at);
        }
        parts.push_back(text);
        std::reverse(parts.begin(), parts.end());
    } else if (!from_right) {
        text = strip(text, std::nullopt, true, false);
        while (!text.empty()) {
            if (left-- == 0) {
                parts.push_back(text);
                break;
            }
            std::size_t end = 0;
            while (end < text.size()) {
                const Decoded c = decode_valid(text, end);
                if (is_python_space(c.point)) break;
                end += c.length;
            }
            parts.push_back(text.substr(0, end));
            text = strip(text.substr(end), std::nullopt, true, false);
        }
    } else {
        return fail(ErrorCode::unsupported, "rsplit() without a separator is not supported");
    }
    return strings(interpreter, parts);
}

Result<bool> begins_or_ends(const std::string& text, const Value& affix, bool end) {
    if (affix.is_string()) return end ? text.ends_with(affix.text()) : text.starts_with(affix.text());
    const List* list = affix.as_list();
    if (list == nullptr || list->kind != List::Kind::tuple) {
        return fail(ErrorCode::invalid_argument, "{}() wants a string or a tuple of them, not '{}'",
                    end ? "endswith" : "startswith", type_name(affix));
    }
    for (const Value& item : list->items) {
        if (!item.is_string())
            return fail(ErrorCode::invalid_argument, "a tuple with a '{}' among strings", type_name(item));
        if (end ? text.ends_with(item.text()) : text.starts_with(item.text())) return true;
    }
    return false;
}

// str.isalpha() and its like: true when there are characters and all are of the set.
bool all_in(std::string_view text, CategorySet set) {
    for (std::size_t at = 0; at < text.size();) {
        const Decoded c = decode_valid(text, at);
        if (!CharacterTable::get().in(c.point, set)) return false;
        at += c.length;
    }
    return !text.empty();
}

Result<Value> pad(Interpreter& interpreter, std::string_view method, const std::string& text,
                  const Arguments& arguments) {
    RETORT_CHECK(arguments.check(method, {"width", "fillchar"}, 1));
    RETORT_TRY(const std::int64_t width, arguments.integer_or(0, "width", 0));
    RETORT_TRY(const std::optional<std::string_view> fill, optional_text(arguments, 1, "fillchar"));
    const std::string_view character = fill.value_or(method == "zfill" ? "0" : " ");
    if (length_in_characters(character) != 1)
        return fail(ErrorCode::invalid_argument, "{}() fills with one character", method);
    const auto length = static_cast<std::int64_t>(length_in_characters(text));
    if (width <= length) return interpreter.make_string(text);
    const auto missing = static_cast<std::size_t>(width - length);
    if (missing > interpreter.bytes_left() / 4)
        RETORT_CHECK(interpreter.charge(interpreter.bytes_left() + 1));
    // Python puts the odd one on the left when the width is odd too.
    std::size_t left = method == "rjust" || method == "zfill" ? missing : 0;
    if (method == "center") left = missing / 2 + (missing & static_cast<std::size_t>(width) & 1U);
    std::string out;
    const bool sign = method == "zfill" && (text.starts_with('-') || text.starts_with('+'));
    if (sign) out += text[0];
    for (std::size_t i = 0; i < left; ++i) out += character;
    out += text.substr(sign ? 1 : 0);
    for (std::size_t i = left; i < missing; ++i) out += character;
    return interpreter.make_string(std::move(out));
}

Result<Value> partition(Interpreter& interpreter, std::string_view text, const Arguments& arguments,
                        bool last) {
    RETORT_CHECK(arguments.check("partition()", {"sep"}, 1));
    RETORT_TRY(const std::string_view separator, required_text(arguments, 0, "sep"));
    if (separator.empty()) return fail(ErrorCode::invalid_argument, "partition() with an empty separator");
    const std::size_t at = last ? find_last(text, separator) : find(text, separator);
    std::vector<std::string_view> parts =
        last ? std::vector<std::string_view>{"", "", text} : std::vector<std::string_view>{text, "", ""};
    if (at != std::string_view::npos)
        parts = {text.substr(0, at), separator, text.substr(at + separator.size())};
    return strings(interpreter, parts, List::Kind::tuple);
}

Result<Value> search(const std::string& text, std::string_view method, const Arguments& arguments) {
    if (arguments.positional.size() > 1) {
        return fail(ErrorCode::unsupported, "{}() with a start or an end is not supported", method);
    }
    RETORT_CHECK(arguments.check(method, {"sub"}, 1));
    RETORT_TRY(const std::string_view needle, required_text(arguments, 0, "sub"));
    if (method == "count") {
        if (needle.empty()) return Value::integer(static_cast<std::int64_t>(length_in_characters(text)) + 1);
        std::int64_t count = 0;
        for (std::size_t at = find(text, needle); at != std::string::npos;
             at = find(text, needle, at + needle.size()))
            ++count;
        return Value::integer(count);
    }
    const std::size_t at = method == "rfind" ? find_last(text, needle) : find(text, needle);
    if (at == std::string::npos) {
        if (method == "index") return fail(ErrorCode::invalid_argument, "substring not found");
        return Value::integer(-1);
    }
    return Value::integer(
        static_cast<std::int64_t>(length_in_characters(std::string_view(text).substr(0, at))));
}

// str.format() with fields that hold no more than a place or a name: "{} {0} {name}".
Result<Value> format(Interpreter& interpreter, std::string_view text, const Arguments& arguments) {
    std::string out;
    std::size_t automatic = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
        const char c = text[at];
        if ((c == '{' || c == '}') && at + 1 < text.size() && text[at + 1] == c) {
            out += c;
            ++at;
        } else if (c == '{') {
            const std::size_t close = text.find('}', at);
            if (close == std::string_view::npos)
                return fail(ErrorCode::invalid_argument, "format(): expected '}}'");
            const std::string_view field = text.substr(at + 1, close - at - 1);
            if (field.find_first_of(".[!:{") != std::string_view::npos) {
                return fail(ErrorCode::unsupported, "format() with a field {{{}}} is not supported", field);
            }
            std::size_t index = 0;
            const auto [end, code] = std::from_chars(field.data(), field.data() + field.size(), index);
            const bool number = code == std::errc() && end == field.data() + field.size();
            if (field.empty()) index = automatic++;
            const Value* value = arguments.get(field.empty() || number ? index : SIZE_MAX, field);
            if (value == nullptr)
                return fail(ErrorCode::invalid_argument, "format(): no argument for {{{}}}", field);
            RETORT_TRY(const std::string piece, interpreter.to_text(*value));
            out += piece;
            at = close;
        } else if (c == '}') {
            return fail(ErrorCode::invalid_argument, "format(): a single '}}'");
        } else {
            out += c;
        }
    }
    return interpreter.make_string(std::move(out));
}

Result<Value> string_method(Interpreter& interpreter, const Value& self, std::string_view name,
                            const Arguments& arguments) {
    const std::string& text = self.text();
    RETORT_CHECK(interpreter.step(text.size() / 64));
    if (name == "split" || name == "rsplit") return split(interpreter, text, arguments, name == "rsplit");
    if (name == "strip" || name == "lstrip" || name == "rstrip") {
        RETORT_CHECK(arguments.check(name, {"chars"}));
        RETORT_TRY(const std::optional<std::string_view> chars, optional_text(arguments, 0, "chars"));
        if (chars) RETORT_CHECK(interpreter.step(text.size() * chars->size() / 64));
        return interpreter.make_string(std::string(strip(text, chars, name != "rstrip", name != "lstrip")));
    }
    if (name == "startswith" || name == "endswith") {
        if (arguments.positional.size() > 1) {
            return fail(ErrorCode::unsupported, "{}() with a start or an end is not supported", name);
        }
        RETORT_CHECK(arguments.check(name, {"prefix"}, 1));
        RETORT_TRY(const bool result, begins_or_ends(text, *arguments.get(0, "prefix"), name == "endswith"));
        return Value::boolean(result);
    }
    if (name == "replace") {
        RETORT_CHECK(arguments.check("replace()", {"old", "new", "count"}, 2));
        RETORT_TRY(const std::string_view from, required_text(arguments, 0, "old"));
        RETORT_TRY(const std::string_view to, required_text(arguments, 1, "new"));
        RETORT_TRY(const std::int64_t count, arguments.integer_or(2, "count", -1));
        RETORT_TRY(std::string result, replace(text, from, to, count, interpreter.bytes_left()));
        return interpreter.make_string(std::move(result));
    }
    if (name == "find" || name == "rfind" || name == "index" || name == "count")
        return search(text, name, arguments);
    if (name == "splitlines") {
        RETORT_CHECK(arguments.check("splitlines()", {"keepends"}));
        const Value* keep = arguments.get(0, "keepends");
        return strings(interpreter, splitlines(text, keep != nullptr && truthy(*keep)));
    }
    if (name == "join") {
        RETORT_CHECK(arguments.check("join()", {"iterable"}, 1));
        RETORT_TRY(const std::vector<Value> items, interpreter.to_items(*arguments.get(0, "iterable")));
        std::string out;
        for (std::size_t i = 0; i < items.size(); ++i) {
            if (!items[i].is_string()) {
                return fail(ErrorCode::invalid_argument, "join(): item {} is a '{}', not a string", i,
                            type_name(items[i]));
            }
            RETORT_CHECK(interpreter.charge(text.size() + items[i].text().size()));
            if (i > 0) out += text;
            out += items[i].text();
        }
        return interpreter.make_string(std::move(out));
    }
    if (name == "removeprefix" || name == "removesuffix") {
        RETORT_CHECK(arguments.check(name, {"affix"}, 1));
        RETORT_TRY(const std::string_view affix, required_text(arguments, 0, "affix"));
        std::string_view rest = text;
        if (name == "removeprefix" && rest.starts_with(affix)) rest.remove_prefix(affix.size());
        if (name == "removesuffix" && rest.ends_with(affix)) rest.remove_suffix(affix.size());
        return interpreter.make_string(std::string(rest));
    }
    if (name == "partition" || name == "rpartition")
        return partition(interpreter, text, arguments, name == "rpartition");
    if (name == "zfill" || name == "ljust" || name == "rjust" || name == "center") {
        return pad(interpreter, name, text, arguments);
    }
    if (name == "format") return format(interpreter, text, arguments);
    if (name == "encode" || name == "casefold" || name == "expandtabs" || name == "translate" ||
        name == "swapcase") {
        return fail(ErrorCode::unsupported, "the string method {}() is not supported", name);
    }
    RETORT_CHECK(arguments.check(name, {}));
    if (name == "upper") return interpreter.make_string(to_upper(text));
    if (name == "lower") return interpreter.make_string(to_lower(text));
    if (name == "title") return interpreter.make_string(to_title(text));
    if (name == "capitalize") return interpreter.make_string(capitalize(text));
    if (name == "isdigit" || name == "isdecimal") return Value::boolean(all_in(text, bit(Category::nd)));
    if (name == "isnumeric") return Value::boolean(all_in(text, categories::numbers));
    if (name == "isalpha") return Value::boolean(all_in(text, categories::letters));
    if (name == "isalnum") return Value::boolean(all_in(text, categories::letters | categories::numbers));
    if (name == "isspace")
        return Value::boolean(!text.empty() && strip(text, std::nullopt, true, false).empty());
    const bool cased = to_upper(text) != to_lower(text);
    return Value::boolean(cased && text == (name == "isupper" ? to_upper(text) : to_lower(text)));
}

Result<Value> list_method(Interpreter& interpreter, const Value& self, std::string_view name,
                          const Arguments& arguments) {
    const List& list = *self.as_list();
    if (name == "copy") return interpreter.make_list(list.items);
    if (name == "index" || name == "count") {
        RETORT_CHECK(arguments.check(name, {"value"}, 1));
        std::int64_t count = 0;
        for (std::size_t i = 0; i < list.items.size(); ++i) {
            RETORT_TRY(const bool found, interpreter.same(list.items[i], *arguments.get(0, "value")));
            if (found && name == "index") return Value::integer(static_cast<std::int64_t>(i));
            count += found ? 1 : 0;
        }
        if (name == "index")
            return fail(ErrorCode::invalid_argument, "index(): the value is not in the list");
        return Value::integer(count);
    }
    return fail(ErrorCode::refused, "{}() would change a list, which templates may not", name);
}

Result<Value> dict_method(Interpreter& interpreter, const Value& self, std::string_view name,
                          const Arguments& arguments) {
    const Dict& dict = *self.as_dict();
    if (name == "get") {
        RETORT_CHECK(arguments.check("get()", {"key", "default"}, 1));
        if (const Value* value = dict.find(*arguments.get(0, "key"))) return *value;
        const Value* fallback = arguments.get(1, "default");
        return fallback != nullptr ? *fallback : Value::none();
    }
    if (name == "copy") return self;
    if (name != "items" && name != "keys" && name != "values") {
        return fail(ErrorCode::refused, "{}() would change a dict, which templates may not", name);
    }
    RETORT_CHECK(arguments.check(name, {}));
    std::vector<Value> items;
    items.reserve(dict.entries().size());
    for (const Dict::Entry& entry : dict.entries()) {
        if (name == "items") {
            RETORT_TRY(Value pair, interpreter.make_list({entry.key, entry.value}, List::Kind::tuple));
            items.push_back(std::move(pair));
        } else {
            items.push_back(name == "keys" ? entry.key : entry.value);
        }
    }
    return interpreter.make_list(std::move(items), List::Kind::view);
}

}  // namespace

std::string_view find_method(const Value& self, std::string_view name) {
    if (self.is_string()) return known(string_methods, name);
    if (self.as_dict() != nullptr) return known(dict_methods, name);
    const List* list = self.as_list();
    if (list == nullptr || (list->kind != List::Kind::list && list->kind != List::Kind::tuple)) return {};
    if (list->kind == List::Kind::tuple && name != "index" && name != "count") return {};
    return known(list_methods, name);
}

Result<Value> call_method(Interpreter& interpreter, const Value& self, std::string_view name,
                          const Arguments& arguments) {
    if (self.is_string()) return string_method(interpreter, self, name, arguments);
    if (self.as_dict() != nullptr) return dict_method(interpreter, self, name, arguments);
    return list_method(interpreter, self, name, arguments);
}

}  // namespace retort::text::jinja
