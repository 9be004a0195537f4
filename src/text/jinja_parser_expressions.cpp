#include "text/jinja_parser.h"

namespace retort::text::jinja {

ExpressionPointer Parser::make(Kind kind) const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->line = current().line;
    return node;
}

Status Parser::adopt(Expression& parent, ExpressionPointer child) const {
    if (child != nullptr) {
        parent.depth = std::max(parent.depth, child->depth + 1);
        if (parent.depth > max_depth) return error(ErrorCode::refused, "an expression nested too deeply");
    }
    parent.children.push_back(std::move(child));
    return {};
}

Result<ExpressionPointer> Parser::make_binary(Kind kind, std::string name, ExpressionPointer left,
                                              ExpressionPointer right) const {
    auto node = make(kind);
    node->line = left->line;
    node->name = std::move(name);
    // In Jinja 2 such a text would escape the plain text it is added to, as HTML.
    for (const Expression* side : {left.get(), right.get()}) {
        const bool marked = side->name == "safe" || side->name == "e" || side->name == "escape";
        if (side->kind == Kind::filter && marked) {
            return error(ErrorCode::unsupported, "the filter '{}' beside {} is not supported", side->name,
                         node->name);
        }
    }
    RETORT_CHECK(adopt(*node, std::move(left)));
    RETORT_CHECK(adopt(*node, std::move(right)));
    return node;
}

Result<ExpressionPointer> Parser::parse_expression(bool with_condition) {
    const DepthGuard guard(depth_);
    if (depth_ > max_depth) return error(ErrorCode::refused, "nested too deeply");
    RETORT_TRY(ExpressionPointer value, parse_or());
    while (with_condition && is_name("if")) {
        auto node = make(Kind::condition);
        next();
        RETORT_TRY(ExpressionPointer test, parse_or());
        ExpressionPointer otherwise;
        if (skip_name("else")) {
            RETORT_TRY(otherwise, parse_expression());
        }
        RETORT_CHECK(adopt(*node, std::move(test)));
        RETORT_CHECK(adopt(*node, std::move(value)));
        RETORT_CHECK(adopt(*node, std::move(otherwise)));
        value = std::move(node);
    }
    return value;
}

Result<ExpressionPointer> Parser::parse_tuple(bool with_condition) {
    auto tuple = make(Kind::tuple);
    RETORT_TRY(ExpressionPointer first, parse_expression(with_condition));
    if (!is_op(",")) return first;
    RETORT_CHECK(adopt(*tuple, std::move(first)));
    while (skip_op(",")) {
        const bool ends = current().kind == TokenKind::print_end || current().kind == TokenKind::block_end ||
                          is_op(")") || is_op("]");
        if (ends) break;
        RETORT_TRY(ExpressionPointer item, parse_expression(with_condition));
        RETORT_CHECK(adopt(*tuple, std::move(item)));
    }
    return tuple;
}

Result<ExpressionPointer> Parser::parse_or() {
    RETORT_TRY(ExpressionPointer left, parse_and());
    if (!is_name("or")) return left;
    auto node = make(Kind::logical_or);
    RETORT_CHECK(adopt(*node, std::move(left)));
    while (skip_name("or")) {
        RETORT_TRY(ExpressionPointer right, parse_and());
        RETORT_CHECK(adopt(*node, std::move(right)));
    }
    return node;
}

Result<ExpressionPointer> Parser::parse_and() {
    RETORT_TRY(ExpressionPointer left, parse_not());
    if (!is_name("and")) return left;
    auto node = make(Kind::logical_and);
    RETORT_CHECK(adopt(*node, std::move(left)));
    while (skip_name("and")) {
        RETORT_TRY(ExpressionPointer right, parse_not());
        RETORT_CHECK(adopt(*node, std::move(right)));
    }
    return node;
}

Result<ExpressionPointer> Parser::parse_not() {
    if (!is_name("not")) return parse_comparison();
    const DepthGuard guard(depth_);
    if (depth_ > max_depth) return error(ErrorCode::refused, "nested too deeply");
    auto node = make(Kind::logical_not);
    next();
    RETORT_TRY(ExpressionPointer value, parse_not());
    RETORT_CHECK(adopt(*node, std::move(value)));
    return node;
}

Result<ExpressionPointer> Parser::parse_comparison() {
    RETORT_TRY(ExpressionPointer left, parse_sum());
    ExpressionPointer node;
    while (true) {
        std::string op;
        for (const std::string_view known : {"==", "!=", "<=", ">=", "<", ">"}) {
            if (is_op(known)) op = known;
        }
        if (is_name("in")) op = "in";
        if (is_name("not") && ahead().kind == TokenKind::name && ahead().text == "in") op = "not in";
        if (op.empty()) break;
        if (node == nullptr) {
            node = make(Kind::comparison);
            RETORT_CHECK(adopt(*node, std::move(left)));
        }
        next();
        if (op == "not in") next();
        RETORT_TRY(ExpressionPointer right, parse_sum());
        node->operators.push_back(std::move(op));
        RETORT_CHECK(adopt(*node, std::move(right)));
    }
    if (node != nullptr) return node;
    return left;
}

