// Runs a parsed template. Filters, tests and methods (jinja_filters*.cpp, jinja_tests.cpp, jinja_methods.cpp)
// work through it, so that everything they make counts against the limits. Internal to the template language.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja.h"
#include "text/jinja_ast.h"
#include "text/jinja_value.h"

namespace retort::text::jinja {

struct Scope {
    std::shared_ptr<Scope> parent;
    std::vector<std::pair<std::string_view, Value>> variables;
};

// Something that can be called: a global function, a bound method, a macro, or a call block's body.
struct Callable {
    enum class Kind { function, method, macro, call_body, loop_cycle, loop_changed };
    Kind kind = Kind::function;
    std::string_view name;
    Value self;                       // method
    std::shared_ptr<Loop> loop;       // cycle, changed
    const Statement* body = nullptr;  // macro, call_body
    std::shared_ptr<Scope> scope;     // where it was defined
};

struct Arguments {
    std::vector<Value> positional;
    std::vector<std::pair<std::string_view, Value>> named;

    // The argument of that name or place; null when it is not there.
    [[nodiscard]] const Value* get(std::size_t index, std::string_view name) const;
    // Whether it is true to Python; `fallback` when it is not there.
    [[nodiscard]] bool flag(std::size_t index, std::string_view name, bool fallback) const {
        const Value* value = get(index, name);
        return value == nullptr ? fallback : truthy(*value);
    }
    // It as an integer; `fallback` when it is not there or none, an error when it is something else.
    [[nodiscard]] Result<std::int64_t> integer_or(std::size_t index, std::string_view name,
                                                  std::int64_t fallback) const;
    // Too many, too few, or of unknown names is an error that names `what`.
    [[nodiscard]] Status check(std::string_view what, std::initializer_list<std::string_view> names,
                               std::size_t required = 0) const;
};

class Interpreter {
  public:
    explicit Interpreter(const Limits& limits) : limits_(limits) {}
    ~Interpreter();
    Interpreter(const Interpreter&) = delete;
    Interpreter& operator=(const Interpreter&) = delete;

    Result<std::string> render(const Body& body, const Variables& variables);

    // For filters, tests and methods. Every value they make is charged.
    Status charge(std::size_t bytes);
    Status step(std::uint64_t count = 1);
    [[nodiscard]] std::size_t bytes_left() const { return limits_.total_bytes - used_bytes_; }
    Result<Value> make_string(std::string text);
    Result<Value> make_list(std::vector<Value> items, List::Kind kind = List::Kind::list);
    Result<std::string> to_text(const Value& value);  // str(), charged
    // items_of(), charged; an error for what cannot be iterated over.
    Result<std::vector<Value>> to_items(const Value& value);
    // == and the order of <, charged.
    Result<bool> same(const Value& left, const Value& right);
    Result<int> order(const Value& left, const Value& right);
    Result<bool> contains(const Value& container, const Value& item);
    Result<Value> get_attribute(const Value& object, std::string_view name);
    Result<Value> get_item(const Value& object, const Value& key);
    Result<Value> filter(std::string_view name, const Value& value, const Arguments& arguments);
    Result<bool> test(std::string_view name, const Value& value, const Arguments& arguments);
    // "line 7: …"
    template <typename... Args>
    [[nodiscard]] tl::unexpected<base::Error> error(ErrorCode code, fmt::format_string<Args...> text,
                                                    Args&&... args) const {
        return fail(code, "line {}: {}", line_, fmt::format(text, std::forward<Args>(args)...));
    }
    [[nodiscard]] tl::unexpected<base::Error> error_from(base::Error error) const;

  private:
    enum class Flow { next, loop_break, loop_continue };
    class Nesting;

    Result<Flow> run(const Body& body, const std::shared_ptr<Scope>& scope, std::string& out);
    Result<Flow> run(const Statement& statement, const std::shared_ptr<Scope>& scope, std::string& out);
    Result<Flow> run_loop(const Statement& statement, const std::shared_ptr<Scope>& scope, std::string& out);
    Result<Value> capture(const Body& body, const std::shared_ptr<Scope>& scope);
    Status assign(const Expression& target, Value value, const std::shared_ptr<Scope>& scope);
    Status print(std::string_view text, std::string& out);

    Result<Value> evaluate(const Expression& expression, const std::shared_ptr<Scope>& scope);
    Result<Value> evaluate_filter(const Expression& expression, Value value,
                                  const std::shared_ptr<Scope>& scope);
    Result<Value> filter_chain(const Expression& expression, Value innermost,
                               const std::shared_ptr<Scope>& scope);
    Result<Value> evaluate_name(const Expression& expression, const std::shared_ptr<Scope>& scope);
    Result<Value> evaluate_dict(const Expression& expression, const std::shared_ptr<Scope>& scope);
    Result<Value> evaluate_comparison(const Expression& expression, const std::shared_ptr<Scope>& scope);
    Result<Value> evaluate_slice(const Expression& expression, const std::shared_ptr<Scope>& scope);
    Result<Value> evaluate_call(const Expression& expression, const std::shared_ptr<Scope>& scope,
                                const Value* caller);
    Result<Arguments> evaluate_arguments(const Expression& expression, std::size_t first,
                                         const std::shared_ptr<Scope>& scope);
    Result<Value> binary(std::string_view op, const Value& left, const Value& right);
    Result<Value> call(const Value& callee, Arguments arguments, const Value* caller);
    Result<Value> call_function(std::string_view name, const Arguments& arguments);
    Result<Value> call_body(const Callable& callable, const Arguments& arguments, const Value* caller);
    Result<Value> make_callable(Callable callable);
    Result<Value> loop_attribute(const std::shared_ptr<Loop>& loop, std::string_view name);

    Limits limits_;
    std::size_t used_bytes_ = 0;
    std::uint64_t used_steps_ = 0;
    std::size_t printed_ = 0;
    int line_ = 0;
    int nesting_ = 0;
    int calls_ = 0;
    // A macro and the scope that holds it, or namespaces, may refer to each other: emptied at the end.
    std::vector<std::shared_ptr<Scope>> captured_scopes_;
    std::vector<std::shared_ptr<Namespace>> namespaces_;
};

// jinja_operators.cpp: arithmetic and slices.
Result<Value> binary_operation(Interpreter& interpreter, std::string_view op, const Value& left,
                               const Value& right);
Result<Value> slice(Interpreter& interpreter, const Value& object, const Value& start, const Value& stop,
                    const Value& step);
// jinja_filters.cpp and jinja_tests.cpp: null for an unknown name.
using FilterFunction = Result<Value> (*)(Interpreter&, const Value&, const Arguments&);
using TestFunction = Result<bool> (*)(Interpreter&, const Value&, const Arguments&);
FilterFunction find_filter(std::string_view name);
FilterFunction find_sequence_filter(
    std::string_view name);  // jinja_filters_sequence.cpp, which find_filter asks
TestFunction find_test(std::string_view name);
// jinja_methods.cpp: methods of strings, lists and dicts.
// The method's own name (static storage), empty when the type has no such method.
std::string_view find_method(const Value& self, std::string_view name);
Result<Value> call_method(Interpreter& interpreter, const Value& self, std::string_view name,
                          const Arguments& arguments);
// jinja_functions.cpp: range, dict, raise_exception, strftime_now.
std::string_view find_function(std::string_view name);

}  // namespace retort::text::jinja
