// The `pre_tokenizer` of tokenizer.json: how normalised text is cut into the words that merges stay within.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "formats/json.h"
#include "text/regex.h"
#include "text/scanner.h"

namespace retort::text {

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

// Buffers that one call after another reuses.
struct PreTokenizerScratch {
    std::vector<std::string_view> pieces;
    std::vector<std::string_view> next;
    std::deque<std::string> texts;  // pieces that are no part of the input: a space prepended or replaced
};

class PreTokenizer {
  public:
    static Result<PreTokenizer> parse(const formats::Json* json);

    // The words end in a ByteLevel step: the model's alphabet is the 256 bytes, not characters.
    [[nodiscard]] bool byte_level() const { return byte_level_; }
    [[nodiscard]] bool empty() const { return steps_.empty(); }
    // Cuts valid UTF-8 into scratch.pieces, which live until the next call. `at_start`: the text begins where
    // the input begins.
    void apply(std::string_view text, bool at_start, PreTokenizerScratch& scratch) const;

  private:
    struct Split {
        std::string literal;
        std::optional<Regex> regex;
        std::optional<WordPattern> words;  // an expression that scanner.h knows
        SplitBehavior behavior;
        bool invert;
    };
    struct Digits {
        bool individual;
    };
    struct Punctuation {
        SplitBehavior behavior;
    };
    struct ByteLevel {
        bool add_prefix_space;
        bool use_regex;
    };
    struct Metaspace {
        std::string replacement;
        enum class Prepend { always, first, never } prepend;
        bool split;
    };
    using Step = std::variant<Split, Digits, Punctuation, ByteLevel, Metaspace>;
    Status add(const formats::Json& json, int depth);
    static void apply_step(const Step& step, bool at_start, PreTokenizerScratch& scratch);

    std::vector<Step> steps_;
    bool byte_level_ = false;
};

}  // namespace retort::text
