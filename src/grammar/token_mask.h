// Which tokens of a vocabulary keep an answer within a grammar. Tokens are bytes here: one that crosses the
// border of two parts of the grammar is as good as any. Knows no model and no engine.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"

namespace retort::grammar {

// The tokens of a vocabulary in a tree of their bytes, laid out flat: a node's descendants follow it. Made
// once a tokenizer.
class TokenTree {
  public:
    // bytes[id]; an empty entry is never allowed by a grammar, as special tokens must not be.
    explicit TokenTree(std::vector<std::string> bytes);

    struct Node {
        unsigned char byte = 0;
        std::int32_t skip = 0;         // the node after its descendants
        std::int32_t first_token = 0;  // into tokens()
        std::int32_t token_count = 0;  // that end here
        std::int32_t depth = 0;        // of its byte, from 0
    };
    [[nodiscard]] std::span<const Node> nodes() const { return nodes_; }
    [[nodiscard]] std::span<const std::int32_t> tokens() const { return tokens_; }
    [[nodiscard]] std::string_view bytes(std::int32_t token) const {
        return token >= 0 && static_cast<std::size_t>(token) < bytes_.size()
                   ? bytes_[static_cast<std::size_t>(token)]
                   : std::string_view();
    }
    [[nodiscard]] std::size_t size() const { return bytes_.size(); }

  private:
    std::vector<std::string> bytes_;
    std::vector<Node> nodes_;
    std::vector<std::int32_t> tokens_;
};

// A grammar over a vocabulary, with the masks met so far. May be shared by requests and threads.
class TokenGrammar {
  public:
    TokenGrammar(Grammar grammar, std::shared_ptr<const TokenTree> tree);

    [[nodiscard]] std::int32_t start();
    // The state after a token; Automaton::dead when it does not fit.
    std::int32_t step(std::int32_t state, std::int32_t token);
    // Sets the logits of all tokens that do not fit to −infinity. `end_tokens` fit where the text is whole,
    // and where nothing fits at all, so that the answer can end.
    void mask(std::int32_t state, std::span<const std::int32_t> end_tokens, std::span<float> logits);
    // Whether the text may end here, and whether it must.
    [[nodiscard]] bool may_end(std::int32_t state);
    [[nodiscard]] bool must_end(std::int32_t state);

  private:
    using Bits = std::vector<std::uint64_t>;  // a bit a token
    std::shared_ptr<const Bits> bits_of(std::int32_t state);

    std::mutex mutex_;
    Automaton automaton_;
    std::shared_ptr<const TokenTree> tree_;
    std::unordered_map<std::int32_t, std::shared_ptr<const Bits>> known_;
};

}  // namespace retort::grammar
