// The interpreter's other half: values of expressions.
#include <algorithm>

#include "text/jinja_interpreter.h"
#include "text/jinja_strings.h"
#include "text/unicode.h"

namespace retort::text::jinja {
namespace {

constexpr int max_expression_nesting = 600;

struct NestingGuard {
    explicit NestingGuard(int& depth) : depth_(depth) { ++depth_; }
    ~NestingGuard() { --depth_; }
    NestingGuard(const NestingGuard&) = delete;
    NestingGuard& operator=(const NestingGuard&) = delete;
    int& depth_;
};

}  // namespace

Result<Value> Interpreter::evaluate(const Expression& expression, const std::shared_ptr<Scope>& scope) {
    const NestingGuard nesting(nesting_);
    line_ = expression.line;
    if (nesting_ > max_expression_nesting) return error(ErrorCode::refused, "the template nests too deeply");
    RETORT_CHECK(step());
    const auto child = [&](std::size_t i) { return evaluate(*expression.children[i], scope); };
    switch (expression.kind) {
        case Expression::Kind::constant:
            return expression.constant;
        case Expression::Kind::name:
            return evaluate_name(expression, scope);
        case Expression::Kind::list:
        case Expression::Kind::tuple: {
            std::vector<Value> items;
            for (const ExpressionPointer& item : expression.children) {
                RETORT_TRY(Value value, evaluate(*item, scope));
                items.push_back(std::move(value));
            }
            return make_list(std::move(items), expression.kind == Expression::Kind::list ? List::Kind::list
                                                                                         : List::Kind::tuple);
        }
        case Expression::Kind::dict:
            return evaluate_dict(expression, scope);
        case Expression::Kind::negative:
        case Expression::Kind::positive: {
            RETORT_TRY(const Value value, child(0));
            if (!value.is_number()) {
                return error(ErrorCode::invalid_argument, "a sign before a value of type '{}'",
                             type_name(value));
            }
            if (expression.kind == Expression::Kind::positive) return value;
            if (value.is<double>()) return Value::number(-value.as_number());
            return binary_operation(*this, "-", Value::integer(0), value);
        }
        case Expression::Kind::logical_not: {
            RETORT_TRY(const Value value, child(0));
            return Value::boolean(!truthy(value));
        }
        case Expression::Kind::binary: {
            RETORT_TRY(const Value left, child(0));
            RETORT_TRY(const Value right, child(1));
            line_ = expression.line;
            return binary_operation(*this, expression.name, left, right);
        }
        case Expression::Kind::logical_and:
        case Expression::Kind::logical_or: {
            const bool stops_at = expression.kind == Expression::Kind::logical_or;
            Value value;
            for (const ExpressionPointer& part : expression.children) {
                RETORT_TRY(value, evaluate(*part, scope));
                if (truthy(value) == stops_at) break;
            }
            return value;
        }
        case Expression::Kind::comparison:
            return evaluate_comparison(expression, scope);
        case Expression::Kind::concat: {
            std::string text;
            for (const ExpressionPointer& part : expression.children) {
                RETORT_TRY(const Value value, evaluate(*part, scope));
                RETORT_TRY(const std::string piece, to_text(value));
                text += piece;
            }
            return make_string(std::move(text));
        }
        case Expression::Kind::condition: {
            RETORT_TRY(const Value test, child(0));
            if (truthy(test)) return child(1);
            if (expression.children[2] != nullptr) return child(2);
            return Value::undefined("the inline if without else");
        }
        case Expression::Kind::attribute: {
            RETORT_TRY(const Value object, child(0));
            line_ = expression.line;
            return get_attribute(object, expression.name);
        }
        case Expression::Kind::item: {
            RETORT_TRY(const Value object, child(0));
            RETORT_TRY(const Value key, child(1));
            line_ = expression.line;
            return get_item(object, key);
        }
        case Expression::Kind::slice:
            return evaluate_slice(expression, scope);
        case Expression::Kind::call:
            return evaluate_call(expression, scope, nullptr);
        case Expression::Kind::filter: {
            RETORT_TRY(Value value, child(0));
            return evaluate_filter(expression, std::move(value), scope);
        }
        case Expression::Kind::test: {
            RETORT_TRY(const Value value, child(0));
            RETORT_TRY(const Arguments arguments, evaluate_arguments(expression, 1, scope));
            line_ = expression.line;
            RETORT_TRY(const bool result, test(expression.name, value, arguments));
            return Value::boolean(result);
        }
    }
    return Value();
}

Result<Value> Interpreter::evaluate_filter(const Expression& expression, Value value,
                                           const std::shared_ptr<Scope>& scope) {
    RETORT_TRY(const Arguments arguments, evaluate_arguments(expression, 1, scope));
    line_ = expression.line;
    return filter(expression.name, value, arguments);
}

// Filters of a block, from the inside: the innermost child stands for what the block printed.
Result<Value> Interpreter::filter_chain(const Expression& expression, Value innermost,
                                        const std::shared_ptr<Scope>& scope) {
    if (expression.kind != Expression::Kind::filter) return innermost;
    RETORT_TRY(Value value, filter_chain(*expression.children[0], std::move(innermost), scope));
    return evaluate_filter(expression, std::move(value), scope);
}

Result<Value> Interpreter::evaluate_name(const Expression& expression, const std::shared_ptr<Scope>& scope) {
    for (const Scope* at = scope.get(); at != nullptr; at = at->parent.get()) {
        for (const auto& [name, value] : at->variables) {
            if (name == expression.name) return value;
        }
    }
    const std::string_view function = find_function(expression.name);
    if (function.empty()) return Value::undefined(expression.name);
    return make_callable({.kind = Callable::Kind::function, .name = function});
}

Result<Value> Interpreter::evaluate_dict(const Expression& expression, const std::shared_ptr<Scope>& scope) {
    Dict dict;
    for (std::size_t i = 0; i + 1 < expression.children.size(); i += 2) {
        RETORT_TRY(const Value key, evaluate(*expression.children[i], scope));
        RETORT_TRY(Value value, evaluate(*expression.children[i + 1], scope));
        RETORT_CHECK(charge(sizeof(Dict::Entry) * 3));
        if (!dict.set(key, std::move(value))) {
            return error(ErrorCode::unsupported, "a dict key of type '{}' is not supported", type_name(key));
        }
    }
    return Value::dict(std::move(dict));
}

Result<bool> Interpreter::contains(const Value& container, const Value& item) {
    if (container.is_string()) {
        if (!item.is_string()) {
            return error(ErrorCode::invalid_argument, "'in <string>' requires a string, not '{}'",
                         type_name(item));
        }
        RETORT_CHECK(step(container.text().size() / 256));
        return find(container.text(), item.text()) != std::string_view::npos;
    }
    if (const List* list = container.as_list()) {
        for (const Value& candidate : list->items) {
            RETORT_TRY(const bool found, same(candidate, item));
            if (found) return true;
        }
        return false;
    }
    if (const Dict* dict = container.as_dict()) return dict->find(item) != nullptr;
    if (container.is_undefined()) return false;
    return error(ErrorCode::invalid_argument, "argument of type '{}' is not iterable", type_name(container));
}

Result<Value> Interpreter::evaluate_comparison(const Expression& expression,
                                               const std::shared_ptr<Scope>& scope) {
    RETORT_TRY(Value left, evaluate(*expression.children[0], scope));
    for (std::size_t i = 0; i < expression.operators.size(); ++i) {
        const std::string_view op = expression.operators[i];
        RETORT_TRY(Value right, evaluate(*expression.children[i + 1], scope));
        line_ = expression.line;
        bool holds = false;
        if (op == "==" || op == "!=") {
            RETORT_TRY(const bool equals, same(left, right));
            holds = equals == (op == "==");
        } else if (op == "in" || op == "not in") {
            RETORT_TRY(const bool inside, contains(right, left));
            holds = inside == (op == "in");
        } else {
            RETORT_TRY(const int ordered, order(left, right));
            holds = op == "<" ? ordered < 0
                              : (op == "<=" ? ordered <= 0 : (op == ">" ? ordered > 0 : ordered >= 0));
        }
        if (!holds) return Value::boolean(false);
        left = std::move(right);
    }
    return Value::boolean(true);
}

Result<Value> Interpreter::evaluate_slice(const Expression& expression, const std::shared_ptr<Scope>& scope) {
    RETORT_TRY(const Value object, evaluate(*expression.children[0], scope));
    Value bounds[3] = {Value::none(), Value::none(), Value::none()};
    for (std::size_t i = 0; i < 3; ++i) {
        if (expression.children[i + 1] == nullptr) continue;
        RETORT_TRY(bounds[i], evaluate(*expression.children[i + 1], scope));
    }
    line_ = expression.line;
    return slice(*this, object, bounds[0], bounds[1], bounds[2]);
}

Result<Arguments> Interpreter::evaluate_arguments(const Expression& expression, std::size_t first,
                                                  const std::shared_ptr<Scope>& scope) {
    Arguments arguments;
    for (std::size_t i = first; i < expression.children.size(); ++i) {
        RETORT_TRY(Value value, evaluate(*expression.children[i], scope));
        arguments.positional.push_back(std::move(value));
    }
    for (const auto& [name, child] : expression.named) {
        RETORT_TRY(Value value, evaluate(*child, scope));
        arguments.named.emplace_back(name, std::move(value));
    }
    return arguments;
}

Result<Value> Interpreter::evaluate_call(const Expression& expression, const std::shared_ptr<Scope>& scope,
                                         const Value* caller) {
    RETORT_TRY(const Value callee, evaluate(*expression.children[0], scope));
    RETORT_TRY(Arguments arguments, evaluate_arguments(expression, 1, scope));
    line_ = expression.line;
    return call(callee, std::move(arguments), caller);
}

Result<Value> Interpreter::loop_attribute(const std::shared_ptr<Loop>& loop, std::string_view name) {
    const std::vector<Value>& items = loop->items->items;
    const auto index = static_cast<std::int64_t>(loop->index);
    const auto length = static_cast<std::int64_t>(items.size());
    if (name == "index") return Value::integer(index + 1);
    if (name == "index0") return Value::integer(index);
    if (name == "revindex") return Value::integer(length - index);
    if (name == "revindex0") return Value::integer(length - index - 1);
    if (name == "first") return Value::boolean(index == 0);
    if (name == "last") return Value::boolean(index + 1 == length);
    if (name == "length") return Value::integer(length);
    if (name == "depth") return Value::integer(loop->depth);
    if (name == "depth0") return Value::integer(loop->depth - 1);
    if (name == "previtem")
        return index > 0 ? items[loop->index - 1] : Value::undefined("there is no previous item");
    if (name == "nextitem")
        return index + 1 < length ? items[loop->index + 1] : Value::undefined("there is no next item");
    if (name == "cycle")
        return make_callable({.kind = Callable::Kind::loop_cycle, .name = "cycle", .loop = loop});
    if (name == "changed")
        return make_callable({.kind = Callable::Kind::loop_changed, .name = "changed", .loop = loop});
    return Value::undefined(name);
}

// object.name: an attribute or a method in Python's sense first, then an item.
Result<Value> Interpreter::get_attribute(const Value& object, std::string_view name) {
    if (const auto* undefined = std::get_if<Undefined>(&object.data())) {
        return error(ErrorCode::invalid_argument, "'{}' is undefined, so it has no '{}'", undefined->name,
                     name);
    }
    if (const auto* space = std::get_if<std::shared_ptr<Namespace>>(&object.data())) {
        for (const auto& [known, value] : (*space)->attributes) {
            if (known == name) return value;
        }
        return Value::undefined(name);
    }
    if (const auto* loop = std::get_if<std::shared_ptr<Loop>>(&object.data()))
        return loop_attribute(*loop, name);
    if (const std::string_view method = find_method(object, name); !method.empty()) {
        return make_callable({.kind = Callable::Kind::method, .name = method, .self = object});
    }
    if (const Dict* dict = object.as_dict()) {
        if (const Value* value = dict->find(name)) return *value;
    }
    return Value::undefined(name);
}

// object[key]: an item first, then (for a string) an attribute.
Result<Value> Interpreter::get_item(const Value& object, const Value& key) {
    if (const auto* undefined = std::get_if<Undefined>(&object.data())) {
        return error(ErrorCode::invalid_argument, "'{}' is undefined", undefined->name);
    }
    if (const Dict* dict = object.as_dict()) {
        if (const Value* value = dict->find(key)) return *value;
    }
    const List* list = object.as_list();
    const bool indexed =
        object.is_string() ||
        (list != nullptr && (list->kind == List::Kind::list || list->kind == List::Kind::tuple));
    if (indexed && key.is_integer()) {
        const auto size = static_cast<std::int64_t>(list != nullptr ? list->items.size()
                                                                    : length_in_characters(object.text()));
        std::int64_t index = key.as_integer();
        if (index < 0) index += size;
        if (index < 0 || index >= size) return Value::undefined("an item past the end");
        if (list != nullptr) return list->items[static_cast<std::size_t>(index)];
        RETORT_CHECK(step(static_cast<std::uint64_t>(size) / 64));
        const std::size_t at = offset_of_character(object.text(), static_cast<std::size_t>(index));
        return make_string(object.text().substr(at, decode_valid(object.text(), at).length));
    }
    if (key.is_string()) {
        RETORT_TRY(Value value, get_attribute(object, key.text()));
        // The key's text may not outlive this call.
        if (value.is_undefined()) return Value::undefined("an item that is not there");
        return value;
    }
    return Value::undefined("an item that is not there");
}

}  // namespace retort::text::jinja
