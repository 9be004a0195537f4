// A template's text as tokens, with white space controlled as chat templates expect: trim_blocks and
// lstrip_blocks are on, one newline at the end is dropped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::text::jinja {

enum class TokenKind {
    data,
    print_begin,
    print_end,
    block_begin,
    block_end,
    name,
    string,
    integer,
    number,
    op,
    end
};

struct Token {
    TokenKind kind;
    int line;
    std::string text;  // data, names, strings (escapes resolved), operators
    std::int64_t integer = 0;
    double number = 0;
};

Result<std::vector<Token>> tokenize(std::string_view source);

}  // namespace retort::text::jinja
