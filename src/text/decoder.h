// The `decoder` of tokenizer.json: token texts back to text.
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

class Decoder {
  public:
    static Result<Decoder> parse(const formats::Json* json);

    // What the tokens give together, as the reference's decode() does. Valid UTF-8.
    [[nodiscard]] std::string decode(std::vector<std::string> tokens) const;
    // The bytes of one token in the middle of a text.
    [[nodiscard]] std::string bytes(std::string_view token) const;
    [[nodiscard]] bool byte_level() const { return byte_level_; }
    [[nodiscard]] bool byte_fallback() const { return byte_fallback_; }
    [[nodiscard]] bool strips_leading_space() const { return strips_leading_space_; }

  private:
    struct ByteLevel {};
    struct ByteFallback {};
    struct Fuse {};
    struct Replace {
        std::string literal;
        std::optional<Regex> regex;
        std::string content;
    };
    struct Strip {
        std::string content;  // one character
        std::size_t start;
        std::size_t stop;
    };
    struct Metaspace {
        std::string replacement;
        bool strip_first;
    };
    using Step = std::variant<ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace>;
    Status add(const formats::Json& json, int depth);
    std::vector<Step> steps_;
    std::size_t growth_ = 1;
    bool byte_level_ = false;  // the one step is ByteLevel
    bool byte_fallback_ = false;
    bool strips_leading_space_ = false;
};

}  // namespace retort::text
