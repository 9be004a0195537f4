#include "text/jinja.h"

#include "text/jinja_ast.h"
#include "text/jinja_interpreter.h"

namespace retort::text::jinja {

struct Template::Tree {
    Body body;
};

Result<Template> Template::parse(std::string_view source) {
    RETORT_TRY(Body body, jinja::parse(source));
    Template result;
    result.tree_ = std::make_shared<const Tree>(Tree{std::move(body)});
    return result;
}

Result<std::string> Template::render(const Variables& variables, const Limits& limits) const {
    if (tree_ == nullptr) return std::string();
    Interpreter interpreter(limits);
    return interpreter.render(tree_->body, variables);
}

}  // namespace retort::text::jinja
