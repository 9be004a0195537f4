// Arithmetic, comparison and slices, as Python has them.
#include <algorithm>
#include <cmath>

#include "text/jinja_interpreter.h"
#include "text/jinja_python.h"
#include "text/jinja_strings.h"
#include "text/unicode.h"

namespace retort::text::jinja {
namespace {

Result<Value> type_error(const Interpreter& interpreter, std::string_view op, const Value& left,
                         const Value& right) {
    for (const Value* value : {&left, &right}) {
        if (const auto* undefined = std::get_if<Undefined>(&value->data())) {
            return interpreter.error(ErrorCode::invalid_argument, "'{}' is undefined", undefined->name);
        }
    }
    return interpreter.error(ErrorCode::invalid_argument, "unsupported operand types for {}: '{}' and '{}'",
                             op, type_name(left), type_name(right));
}

Result<Value> repeat(Interpreter& interpreter, const Value& sequence, std::int64_t count) {
    const auto times = static_cast<std::size_t>(std::max<std::int64_t>(count, 0));
    const List* list = sequence.as_list();
    const std::size_t size = list != nullptr ? list->items.size() * sizeof(Value) : sequence.text().size();
    if (size > 0 && times > interpreter.bytes_left() / size)
        return interpreter.charge(interpreter.bytes_left() + 1).map([] { return Value(); });
    if (list != nullptr) {
        std::vector<Value> items;
        for (std::size_t i = 0; i < times && size > 0; ++i)
            items.insert(items.end(), list->items.begin(), list->items.end());
        return interpreter.make_list(std::move(items), list->kind);
    }
    std::string text;
    for (std::size_t i = 0; i < times && size > 0; ++i) text += sequence.text();
    return interpreter.make_string(std::move(text));
}

bool adds_and_repeats(const Value& value) {
    const List* list = value.as_list();
    return value.is_string() ||
           (list != nullptr && (list->kind == List::Kind::list || list->kind == List::Kind::tuple));
}

Result<Value> integer_operation(const Interpreter& interpreter, std::string_view op, std::int64_t left,
                                std::int64_t right) {
    std::int64_t result = 0;
    bool overflow = false;
    if (op == "+") {
        overflow = __builtin_add_overflow(left, right, &result);
    } else if (op == "-") {
        overflow = __builtin_sub_overflow(left, right, &result);
    } else if (op == "*") {
        overflow = __builtin_mul_overflow(left, right, &result);
    } else if (op == "//" || op == "%") {
        if (right == 0) return interpreter.error(ErrorCode::invalid_argument, "division by zero");
        if (right == -1) {
            overflow = op == "//" && __builtin_sub_overflow(std::int64_t{0}, left, &result);
        } else {
            // Rounded down, and the remainder has the divisor's sign.
            std::int64_t quotient = left / right;
            std::int64_t remainder = left % right;
            if (remainder != 0 && (remainder < 0) != (right < 0)) {
                --quotient;
                remainder += right;
            }
            result = op == "//" ? quotient : remainder;
        }
    } else {  // **
        result = 1;
        for (std::int64_t i = 0; i < right && !overflow; ++i) {
            overflow = __builtin_mul_overflow(result, left, &result);
            if (result == 0 || (left == 1) || (left == -1 && i > 64)) {
                if (left == -1) result = right % 2 == 0 ? 1 : -1;
                break;
            }
        }
    }
    if (overflow)
        return interpreter.error(ErrorCode::unsupported, "integers beyond 64 bits are not supported");
    return Value::integer(result);
}

Result<Value> number_operation(const Interpreter& interpreter, std::string_view op, const Value& left,
                               const Value& right) {
    const bool integers = left.is_integer() && right.is_integer();
    if (integers && op != "/" && !(op == "**" && right.as_integer() < 0)) {
        return integer_operation(interpreter, op, left.as_integer(), right.as_integer());
    }
    const double a = left.as_number();
    const double b = right.as_number();
    if (op == "+") return Value::number(a + b);
    if (op == "-") return Value::number(a - b);
    if (op == "*") return Value::number(a * b);
    if (op == "**") return Value::number(std::pow(a, b));
    if (b == 0) return interpreter.error(ErrorCode::invalid_argument, "division by zero");
    if (op == "/") return Value::number(a / b);
    if (op == "//") return Value::number(std::floor(a / b));
    double remainder = std::fmod(a, b);
    if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
    return Value::number(remainder);
}

}  // namespace

Result<Value> binary_operation(Interpreter& interpreter, std::string_view op, const Value& left,
                               const Value& right) {
    if (left.is_number() && right.is_number()) return number_operation(interpreter, op, left, right);
    if (op == "+") {
        if (left.is_string() && right.is_string()) return interpreter.make_string(left.text() + right.text());
        const List* a = left.as_list();
        const List* b = right.as_list();
        if (a != nullptr && b != nullptr && a->kind == b->kind && adds_and_repeats(left)) {
            std::vector<Value> items = a->items;
            items.insert(items.end(), b->items.begin(), b->items.end());
            return interpreter.make_list(std::move(items), a->kind);
        }
    }
    if (op == "*" && adds_and_repeats(left) && right.is_integer())
        return repeat(interpreter, left, right.as_integer());
    if (op == "*" && left.is_integer() && adds_and_repeats(right))
        return repeat(interpreter, right, left.as_integer());
    if (op == "%" && left.is_string() && !right.is_undefined()) {
        const List* tuple = right.as_list();
        std::vector<Value> arguments = {right};
        if (tuple != nullptr && tuple->kind == List::Kind::tuple) arguments = tuple->items;
        auto text = printf_format(left.text(), arguments, interpreter.bytes_left());
        if (!text) return interpreter.error_from(std::move(text.error()));
        return interpreter.make_string(std::move(*text));
    }
    return type_error(interpreter, op, left, right);
}

Result<Value> slice(Interpreter& interpreter, const Value& object, const Value& start, const Value& stop,
                    const Value& step) {
    if (const auto* undefined = std::get_if<Undefined>(&object.data())) {
        return interpreter.error(ErrorCode::invalid_argument, "'{}' is undefined", undefined->name);
    }
    if (!adds_and_repeats(object)) return Value::undefined();
    for (const Value* bound : {&start, &stop, &step}) {
        if (!bound->is_none() && !bound->is_integer()) {
            return interpreter.error(ErrorCode::invalid_argument,
                                     "slice indices must be integers or None, not '{}'", type_name(*bound));
        }
    }
    const std::int64_t stride = step.is_none() ? 1 : step.as_integer();
    if (stride == 0) return interpreter.error(ErrorCode::invalid_argument, "slice step cannot be zero");
    const List* list = object.as_list();
    const auto size =
        static_cast<std::int64_t>(list != nullptr ? list->items.size() : length_in_characters(object.text()));
    const auto clamp = [&](const Value& bound, std::int64_t absent) {
        if (bound.is_none()) return absent;
        std::int64_t at = bound.as_integer();
        if (at < 0) at = at < -size ? -1 : at + size;
        if (stride > 0) return std::clamp<std::int64_t>(at, 0, size);
        return std::clamp<std::int64_t>(at, -1, size - 1);
    };
    // For a negative bound that stays negative, Python takes the end that the step runs from.
    const std::int64_t first = clamp(start, stride > 0 ? 0 : size - 1);
    const std::int64_t last = clamp(stop, stride > 0 ? size : -1);
    RETORT_CHECK(interpreter.step(static_cast<std::uint64_t>(size) / 64));
    if (list == nullptr && stride == 1) {
        const std::size_t begin = offset_of_character(object.text(), static_cast<std::size_t>(first));
        if (last <= first) return interpreter.make_string({});
        const std::size_t length = offset_of_character(std::string_view(object.text()).substr(begin),
                                                       static_cast<std::size_t>(last - first));
        return interpreter.make_string(object.text().substr(begin, length));
    }
    const std::vector<Value> characters = list == nullptr ? items_of(object) : std::vector<Value>();
    const std::vector<Value>& items = list == nullptr ? characters : list->items;
    RETORT_CHECK(interpreter.charge(characters.size() * sizeof(Value)));
    std::vector<Value> picked;
    if (stride > 0) {
        for (std::int64_t i = first; i<last; i = stride> last - i ? last : i + stride)
            picked.push_back(items[static_cast<std::size_t>(i)]);
    } else {
        for (std::int64_t i = first; i > last; i = stride < last - i ? last : i + stride)
            picked.push_back(items[static_cast<std::size_t>(i)]);
    }
    if (list != nullptr) return interpreter.make_list(std::move(picked), list->kind);
    std::string text;
    for (const Value& character : picked) text += character.text();
    return interpreter.make_string(std::move(text));
}

}  // namespace retort::text::jinja
