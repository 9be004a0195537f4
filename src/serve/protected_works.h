// An answer about to repeat a protected work is cut: its text goes through a screen::SpanGuard before it
// leaves. Private to this part but for ProtectedWorks. Knows no wire format.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "screen/span_guard.h"

namespace retort::serve {

struct ProtectedWorks {
    std::shared_ptr<const screen::Index> index;
    screen::GuardLimits limits;
};

// One choice of an answer. Reasoning and content are one text to it, in that order, so that a passage that
// goes on from one to the other counts whole.
class ChoiceGuard {
  public:
    struct Parts {
        std::string reasoning;
        std::string content;
    };
    explicit ChoiceGuard(const ProtectedWorks& works) : guard_(works.index, works.limits) {}

    // What may leave of what has come. A part of the reasoning may only be let go with the first content.
    Parts push(std::string_view reasoning, std::string_view content);
    // The end of the answer: what was held back.
    Parts finish();
    // Text that leaves whole or not at all, as a tool call's arguments; of JSON the texts inside it. Nothing
    // may be held back. False: it must not leave, and the choice is blocked.
    bool may_leave(std::string_view json);

    [[nodiscard]] bool blocked() const { return guard_.blocked(); }
    // Nothing of what was pushed is held back.
    [[nodiscard]] bool holds_nothing() const { return held_ == 0; }

  private:
    std::string pass(std::string_view text);
    std::string flush();
    screen::SpanGuard guard_;
    bool in_content_ = false;
    std::size_t held_ = 0;  // bytes
};

}  // namespace retort::serve
