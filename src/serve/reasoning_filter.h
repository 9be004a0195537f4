// What of a choice's reasoning its reader may see. Private to this part.
#pragma once

#include <string>
#include <string_view>

#include "serve/admission.h"

namespace retort::serve {

// The first sentence and the last, each at most 160 bytes: an extract, not a paraphrase.
std::string summarise_reasoning(std::string_view reasoning);

class ReasoningFilter {
  public:
    explicit ReasoningFilter(ReasoningAccess access = ReasoningAccess::full) : access_(access) {}
    // What may be sent for a new piece of reasoning; a summary comes when `ended` says that no more follows.
    std::string pass(std::string_view piece, bool ended);
    [[nodiscard]] bool hides() const { return access_ != ReasoningAccess::full; }

  private:
    ReasoningAccess access_;
    std::string held_;
    bool summarised_ = false;
};

}  // namespace retort::serve
