#include "text/jinja_interpreter.h"

#include <algorithm>

#include "text/jinja_python.h"
#include "text/unicode.h"

namespace retort::text::jinja {
namespace {

constexpr int max_nesting = 600;  // expressions and statements within each other, across macros

}  // namespace

class Interpreter::Nesting {
  public:
    explicit Nesting(int& depth) : depth_(depth) { ++depth_; }
    ~Nesting() { --depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

  private:
    int& depth_;
};

const Value* Arguments::get(std::size_t index, std::string_view name) const {
    if (index < positional.size()) return &positional[index];
    for (const auto& [known, value] : named) {
        if (known == name) return &value;
    }
    return nullptr;
}

Result<std::int64_t> Arguments::integer_or(std::size_t index, std::string_view name,
                                           std::int64_t fallback) const {
    const Value* value = get(index, name);
    if (value == nullptr || value->is_none()) return fallback;
    if (!value->is_integer()) {
        return fail(ErrorCode::invalid_argument, "the argument '{}' must be an integer, not '{}'", name,
                    type_name(*value));
    }
    return value->as_integer();
}

Status Arguments::check(std::string_view what, std::initializer_list<std::string_view> names,
                        std::size_t required) const {
    if (positional.size() > names.size()) {
        return fail(ErrorCode::invalid_argument, "{} takes at most {} arguments, not {}", what, names.size(),
                    positional.size());
    }
    for (const auto& [name, value] : named) {
        if (std::find(names.begin(), names.end(), name) == names.end()) {
            return fail(ErrorCode::unsupported, "{} with an argument '{}' is not supported", what, name);
        }
    }
    for (std::size_t i = 0; i < required; ++i) {
        if (get(i, *(names.begin() + i)) == nullptr) {
            return fail(ErrorCode::invalid_argument, "{} needs the argument '{}'", what,
                        *(names.begin() + i));
        }
    }
    return {};
}

Interpreter::~Interpreter() {
    for (const auto& scope : captured_scopes_) scope->variables.clear();
    for (const auto& space : namespaces_) space->attributes.clear();
}

tl::unexpected<base::Error> Interpreter::error_from(base::Error error) const {
    if (!error.message.starts_with("line ")) error.message = fmt::format("line {}: {}", line_, error.message);
    return tl::unexpected<base::Error>(std::move(error));
}

Status Interpreter::charge(std::size_t bytes) {
    if (bytes > limits_.total_bytes - used_bytes_) {
        return error(ErrorCode::refused, "the template makes values of more than {} bytes",
                     limits_.total_bytes);
    }
    used_bytes_ += bytes;
    return {};
}

Status Interpreter::step(std::uint64_t count) {
    if (count > limits_.steps - used_steps_) {
        return error(ErrorCode::refused, "the template takes more than {} steps", limits_.steps);
    }
    used_steps_ += count;
    return {};
}

Result<Value> Interpreter::make_string(std::string text) {
    RETORT_CHECK(charge(text.size() + sizeof(std::string)));
    return Value::string(std::move(text));
}

Result<Value> Interpreter::make_list(std::vector<Value> items, List::Kind kind) {
    RETORT_CHECK(charge(items.size() * sizeof(Value) + sizeof(List)));
    RETORT_CHECK(step(items.size() / 8));
    return Value::list(std::move(items), kind);
}

Result<std::string> Interpreter::to_text(const Value& value) {
    auto text = str(value, bytes_left());
    if (!text) return error_from(std::move(text.error()));
    RETORT_CHECK(charge(text->size()));
    return text;
}

Result<std::vector<Value>> Interpreter::to_items(const Value& value) {
    if (!iterable(value)) {
        return error(ErrorCode::invalid_argument, "'{}' object is not iterable", type_name(value));
    }
    std::size_t count = 0;
    if (const List* list = value.as_list()) count = list->items.size();
    if (const Dict* dict = value.as_dict()) count = dict->entries().size();
    if (value.is_string()) count = value.text().size() * 2;  // each character is a string of its own
    RETORT_CHECK(charge(count * sizeof(Value)));
    RETORT_CHECK(step(count / 8));
    return items_of(value);
}

Result<bool> Interpreter::same(const Value& left, const Value& right) {
    const std::uint64_t before = limits_.steps - used_steps_;
    std::uint64_t budget = before;
    const bool result = equal(left, right, budget);
    RETORT_CHECK(step(before - budget + (budget == 0 ? 1 : 0)));
    return result;
}

Result<int> Interpreter::order(const Value& left, const Value& right) {
    for (const Value* value : {&left, &right}) {
        if (const auto* undefined = std::get_if<Undefined>(&value->data())) {
            return error(ErrorCode::invalid_argument, "'{}' is undefined", undefined->name);
        }
    }
    const std::uint64_t before = limits_.steps - used_steps_;
    std::uint64_t budget = before;
    auto result = compare(left, right, budget);
    RETORT_CHECK(step(before - budget + 1));
    if (!result) return error_from(std::move(result.error()));
    return result;
}

Result<std::string> Interpreter::render(const Body& body, const Variables& variables) {
    const auto scope = std::make_shared<Scope>();
    for (const auto& [name, json] : variables) scope->variables.emplace_back(name, from_json(json));
    captured_scopes_.push_back(scope);
    std::string out;
    auto flow = run(body, scope, out);
    if (!flow) return tl::make_unexpected(std::move(flow.error()));
    return out;
}

Status Interpreter::print(std::string_view text, std::string& out) {
    printed_ += text.size();
    if (printed_ > limits_.output_bytes) {
        return error(ErrorCode::refused, "the template prints more than {} bytes", limits_.output_bytes);
    }
    out.append(text);
    return {};
}

Result<Interpreter::Flow> Interpreter::run(const Body& body, const std::shared_ptr<Scope>& scope,
                                           std::string& out) {
    for (const StatementPointer& statement : body) {
        RETORT_TRY(const Flow flow, run(*statement, scope, out));
        if (flow != Flow::next) return flow;
    }
    return Flow::next;
}

Result<Value> Interpreter::capture(const Body& body, const std::shared_ptr<Scope>& scope) {
    // What is captured counts as printed when it is printed.
    std::string out;
    const std::size_t printed = printed_;
    RETORT_TRY([[maybe_unused]] const Flow flow, run(body, scope, out));
    printed_ = printed;
    return make_string(std::move(out));
}

Result<Interpreter::Flow> Interpreter::run(const Statement& statement, const std::shared_ptr<Scope>& scope,
                                           std::string& out) {
    const Nesting nesting(nesting_);
    line_ = statement.line;
    if (nesting_ > max_nesting) return error(ErrorCode::refused, "the template nests too deeply");
    RETORT_CHECK(step());
    const auto inner_scope = [&] { return std::make_shared<Scope>(Scope{scope, {}}); };
    switch (statement.kind) {
        case Statement::Kind::text:
            RETORT_CHECK(print(statement.text, out));
            return Flow::next;
        case Statement::Kind::print: {
            RETORT_TRY(const Value value, evaluate(*statement.expressions[0], scope));
            line_ = statement.line;
            if (value.is_string()) {
                RETORT_CHECK(print(value.text(), out));
            } else {
                RETORT_TRY(const std::string text, to_text(value));
                RETORT_CHECK(print(text, out));
            }
            return Flow::next;
        }
        case Statement::Kind::set: {
            RETORT_TRY(Value value, evaluate(*statement.expressions[0], scope));
            RETORT_CHECK(assign(*statement.targets[0], std::move(value), scope));
            return Flow::next;
        }
        case Statement::Kind::set_block: {
            RETORT_TRY(Value value, capture(statement.bodies[0], inner_scope()));
            RETORT_TRY(value, filter_chain(*statement.expressions[0], std::move(value), scope));
            RETORT_CHECK(assign(*statement.targets[0], std::move(value), scope));
            return Flow::next;
        }
        case Statement::Kind::branch: {
            for (std::size_t i = 0; i < statement.expressions.size(); ++i) {
                RETORT_TRY(const Value test, evaluate(*statement.expressions[i], scope));
                if (truthy(test)) return run(statement.bodies[i], scope, out);
            }
            if (statement.bodies.size() > statement.expressions.size())
                return run(statement.bodies.back(), scope, out);
            return Flow::next;
        }
        case Statement::Kind::loop:
            return run_loop(statement, scope, out);
        case Statement::Kind::macro: {
            captured_scopes_.push_back(scope);
            RETORT_TRY(Value macro, make_callable({.kind = Callable::Kind::macro,
                                                   .name = statement.name,
                                                   .body = &statement,
                                                   .scope = scope}));
            for (auto& [name, value] : scope->variables) {
                if (name != statement.name) continue;
                value = std::move(macro);
                return Flow::next;
            }
            scope->variables.emplace_back(statement.name, std::move(macro));
            return Flow::next;
        }
        case Statement::Kind::call_block: {
            captured_scopes_.push_back(scope);
            RETORT_TRY(const Value caller, make_callable({.kind = Callable::Kind::call_body,
                                                          .name = "caller",
                                                          .body = &statement,
                                                          .scope = scope}));
            RETORT_TRY(const Value value, evaluate_call(*statement.expressions[0], scope, &caller));
            RETORT_TRY(const std::string text, to_text(value));
            RETORT_CHECK(print(text, out));
            return Flow::next;
        }
        case Statement::Kind::filter_block: {
            RETORT_TRY(Value value, capture(statement.bodies[0], inner_scope()));
            RETORT_TRY(value, filter_chain(*statement.expressions[0], std::move(value), scope));
            RETORT_TRY(const std::string text, to_text(value));
            RETORT_CHECK(print(text, out));
            return Flow::next;
        }
        case Statement::Kind::with: {
            const auto inner = inner_scope();
            for (std::size_t i = 0; i < statement.targets.size(); ++i) {
                RETORT_TRY(Value value, evaluate(*statement.expressions[i], scope));
                inner->variables.emplace_back(statement.targets[i]->name, std::move(value));
            }
            return run(statement.bodies[0], inner, out);
        }
        case Statement::Kind::scope:
            return run(statement.bodies[0], inner_scope(), out);
        case Statement::Kind::loop_break:
            return Flow::loop_break;
        case Statement::Kind::loop_continue:
            return Flow::loop_continue;
    }
    return Flow::next;
}

Result<Interpreter::Flow> Interpreter::run_loop(const Statement& statement,
                                                const std::shared_ptr<Scope>& scope, std::string& out) {
    RETORT_TRY(const Value source, evaluate(*statement.expressions[0], scope));
    RETORT_TRY(std::vector<Value> items, to_items(source));
    const Expression* const condition = statement.expressions[1].get();
    if (condition != nullptr) {
        std::vector<Value> kept;
        for (Value& item : items) {
            const auto inner = std::make_shared<Scope>(Scope{scope, {}});
            RETORT_CHECK(assign(*statement.targets[0], item, inner));
            RETORT_TRY(const Value test, evaluate(*condition, inner));
            if (truthy(test)) kept.push_back(std::move(item));
        }
        items = std::move(kept);
    }
    if (items.empty()) {
        if (statement.bodies.size() > 1) return run(statement.bodies[1], scope, out);
        return Flow::next;
    }
    const auto loop = std::make_shared<Loop>();
    // loop.changed(loop) would keep the loop alive for ever.
    const std::shared_ptr<void> forget(nullptr, [&](void*) { loop->last_changed.clear(); });
    loop->items = std::make_shared<const List>(List{List::Kind::list, std::move(items)});
    for (std::size_t i = 0; i < loop->items->items.size(); ++i) {
        loop->index = i;
        const auto inner = std::make_shared<Scope>(Scope{scope, {}});
        inner->variables.emplace_back("loop", Value(Value::Data(loop)));
        RETORT_CHECK(assign(*statement.targets[0], loop->items->items[i], inner));
        RETORT_TRY(const Flow flow, run(statement.bodies[0], inner, out));
        if (flow == Flow::loop_break) break;
    }
    return Flow::next;
}

Status Interpreter::assign(const Expression& target, Value value, const std::shared_ptr<Scope>& scope) {
    if (target.kind == Expression::Kind::tuple) {
        RETORT_TRY(std::vector<Value> items, to_items(value));
        if (items.size() != target.children.size()) {
            return error(ErrorCode::invalid_argument, "{} values for {} names", items.size(),
                         target.children.size());
        }
        for (std::size_t i = 0; i < items.size(); ++i)
            RETORT_CHECK(assign(*target.children[i], std::move(items[i]), scope));
        return {};
    }
    if (target.kind == Expression::Kind::attribute) {
        RETORT_TRY(const Value object, evaluate(*target.children[0], scope));
        const auto* space = std::get_if<std::shared_ptr<Namespace>>(&object.data());
        if (space == nullptr) {
            return error(ErrorCode::invalid_argument,
                         "cannot assign attribute '{}' on an object that is no namespace", target.name);
        }
        if (target.name.starts_with('_')) {
            return error(ErrorCode::refused, "a namespace's attribute cannot begin with an underscore: '{}'",
                         target.name);
        }
        for (auto& [name, existing] : (*space)->attributes) {
            if (name != target.name) continue;
            existing = std::move(value);
            return {};
        }
        (*space)->attributes.emplace_back(target.name, std::move(value));
        return {};
    }
    for (auto& [name, existing] : scope->variables) {
        if (name != target.name) continue;
        existing = std::move(value);
        return {};
    }
    scope->variables.emplace_back(target.name, std::move(value));
    return {};
}

Result<Value> Interpreter::filter(std::string_view name, const Value& value, const Arguments& arguments) {
    const FilterFunction function = find_filter(name);
    if (function == nullptr) return error(ErrorCode::unsupported, "the filter '{}' is not supported", name);
    auto result = function(*this, value, arguments);
    if (!result) return error_from(std::move(result.error()));
    return result;
}

Result<bool> Interpreter::test(std::string_view name, const Value& value, const Arguments& arguments) {
    const TestFunction function = find_test(name);
    if (function == nullptr) return error(ErrorCode::unsupported, "the test '{}' is not supported", name);
    auto result = function(*this, value, arguments);
    if (!result) return error_from(std::move(result.error()));
    return result;
}

Result<Value> Interpreter::make_callable(Callable callable) {
    RETORT_CHECK(charge(sizeof(Callable)));
    return Value(Value::Data(std::make_shared<const Callable>(std::move(callable))));
}

Result<Value> Interpreter::call(const Value& callee, Arguments arguments, const Value* caller) {
    if (const auto* undefined = std::get_if<Undefined>(&callee.data())) {
        return error(ErrorCode::invalid_argument, "'{}' is undefined", undefined->name);
    }
    const auto* pointer = std::get_if<std::shared_ptr<const Callable>>(&callee.data());
    if (pointer == nullptr)
        return error(ErrorCode::invalid_argument, "'{}' object is not callable", type_name(callee));
    const Callable& callable = **pointer;
    const int line = line_;
    auto result = [&]() -> Result<Value> {
        switch (callable.kind) {
            case Callable::Kind::function:
                return call_function(callable.name, arguments);
            case Callable::Kind::method:
                return call_method(*this, callable.self, callable.name, arguments);
            case Callable::Kind::macro:
            case Callable::Kind::call_body:
                return call_body(callable, arguments, caller);
            case Callable::Kind::loop_cycle:
                if (arguments.positional.empty())
                    return error(ErrorCode::invalid_argument, "no items for cycling given");
                return arguments.positional[callable.loop->index % arguments.positional.size()];
            case Callable::Kind::loop_changed: {
                Loop& loop = *callable.loop;
                bool changed =
                    !loop.changed_before || loop.last_changed.size() != arguments.positional.size();
                for (std::size_t i = 0; i < arguments.positional.size() && !changed; ++i) {
                    RETORT_TRY(const bool unchanged, same(loop.last_changed[i], arguments.positional[i]));
                    changed = !unchanged;
                }
                loop.changed_before = true;
                loop.last_changed = arguments.positional;
                return Value::boolean(changed);
            }
        }
        return Value();
    }();
    line_ = line;
    if (!result) return error_from(std::move(result.error()));
    return result;
}

Result<Value> Interpreter::call_body(const Callable& callable, const Arguments& arguments,
                                     const Value* caller) {
    const Statement& body = *callable.body;
    if (calls_ >= limits_.call_depth)
        return error(ErrorCode::refused, "macros call each other more than {} deep", calls_);
    if (arguments.positional.size() > body.parameters.size()) {
        return error(ErrorCode::invalid_argument, "macro '{}' takes not more than {} arguments",
                     callable.name, body.parameters.size());
    }
    const auto scope = std::make_shared<Scope>(Scope{callable.scope, {}});
    for (const auto& [name, value] : arguments.named) {
        if (std::find(body.parameters.begin(), body.parameters.end(), name) == body.parameters.end()) {
            return error(ErrorCode::invalid_argument, "macro '{}' takes no keyword argument '{}'",
                         callable.name, name);
        }
    }
    for (std::size_t i = 0; i < body.parameters.size(); ++i) {
        const std::string& name = body.parameters[i];
        const std::size_t first_default = body.parameters.size() - body.defaults.size();
        if (const Value* given = arguments.get(i, name)) {
            scope->variables.emplace_back(name, *given);
        } else if (i >= first_default) {
            RETORT_TRY(Value value, evaluate(*body.defaults[i - first_default], scope));
            scope->variables.emplace_back(name, std::move(value));
        } else {
            scope->variables.emplace_back(name, Value::undefined(name));
        }
    }
    if (callable.kind == Callable::Kind::macro) {
        scope->variables.emplace_back("caller", caller != nullptr ? *caller : Value::undefined("caller"));
    }
    ++calls_;
    auto text = capture(body.bodies[0], scope);
    --calls_;
    return text;
}

}  // namespace retort::text::jinja