Result<ExpressionPointer> Parser::parse_sum() {
    RETORT_TRY(ExpressionPointer left, parse_concat());
    while (is_op("+") || is_op("-")) {
        std::string op = current().text;
        next();
        RETORT_TRY(ExpressionPointer right, parse_concat());
        RETORT_TRY(left, make_binary(Kind::binary, std::move(op), std::move(left), std::move(right)));
    }
    return left;
}

Result<ExpressionPointer> Parser::parse_concat() {
    RETORT_TRY(ExpressionPointer left, parse_product());
    if (!is_op("~")) return left;
    auto node = make(Kind::concat);
    RETORT_CHECK(adopt(*node, std::move(left)));
    while (skip_op("~")) {
        RETORT_TRY(ExpressionPointer right, parse_product());
        RETORT_CHECK(adopt(*node, std::move(right)));
    }
    return node;
}

Result<ExpressionPointer> Parser::parse_product() {
    RETORT_TRY(ExpressionPointer left, parse_power());
    while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
        std::string op = current().text;
        next();
        RETORT_TRY(ExpressionPointer right, parse_power());
        RETORT_TRY(left, make_binary(Kind::binary, std::move(op), std::move(left), std::move(right)));
    }
    return left;
}

Result<ExpressionPointer> Parser::parse_power() {
    RETORT_TRY(ExpressionPointer left, parse_unary(true));
    while (skip_op("**")) {
        RETORT_TRY(ExpressionPointer right, parse_unary(true));
        RETORT_TRY(left, make_binary(Kind::binary, "**", std::move(left), std::move(right)));
    }
    return left;
}

Result<ExpressionPointer> Parser::parse_unary(bool with_filter) {
    ExpressionPointer node;
    if (is_op("-") || is_op("+")) {
        const DepthGuard guard(depth_);
        if (depth_ > max_depth) return error(ErrorCode::refused, "nested too deeply");
        node = make(is_op("-") ? Kind::negative : Kind::positive);
        next();
        RETORT_TRY(ExpressionPointer value, parse_unary(false));
        RETORT_CHECK(adopt(*node, std::move(value)));
    } else {
        RETORT_TRY(node, parse_primary());
    }
    RETORT_TRY(node, parse_postfix(std::move(node)));
    if (with_filter) return parse_filters(std::move(node));
    return node;
}

Result<ExpressionPointer> Parser::parse_primary() {
    const DepthGuard guard(depth_);
    if (depth_ > max_depth) return error(ErrorCode::refused, "nested too deeply");
    auto node = make(Kind::constant);
    const Token& token = current();
    switch (token.kind) {
        case TokenKind::name:
            if (token.text == "true" || token.text == "True") {
                node->constant = Value::boolean(true);
            } else if (token.text == "false" || token.text == "False") {
                node->constant = Value::boolean(false);
            } else if (token.text == "none" || token.text == "None") {
                node->constant = Value::none();
            } else {
                node->kind = Kind::name;
                node->name = token.text;
            }
            next();
            return node;
        case TokenKind::string: {
            std::string text;
            while (current().kind == TokenKind::string) {
                text += current().text;
                next();
            }
            node->constant = Value::string(std::move(text));
            return node;
        }
        case TokenKind::integer:
            node->constant = Value::integer(token.integer);
            next();
            return node;
        case TokenKind::number:
            node->constant = Value::number(token.number);
            next();
            return node;
        default:
            break;
    }
    if (is_op("[")) return parse_list();
    if (is_op("{")) return parse_dict();
    if (skip_op("(")) {
        if (skip_op(")")) {
            node->kind = Kind::tuple;
            return node;
        }
        RETORT_TRY(ExpressionPointer inner, parse_tuple());
        RETORT_CHECK(expect_op(")"));
        return inner;
    }
    return error(ErrorCode::format, "unexpected {}", describe());
}

Result<ExpressionPointer> Parser::parse_list() {
    auto node = make(Kind::list);
    next();
    while (!is_op("]")) {
        RETORT_TRY(ExpressionPointer item, parse_expression());
        RETORT_CHECK(adopt(*node, std::move(item)));
        if (!skip_op(",")) break;
    }
    RETORT_CHECK(expect_op("]"));
    return node;
}

Result<ExpressionPointer> Parser::parse_dict() {
    auto node = make(Kind::dict);
    next();
    while (!is_op("}")) {
        RETORT_TRY(ExpressionPointer key, parse_expression());
        RETORT_CHECK(expect_op(":"));
        RETORT_TRY(ExpressionPointer value, parse_expression());
        RETORT_CHECK(adopt(*node, std::move(key)));
        RETORT_CHECK(adopt(*node, std::move(value)));
        if (!skip_op(",")) break;
    }
    RETORT_CHECK(expect_op("}"));
    return node;
}

