// Tokens that are cut out of the text before anything else is done to it: <|im_start|>, </s>, …
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace retort::text {

struct AddedToken {
    std::int32_t id = -1;
    std::string content;
    bool special = false;      // left out by decode(skip_special), and found only with parse_special
    bool single_word = false;  // not beside a word character
    bool lstrip = false;       // takes the white space before it along
    bool rstrip = false;       // and after it
    bool normalized = false;   // looked for in the normalised text
};

// A part of a text: an added token, or (id -1) what lies between two.
struct AddedTokenPart {
    std::int32_t id;
    std::string_view text;
};

// Leftmost, longest matches of some of the tokens.
class AddedTokenMatcher {
  public:
    // `patterns[i]` is the text to look for in place of tokens[i].content; empty ones are left out.
    void build(std::span<const AddedToken> tokens, std::span<const std::string> patterns);
    [[nodiscard]] bool empty() const { return nodes_.size() <= 1; }
    // Appends the parts of valid UTF-8, in order; together they are the whole of it.
    void split(std::string_view text, bool parse_special, std::vector<AddedTokenPart>& parts) const;

  private:
    struct Node {
        std::vector<std::pair<unsigned char, std::uint32_t>> next;  // by byte
        std::int32_t token = -1;                                    // index into tokens_
    };
    // The longest pattern at `at`, as an index into tokens_ (-1: none) and its length.
    [[nodiscard]] std::pair<std::int32_t, std::size_t> longest(std::string_view text, std::size_t at) const;

    struct Token {
        std::int32_t id;
        bool special, single_word, lstrip, rstrip;
    };
    std::vector<Token> tokens_;
    std::vector<Node> nodes_;
    std::array<bool, 256> first_{};
};

}  // namespace retort::text
