// Filters of lists, mappings and generators: `items | map('upper')`, `items | sort` and their like.
#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "text/jinja_interpreter.h"
#include "text/jinja_strings.h"

namespace retort::text::jinja {
namespace {

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
                                        arguments.flag(1, "case_sensitive", false)));
    RETORT_TRY(keyed, sort_keyed(interpreter, std::move(keyed), arguments.flag(0, "reverse", false)));
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
               keyed_items(interpreter, view, &index, arguments.flag(0, "case_sensitive", false)));
    RETORT_TRY(keyed, sort_keyed(interpreter, std::move(keyed), arguments.flag(2, "reverse", false)));
    std::vector<Value> items;
    for (auto& [key, item] : keyed) items.push_back(std::move(item));
    return interpreter.make_list(std::move(items));
}

template <bool largest>
Result<Value> extreme(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check(largest ? "max" : "min", {"case_sensitive", "attribute"}));
    RETORT_TRY(Keyed keyed, keyed_items(interpreter, value, arguments.get(1, "attribute"),
                                        arguments.flag(0, "case_sensitive", false)));
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
                                        arguments.flag(0, "case_sensitive", false)));
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

const std::unordered_map<std::string_view, FilterFunction>& sequence_filters() {
    static const std::unordered_map<std::string_view, FilterFunction> table = {
        {"count", length},
        {"dictsort", dictsort},
        {"first", first},
        {"items", items_filter},
        {"join", join},
        {"last", last},
        {"length", length},
        {"list", list_filter},
        {"map", map_filter},
        {"max", extreme<true>},
        {"min", extreme<false>},
        {"reject", select_filter<false, false>},
        {"rejectattr", select_filter<true, false>},
        {"reverse", reverse_filter},
        {"select", select_filter<false, true>},
        {"selectattr", select_filter<true, true>},
        {"sort", sort_filter},
        {"sum", sum_filter},
        {"unique", unique},
    };
    return table;
}

}  // namespace

FilterFunction find_sequence_filter(std::string_view name) {
    const auto found = sequence_filters().find(name);
    return found == sequence_filters().end() ? nullptr : found->second;
}

}  // namespace retort::text::jinja