Result<ExpressionPointer> Parser::parse_postfix(ExpressionPointer node) {
    while (true) {
        if (is_op(".")) {
            next();
            auto attribute = make(Kind::attribute);
            if (current().kind == TokenKind::integer) {
                attribute->kind = Kind::item;
                auto index = make(Kind::constant);
                index->constant = Value::integer(current().integer);
                next();
                RETORT_CHECK(adopt(*attribute, std::move(node)));
                RETORT_CHECK(adopt(*attribute, std::move(index)));
            } else {
                RETORT_TRY(attribute->name, expect_name());
                RETORT_CHECK(adopt(*attribute, std::move(node)));
            }
            node = std::move(attribute);
        } else if (is_op("[")) {
            RETORT_TRY(node, parse_subscript(std::move(node)));
        } else if (is_op("(")) {
            auto call = make(Kind::call);
            RETORT_CHECK(adopt(*call, std::move(node)));
            RETORT_CHECK(parse_arguments(*call));
            node = std::move(call);
        } else {
            return node;
        }
    }
}

Result<ExpressionPointer> Parser::parse_subscript(ExpressionPointer object) {
    auto node = make(Kind::item);
    next();
    ExpressionPointer parts[3];
    int part = 0;
    bool slice = false;
    if (!is_op(":")) {
        RETORT_TRY(parts[0], parse_expression());
    }
    while (is_op(":")) {
        slice = true;
        next();
        if (++part > 2) return error(ErrorCode::format, "unexpected ':'");
        if (!is_op(":") && !is_op("]")) {
            RETORT_TRY(parts[part], parse_expression());
        }
    }
    if (is_op(",")) return error(ErrorCode::unsupported, "a subscript with commas is not supported");
    RETORT_CHECK(expect_op("]"));
    RETORT_CHECK(adopt(*node, std::move(object)));
    if (slice) {
        node->kind = Kind::slice;
        for (auto& bound : parts) RETORT_CHECK(adopt(*node, std::move(bound)));
    } else {
        RETORT_CHECK(adopt(*node, std::move(parts[0])));
    }
    return node;
}

Status Parser::parse_arguments(Expression& call) {
    RETORT_CHECK(expect_op("("));
    while (!is_op(")")) {
        if (is_op("*") || is_op("**")) {
            return error(ErrorCode::unsupported, "unpacked arguments ({}) are not supported", current().text);
        }
        const bool named =
            current().kind == TokenKind::name && ahead().kind == TokenKind::op && ahead().text == "=";
        if (named) {
            std::string name = current().text;
            next();
            next();
            RETORT_TRY(ExpressionPointer value, parse_expression());
            call.depth = std::max(call.depth, value->depth + 1);
            if (call.depth > max_depth) return error(ErrorCode::refused, "an expression nested too deeply");
            call.named.emplace_back(std::move(name), std::move(value));
        } else {
            if (!call.named.empty())
                return error(ErrorCode::format, "a positional argument after a named one");
            RETORT_TRY(ExpressionPointer value, parse_expression());
            RETORT_CHECK(adopt(call, std::move(value)));
        }
        if (!skip_op(",")) break;
    }
    return expect_op(")");
}

Result<ExpressionPointer> Parser::parse_filters(ExpressionPointer node) {
    while (true) {
        if (is_op("|")) {
            next();
            RETORT_TRY(node, parse_filter(std::move(node)));
        } else if (is_name("is")) {
            next();
            RETORT_TRY(node, parse_test(std::move(node)));
        } else if (is_op("(")) {
            auto call = make(Kind::call);
            RETORT_CHECK(adopt(*call, std::move(node)));
            RETORT_CHECK(parse_arguments(*call));
            node = std::move(call);
        } else {
            return node;
        }
    }
}

// The name and arguments of a filter, after the bar.
Result<ExpressionPointer> Parser::parse_filter(ExpressionPointer value) {
    auto node = make(Kind::filter);
    RETORT_TRY(node->name, expect_name());
    RETORT_CHECK(adopt(*node, std::move(value)));
    if (is_op("(")) RETORT_CHECK(parse_arguments(*node));
    return node;
}

Result<ExpressionPointer> Parser::parse_test(ExpressionPointer value) {
    auto node = make(Kind::test);
    const bool negated = skip_name("not");
    RETORT_TRY(node->name, expect_name());
    RETORT_CHECK(adopt(*node, std::move(value)));
    if (is_op("(")) {
        RETORT_CHECK(parse_arguments(*node));
    } else {
        const TokenKind kind = current().kind;
        const bool starts_argument = kind == TokenKind::string || kind == TokenKind::integer ||
                                     kind == TokenKind::number || is_op("[") || is_op("{") ||
                                     (kind == TokenKind::name && !is_name("else") && !is_name("or") &&
                                      !is_name("and") && !is_name("if") && !is_name("in") && !is_name("not"));
        if (starts_argument) {
            if (is_name("is")) return error(ErrorCode::format, "tests cannot be chained with is");
            RETORT_TRY(ExpressionPointer argument, parse_primary());
            RETORT_TRY(argument, parse_postfix(std::move(argument)));
            RETORT_CHECK(adopt(*node, std::move(argument)));
        }
    }
    if (!negated) return node;
    auto inverted = make(Kind::logical_not);
    RETORT_CHECK(adopt(*inverted, std::move(node)));
    return inverted;
}

}  // namespace retort::text::jinja
