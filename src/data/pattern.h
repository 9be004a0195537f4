// A PCRE2 pattern with bounded work per search. Private to this part's verifiers and to filters.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct pcre2_real_code_8;

namespace retort::data {

class Pattern {
  public:
    static Result<Pattern> compile(std::string_view pattern, bool ignore_case = false);
    // Whether it occurs anywhere, or (whole) matches all of the text. A search that takes too many steps is
    // an error.
    [[nodiscard]] Result<bool> matches(std::string_view text, bool whole = false) const;

  private:
    std::shared_ptr<pcre2_real_code_8> code_;
    std::string source_;
};

}  // namespace retort::data
