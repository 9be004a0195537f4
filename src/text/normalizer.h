// The `normalizer` of tokenizer.json: what is done to the text before it is cut into words.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "formats/json.h"
#include "text/regex.h"

namespace retort::text {

class Normalizer {
  public:
    // `json` is the component, or null. Components that this program lacks are refused by name.
    static Result<Normalizer> parse(const formats::Json* json);

    [[nodiscard]] bool empty() const { return steps_.empty(); }
    // The normalised text: a view of `text` itself where nothing changes, else of `buffer`.
    [[nodiscard]] std::string_view apply(std::string_view text, std::string& buffer) const;

  private:
    struct Nfc {};
    struct Prepend {
        std::string prefix;
    };
    struct Replace {
        std::string literal;  // when `regex` is not set
        std::optional<Regex> regex;
        std::string content;
    };
    struct Strip {
        bool left;
        bool right;
    };
    using Step = std::variant<Nfc, Prepend, Replace, Strip>;
    Status add(const formats::Json& json, int depth);
    std::vector<Step> steps_;
    std::size_t growth_ = 1;
};

// Unicode's canonical composition, as far as the reference knows it.
std::string_view to_nfc(std::string_view text, std::string& buffer);

// The `pattern` member of Split and Replace: {"String": …} or {"Regex": …}.
struct TextPattern {
    std::string literal;
    std::string regex;
    bool is_regex = false;
};
Result<TextPattern> parse_pattern(const formats::Json& component);

// Replacements in a row may multiply a text's length; a file that would make it explode is refused. `growth`
// carries the factor so far.
Status check_growth(const TextPattern& pattern, std::string_view content, std::size_t& growth);

}  // namespace retort::text
