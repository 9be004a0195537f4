// Recursive descent over the tokens, in two halves: expressions (jinja_parser_expressions.cpp) and statements
// (jinja_parser.cpp). Internal to the template language.
#pragma once

#include <initializer_list>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace retort::text::jinja {

class Parser {
  public:
    explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
    Result<Body> parse_template();

  private:
    using Kind = Expression::Kind;
    static constexpr int max_depth = 200;

    struct DepthGuard {
        explicit DepthGuard(int& depth) : depth_(depth) { ++depth_; }
        ~DepthGuard() { --depth_; }
        DepthGuard(const DepthGuard&) = delete;
        DepthGuard& operator=(const DepthGuard&) = delete;
        int& depth_;
    };

    [[nodiscard]] const Token& current() const { return tokens_[at_]; }
    [[nodiscard]] const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
    void next() {
        if (at_ + 1 < tokens_.size()) ++at_;
    }
    [[nodiscard]] bool is_op(std::string_view text) const {
        return current().kind == TokenKind::op && current().text == text;
    }
    [[nodiscard]] bool is_name(std::string_view text) const {
        return current().kind == TokenKind::name && current().text == text;
    }
    bool skip_op(std::string_view text);
    bool skip_name(std::string_view text);
    Status expect_op(std::string_view text);
    Result<std::string> expect_name();
    [[nodiscard]] std::string describe() const;
    template <typename... Args>
    [[nodiscard]] tl::unexpected<base::Error> error(ErrorCode code, fmt::format_string<Args...> text,
                                                    Args&&... args) const {
        return fail(code, "line {}: {}", current().line, fmt::format(text, std::forward<Args>(args)...));
    }

    // Statements.
    Result<Body> parse_body(std::initializer_list<std::string_view> ends);
    Result<StatementPointer> parse_statement();
    Result<StatementPointer> parse_set(int line);
    Result<StatementPointer> parse_if(int line);
    Result<StatementPointer> parse_for(int line);
    Result<StatementPointer> parse_macro(int line);
    Result<StatementPointer> parse_call_block(int line);
    Result<StatementPointer> parse_filter_block(int line);
    Result<StatementPointer> parse_with(int line);
    Status parse_signature(Statement& statement);
    Status finish_block();
    // The body up to {% end %}, that tag taken along.
    Result<Body> parse_block_body(std::string_view end);
    Result<ExpressionPointer> parse_target(bool with_tuple, bool with_attribute);

    // Expressions.
    Result<ExpressionPointer> parse_expression(bool with_condition = true);
    // An expression, or several with commas between as a tuple.
    Result<ExpressionPointer> parse_tuple(bool with_condition = true);
    Result<ExpressionPointer> parse_or();
    Result<ExpressionPointer> parse_and();
    Result<ExpressionPointer> parse_not();
    Result<ExpressionPointer> parse_comparison();
    Result<ExpressionPointer> parse_sum();
    Result<ExpressionPointer> parse_concat();
    Result<ExpressionPointer> parse_product();
    Result<ExpressionPointer> parse_power();
    Result<ExpressionPointer> parse_unary(bool with_filter);
    Result<ExpressionPointer> parse_primary();
    Result<ExpressionPointer> parse_postfix(ExpressionPointer node);
    Result<ExpressionPointer> parse_filters(ExpressionPointer node);
    Result<ExpressionPointer> parse_filter(ExpressionPointer node);
    Result<ExpressionPointer> parse_test(ExpressionPointer node);
    Result<ExpressionPointer> parse_subscript(ExpressionPointer node);
    Status parse_arguments(Expression& call);
    Result<ExpressionPointer> parse_list();
    Result<ExpressionPointer> parse_dict();

    [[nodiscard]] ExpressionPointer make(Kind kind) const;
    // Adds a child and keeps count of the tree's depth, which is bounded.
    Status adopt(Expression& parent, ExpressionPointer child) const;
    Result<ExpressionPointer> make_binary(Kind kind, std::string name, ExpressionPointer left,
                                          ExpressionPointer right) const;

    std::vector<Token> tokens_;
    std::size_t at_ = 0;
    int depth_ = 0;
    int loop_depth_ = 0;
};

}  // namespace retort::text::jinja
