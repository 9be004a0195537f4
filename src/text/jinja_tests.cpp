// Tests: `value is name`.
#include <algorithm>
#include <unordered_map>

#include "text/jinja_interpreter.h"
#include "text/jinja_strings.h"

namespace retort::text::jinja {
namespace {

using Test = TestFunction;

template <typename Predicate>
Result<bool> plain(std::string_view name, const Value& value, const Arguments& arguments,
                   const Predicate& predicate) {
    RETORT_CHECK(arguments.check(name, {}));
    return predicate(value);
}

bool is_sequence(const Value& value) {
    if (value.is_string() || value.as_dict() != nullptr || value.is_undefined()) return true;
    const List* list = value.as_list();
    return list != nullptr && (list->kind == List::Kind::list || list->kind == List::Kind::tuple);
}

bool is_case(const Value& value, bool upper) {
    if (!value.is_string()) return false;
    const std::string& text = value.text();
    return text == (upper ? to_upper(text) : to_lower(text)) && to_upper(text) != to_lower(text);
}

Result<bool> ordered(Interpreter& interpreter, const Value& value, const Arguments& arguments,
                     std::string_view name, bool (*holds)(int)) {
    RETORT_CHECK(arguments.check(name, {"other"}, 1));
    RETORT_TRY(const int order, interpreter.order(value, *arguments.get(0, "other")));
    return holds(order);
}

Result<bool> same(Interpreter& interpreter, const Value& value, const Arguments& arguments,
                  std::string_view name) {
    RETORT_CHECK(arguments.check(name, {"other"}, 1));
    return interpreter.same(value, *arguments.get(0, "other"));
}

Result<bool> is_same_object(const Value& value, const Value& other) {
    if (value.data().index() != other.data().index()) return false;
    // Constants of a type are one object; strings and numbers are taken to be as well.
    if (value.is_string()) return value.text() == other.text();
    if (value.is_none() || value.is_undefined()) return true;
    if (value.is_number()) return value.as_number() == other.as_number();
    if (value.as_list() != nullptr) return value.as_list() == other.as_list();
    return value.as_dict() != nullptr && value.as_dict() == other.as_dict();
}

Result<bool> modulo(const Value& value, const Arguments& arguments, std::string_view name,
                    std::int64_t divisor, std::int64_t remainder) {
    if (!value.is_integer()) {
        return fail(ErrorCode::invalid_argument, "the test '{}' wants an integer, not '{}'", name,
                    type_name(value));
    }
    if (name == "divisibleby") {
        RETORT_CHECK(arguments.check(name, {"num"}, 1));
        const Value* num = arguments.get(0, "num");
        if (!num->is_integer() || num->as_integer() == 0) {
            return fail(ErrorCode::invalid_argument, "the test 'divisibleby' wants an integer that is not 0");
        }
        divisor = num->as_integer();
        if (divisor == -1) return true;
    } else {
        RETORT_CHECK(arguments.check(name, {}));
    }
    const std::int64_t left_over = value.as_integer() % divisor;
    return left_over == remainder || left_over == -remainder;
}

Result<bool> contained(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("in", {"seq"}, 1));
    return interpreter.contains(*arguments.get(0, "seq"), value);
}

const std::unordered_map<std::string_view, Test>& tests() {
#define RETORT_PLAIN_TEST(name, condition)                                                          \
    {                                                                                               \
        name, [](Interpreter&, const Value& value, const Arguments& arguments) -> Result<bool> {    \
            return plain(name, value, arguments, [](const Value& v) -> bool { return condition; }); \
        }                                                                                           \
    }
#define RETORT_ORDER_TEST(name, condition)                                                                   \
    {                                                                                                        \
        name, [](Interpreter& interpreter, const Value& value, const Arguments& arguments) -> Result<bool> { \
            return ordered(interpreter, value, arguments, name,                                              \
                           [](int order) -> bool { return condition; });                                     \
        }                                                                                                    \
    }
#define RETORT_EQUALITY_TEST(name, negated)                                                                  \
    {                                                                                                        \
        name, [](Interpreter& interpreter, const Value& value, const Arguments& arguments) -> Result<bool> { \
            RETORT_TRY(const bool result, same(interpreter, value, arguments, name));                        \
            return result != (negated);                                                                      \
        }                                                                                                    \
    }
    static const std::unordered_map<std::string_view, Test> table = {
        RETORT_PLAIN_TEST("defined", !v.is_undefined()),
        RETORT_PLAIN_TEST("undefined", v.is_undefined()),
        RETORT_PLAIN_TEST("none", v.is_none()),
        RETORT_PLAIN_TEST("boolean", v.is<bool>()),
        RETORT_PLAIN_TEST("true", v.is<bool>() && truthy(v)),
        RETORT_PLAIN_TEST("false", v.is<bool>() && !truthy(v)),
        RETORT_PLAIN_TEST("integer", v.is<std::int64_t>()),
        RETORT_PLAIN_TEST("float", v.is<double>()),
        RETORT_PLAIN_TEST("number", v.is_number()),
        RETORT_PLAIN_TEST("string", v.is_string()),
        RETORT_PLAIN_TEST("mapping", v.as_dict() != nullptr),
        RETORT_PLAIN_TEST("iterable", iterable(v)),
        RETORT_PLAIN_TEST("sequence", is_sequence(v)),
        RETORT_PLAIN_TEST("callable", v.is_undefined() || v.is<std::shared_ptr<const Callable>>()),
        RETORT_PLAIN_TEST("lower", is_case(v, false)),
        RETORT_PLAIN_TEST("upper", is_case(v, true)),
        RETORT_EQUALITY_TEST("equalto", false),
        RETORT_EQUALITY_TEST("eq", false),
        RETORT_EQUALITY_TEST("==", false),
        RETORT_EQUALITY_TEST("ne", true),
        RETORT_EQUALITY_TEST("!=", true),
        RETORT_ORDER_TEST("lt", order < 0),
        RETORT_ORDER_TEST("lessthan", order < 0),
        RETORT_ORDER_TEST("<", order < 0),
        RETORT_ORDER_TEST("le", order <= 0),
        RETORT_ORDER_TEST("<=", order <= 0),
        RETORT_ORDER_TEST("gt", order > 0),
        RETORT_ORDER_TEST("greaterthan", order > 0),
        RETORT_ORDER_TEST(">", order > 0),
        RETORT_ORDER_TEST("ge", order >= 0),
        RETORT_ORDER_TEST(">=", order >= 0),
        {"in", contained},
        {"sameas",
         [](Interpreter&, const Value& value, const Arguments& arguments) -> Result<bool> {
             RETORT_CHECK(arguments.check("sameas", {"other"}, 1));
             return is_same_object(value, *arguments.get(0, "other"));
         }},
        {"odd", [](Interpreter&, const Value& v, const Arguments& a) { return modulo(v, a, "odd", 2, 1); }},
        {"even", [](Interpreter&, const Value& v, const Arguments& a) { return modulo(v, a, "even", 2, 0); }},
        {"divisibleby",
         [](Interpreter&, const Value& v, const Arguments& a) { return modulo(v, a, "divisibleby", 0, 0); }},
        {"filter",
         [](Interpreter&, const Value& value, const Arguments&) -> Result<bool> {
             return value.is_string() && find_filter(value.text()) != nullptr;
         }},
        {"test",
         [](Interpreter&, const Value& value, const Arguments&) -> Result<bool> {
             return value.is_string() && find_test(value.text()) != nullptr;
         }},
    };
#undef RETORT_PLAIN_TEST
#undef RETORT_ORDER_TEST
#undef RETORT_EQUALITY_TEST
    return table;
}

}  // namespace

TestFunction find_test(std::string_view name) {
    const auto found = tests().find(name);
    return found == tests().end() ? nullptr : found->second;
}

}  // namespace retort::text::jinja
