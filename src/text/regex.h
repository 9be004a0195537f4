// Regular expressions of tokenizer.json, which are Oniguruma's: rewritten for PCRE2, with the character
// classes spelled out from unicode.h's tables so that the version of Unicode in the library does not matter.
// A construct that the two understand differently is refused by name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace retort::text {

Result<std::string> translate_regex(std::string_view oniguruma);

class Regex {
  public:
    static Result<Regex> compile(std::string_view oniguruma);

    // Calls on_match(begin, end) for each match from left to right, as Rust's find_iter does. A search that
    // takes too many steps (a hostile expression) ends early: what follows counts as unmatched.
    template <typename OnMatch>
    void find_all(std::string_view text, const OnMatch& on_match) const {
        std::size_t from = 0;
        std::size_t last_end = std::string_view::npos;
        std::size_t begin = 0;
        std::size_t end = 0;
        while (from <= text.size() && find(text, from, begin, end)) {
            if (begin == end && end == last_end) {
                from = next_character(text, from);
                continue;
            }
            from = end;
            last_end = end;
            on_match(begin, end);
        }
    }

  private:
    [[nodiscard]] bool find(std::string_view text, std::size_t from, std::size_t& begin,
                            std::size_t& end) const;
    static std::size_t next_character(std::string_view text, std::size_t at);
    std::shared_ptr<pcre2_real_code_8> code_;
};

}  // namespace retort::text
