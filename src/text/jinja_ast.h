// The tree of a parsed template. Depth is bounded by the parser, so that walking it never exhausts the stack.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja_value.h"

namespace retort::text::jinja {

struct Expression;
using ExpressionPointer = std::unique_ptr<Expression>;

struct Expression {
    enum class Kind {
        constant,
        name,
        list,
        tuple,
        dict,  // children: key, value, key, value, …
        negative,
        positive,
        logical_not,
        binary,  // name: the operator
        logical_and,
        logical_or,
        comparison,  // children: first, others; operators: one less
        concat,
        condition,  // children: test, value, otherwise (may be absent)
        attribute,  // children: object; name
        item,       // children: object, index
        slice,      // children: object, start, stop, step (null where absent)
        call,       // children: callee, arguments; named
        filter,     // children: value, arguments; named; name
        test,       // children: value, arguments; named; name
    };
    Kind kind = Kind::constant;
    int line = 0;
    int depth = 1;
    std::string name;
    Value constant;
    std::vector<ExpressionPointer> children;
    std::vector<std::pair<std::string, ExpressionPointer>> named;
    std::vector<std::string> operators;
};

struct Statement;
using StatementPointer = std::unique_ptr<Statement>;
using Body = std::vector<StatementPointer>;

struct Statement {
    enum class Kind {
        text,          // `text`
        print,         // expressions[0]
        set,           // targets[0] = expressions[0]
        set_block,     // targets[0] = body through `expressions` (filters over an empty constant)
        branch,        // expressions[i] guards bodies[i]; one more body is the else
        loop,          // targets[0] in expressions[0] if expressions[1]; bodies: body, else
        macro,         // name, parameters, defaults; bodies[0]
        call_block,    // expressions[0] called with a caller of `parameters`; bodies[0]
        filter_block,  // expressions[0] is a filter over what bodies[0] prints
        with,          // targets[i] = expressions[i]; bodies[0]
        scope,         // bodies[0] with variables of its own ({% generation %})
        loop_break,
        loop_continue,
    };
    Kind kind = Kind::text;
    int line = 0;
    std::string text;
    std::string name;
    std::vector<ExpressionPointer> targets;
    std::vector<ExpressionPointer> expressions;
    std::vector<Body> bodies;
    std::vector<std::string> parameters;
    std::vector<ExpressionPointer> defaults;  // of the last parameters
};

// A construct outside the subset is ErrorCode::unsupported and named, with its line.
Result<Body> parse(std::string_view source);

}  // namespace retort::text::jinja
