#include "text/jinja_parser.h"

#include <algorithm>

namespace retort::text::jinja {

bool Parser::skip_op(std::string_view text) {
    if (!is_op(text)) return false;
    next();
    return true;
}

bool Parser::skip_name(std::string_view text) {
    if (!is_name(text)) return false;
    next();
    return true;
}

std::string Parser::describe() const {
    switch (current().kind) {
        case TokenKind::data:
            return "text";
        case TokenKind::print_begin:
        case TokenKind::block_begin:
            return "the beginning of a tag";
        case TokenKind::print_end:
        case TokenKind::block_end:
            return "the end of a tag";
        case TokenKind::string:
            return "a string";
        case TokenKind::integer:
        case TokenKind::number:
            return "a number";
        case TokenKind::end:
            return "the end of the template";
        case TokenKind::name:
        case TokenKind::op:
            break;
    }
    return fmt::format("'{}'", current().text);
}

Status Parser::expect_op(std::string_view text) {
    if (skip_op(text)) return {};
    return error(ErrorCode::format, "expected '{}', found {}", text, describe());
}

Result<std::string> Parser::expect_name() {
    if (current().kind != TokenKind::name)
        return error(ErrorCode::format, "expected a name, found {}", describe());
    std::string name = current().text;
    next();
    return name;
}

Status Parser::finish_block() {
    if (current().kind != TokenKind::block_end) {
        return error(ErrorCode::format, "expected the end of the tag, found {}", describe());
    }
    next();
    return {};
}

Result<Body> Parser::parse_template() {
    RETORT_TRY(Body body, parse_body({}));
    return body;
}

// Statements up to a tag that begins with one of the names, which stays current; up to the end when there is
// none.
Result<Body> Parser::parse_body(std::initializer_list<std::string_view> ends) {
    const DepthGuard guard(depth_);
    if (depth_ > max_depth) return error(ErrorCode::refused, "blocks nested too deeply");
    Body body;
    while (true) {
        const Token& token = current();
        if (token.kind == TokenKind::end) {
            if (ends.size() == 0) return body;
            return error(ErrorCode::format, "the template ends before {{% {} %}}", *(ends.end() - 1));
        }
        if (token.kind == TokenKind::data) {
            auto text = std::make_unique<Statement>();
            text->line = token.line;
            text->text = token.text;
            next();
            body.push_back(std::move(text));
        } else if (token.kind == TokenKind::print_begin) {
            auto print = std::make_unique<Statement>();
            print->kind = Statement::Kind::print;
            print->line = token.line;
            next();
            RETORT_TRY(ExpressionPointer value, parse_tuple());
            if (current().kind != TokenKind::print_end) {
                return error(ErrorCode::format, "expected }}}}, found {}", describe());
            }
            next();
            print->expressions.push_back(std::move(value));
            body.push_back(std::move(print));
        } else if (token.kind == TokenKind::block_begin) {
            next();
            for (const std::string_view end : ends) {
                if (is_name(end)) return body;
            }
            RETORT_TRY(StatementPointer statement, parse_statement());
            if (statement != nullptr) body.push_back(std::move(statement));
        } else {
            return error(ErrorCode::format, "unexpected {}", describe());
        }
    }
}

Result<Body> Parser::parse_block_body(std::string_view end) {
    RETORT_CHECK(finish_block());
    RETORT_TRY(Body body, parse_body({end}));
    next();
    if (end == "endmacro" && current().kind == TokenKind::name) next();  // the macro's name may be repeated
    RETORT_CHECK(finish_block());
    return body;
}

Result<StatementPointer> Parser::parse_statement() {
    const int line = current().line;
    if (current().kind != TokenKind::name)
        return error(ErrorCode::format, "expected a tag's name, found {}", describe());
    const std::string tag = current().text;
    next();
    if (tag == "set") return parse_set(line);
    if (tag == "if") return parse_if(line);
    if (tag == "for") return parse_for(line);
    if (tag == "macro") return parse_macro(line);
    if (tag == "call") return parse_call_block(line);
    if (tag == "filter") return parse_filter_block(line);
    if (tag == "with") return parse_with(line);
    auto statement = std::make_unique<Statement>();
    statement->line = line;
    if (tag == "generation") {
        statement->kind = Statement::Kind::scope;
        RETORT_TRY(Body body, parse_block_body("endgeneration"));
        statement->bodies.push_back(std::move(body));
        return statement;
    }
    if (tag == "break" || tag == "continue") {
        if (loop_depth_ == 0) return error(ErrorCode::format, "{{% {} %}} outside a loop", tag);
        statement->kind = tag == "break" ? Statement::Kind::loop_break : Statement::Kind::loop_continue;
        RETORT_CHECK(finish_block());
        return statement;
    }
    if (tag.starts_with("end") || tag == "else" || tag == "elif") {
        return fail(ErrorCode::format, "line {}: {{% {} %}} without its beginning", line, tag);
    }
    return fail(ErrorCode::unsupported, "line {}: the tag {{% {} %}} is not supported", line, tag);
}

Result<ExpressionPointer> Parser::parse_target(bool with_tuple, bool with_attribute) {
    auto target = make(Kind::name);
    const auto parse_name = [&]() -> Result<ExpressionPointer> {
        auto name = make(Kind::name);
        RETORT_TRY(name->name, expect_name());
        constexpr std::string_view reserved[] = {"true", "false", "none", "True", "False", "None"};
        if (std::find(std::begin(reserved), std::end(reserved), name->name) != std::end(reserved)) {
            return error(ErrorCode::format, "{} cannot be assigned to", name->name);
        }
        return name;
    };
    const bool bracketed = with_tuple && skip_op("(");
    RETORT_TRY(ExpressionPointer first, parse_name());
    if (with_attribute && skip_op(".")) {
        target->kind = Kind::attribute;
        RETORT_TRY(target->name, expect_name());
        RETORT_CHECK(adopt(*target, std::move(first)));
        return target;
    }
    if (!with_tuple || !is_op(",")) {
        if (bracketed) RETORT_CHECK(expect_op(")"));
        return first;
    }
    target->kind = Kind::tuple;
    RETORT_CHECK(adopt(*target, std::move(first)));
    while (skip_op(",")) {
        if (current().kind != TokenKind::name || is_name("in")) break;
        RETORT_TRY(ExpressionPointer name, parse_name());
        RETORT_CHECK(adopt(*target, std::move(name)));
    }
    if (bracketed) RETORT_CHECK(expect_op(")"));
    return target;
}

Result<StatementPointer> Parser::parse_set(int line) {
    auto statement = std::make_unique<Statement>();
    statement->line = line;
    RETORT_TRY(ExpressionPointer target, parse_target(true, true));
    statement->targets.push_back(std::move(target));
    if (skip_op("=")) {
        statement->kind = Statement::Kind::set;
        RETORT_TRY(ExpressionPointer value, parse_tuple());
        statement->expressions.push_back(std::move(value));
        RETORT_CHECK(finish_block());
        return statement;
    }
    statement->kind = Statement::Kind::set_block;
    auto filtered = make(Kind::constant);
    while (skip_op("|")) {
        RETORT_TRY(filtered, parse_filter(std::move(filtered)));
    }
    statement->expressions.push_back(std::move(filtered));
    RETORT_TRY(Body body, parse_block_body("endset"));
    statement->bodies.push_back(std::move(body));
    return statement;
}

Result<StatementPointer> Parser::parse_if(int line) {
    auto statement = std::make_unique<Statement>();
    statement->kind = Statement::Kind::branch;
    statement->line = line;
    while (true) {
        RETORT_TRY(ExpressionPointer test, parse_tuple(false));
        statement->expressions.push_back(std::move(test));
        RETORT_CHECK(finish_block());
        RETORT_TRY(Body body, parse_body({"elif", "else", "endif"}));
        statement->bodies.push_back(std::move(body));
        if (skip_name("elif")) continue;
        if (skip_name("else")) {
            RETORT_TRY(Body otherwise, parse_block_body("endif"));
            statement->bodies.push_back(std::move(otherwise));
            return statement;
        }
        next();
        RETORT_CHECK(finish_block());
        return statement;
    }
}

Result<StatementPointer> Parser::parse_for(int line) {
    auto statement = std::make_unique<Statement>();
    statement->kind = Statement::Kind::loop;
    statement->line = line;
    RETORT_TRY(ExpressionPointer target, parse_target(true, false));
    if (!skip_name("in")) return error(ErrorCode::format, "expected 'in', found {}", describe());
    RETORT_TRY(ExpressionPointer items, parse_tuple(false));
    ExpressionPointer condition;
    if (skip_name("if")) {
        RETORT_TRY(condition, parse_expression());
    }
    if (is_name("recursive")) return error(ErrorCode::unsupported, "a recursive loop is not supported");
    statement->targets.push_back(std::move(target));
    statement->expressions.push_back(std::move(items));
    statement->expressions.push_back(std::move(condition));
    RETORT_CHECK(finish_block());
    ++loop_depth_;
    auto body = parse_body({"else", "endfor"});
    --loop_depth_;
    if (!body) return tl::make_unexpected(std::move(body.error()));
    statement->bodies.push_back(std::move(*body));
    if (skip_name("else")) {
        RETORT_TRY(Body otherwise, parse_block_body("endfor"));
        statement->bodies.push_back(std::move(otherwise));
        return statement;
    }
    next();
    RETORT_CHECK(finish_block());
    return statement;
}

Status Parser::parse_signature(Statement& statement) {
    RETORT_CHECK(expect_op("("));
    while (!is_op(")")) {
        RETORT_TRY(std::string name, expect_name());
        statement.parameters.push_back(std::move(name));
        if (skip_op("=")) {
            RETORT_TRY(ExpressionPointer value, parse_expression());
            statement.defaults.push_back(std::move(value));
        } else if (!statement.defaults.empty()) {
            return error(ErrorCode::format, "a parameter without a default follows one that has one");
        }
        if (!skip_op(",")) break;
    }
    return expect_op(")");
}

Result<StatementPointer> Parser::parse_macro(int line) {
    auto statement = std::make_unique<Statement>();
    statement->kind = Statement::Kind::macro;
    statement->line = line;
    RETORT_TRY(statement->name, expect_name());
    RETORT_CHECK(parse_signature(*statement));
    const int outer_loops = std::exchange(loop_depth_, 0);
    auto body = parse_block_body("endmacro");
    loop_depth_ = outer_loops;
    if (!body) return tl::make_unexpected(std::move(body.error()));
    statement->bodies.push_back(std::move(*body));
    return statement;
}

Result<StatementPointer> Parser::parse_call_block(int line) {
    auto statement = std::make_unique<Statement>();
    statement->kind = Statement::Kind::call_block;
    statement->line = line;
    if (is_op("(")) RETORT_CHECK(parse_signature(*statement));
    RETORT_TRY(ExpressionPointer call, parse_expression());
    if (call->kind != Kind::call) return error(ErrorCode::format, "{{% call %}} without a call");
    statement->expressions.push_back(std::move(call));
    const int outer_loops = std::exchange(loop_depth_, 0);
    auto body = parse_block_body("endcall");
    loop_depth_ = outer_loops;
    if (!body) return tl::make_unexpected(std::move(body.error()));
    statement->bodies.push_back(std::move(*body));
    return statement;
}

Result<StatementPointer> Parser::parse_filter_block(int line) {
    auto statement = std::make_unique<Statement>();
    statement->kind = Statement::Kind::filter_block;
    statement->line = line;
    RETORT_TRY(ExpressionPointer filtered, parse_filter(make(Kind::constant)));
    while (skip_op("|")) {
        RETORT_TRY(filtered, parse_filter(std::move(filtered)));
    }
    statement->expressions.push_back(std::move(filtered));
    RETORT_TRY(Body body, parse_block_body("endfilter"));
    statement->bodies.push_back(std::move(body));
    return statement;
}

Result<StatementPointer> Parser::parse_with(int line) {
    auto statement = std::make_unique<Statement>();
    statement->kind = Statement::Kind::with;
    statement->line = line;
    while (current().kind != TokenKind::block_end) {
        if (!statement->targets.empty()) RETORT_CHECK(expect_op(","));
        RETORT_TRY(ExpressionPointer target, parse_target(false, false));
        RETORT_CHECK(expect_op("="));
        RETORT_TRY(ExpressionPointer value, parse_expression());
        statement->targets.push_back(std::move(target));
        statement->expressions.push_back(std::move(value));
    }
    RETORT_TRY(Body body, parse_block_body("endwith"));
    statement->bodies.push_back(std::move(body));
    return statement;
}

Result<Body> parse(std::string_view source) {
    RETORT_TRY(std::vector<Token> tokens, tokenize(source));
    return Parser(std::move(tokens)).parse_template();
}

}  // namespace retort::text::jinja
