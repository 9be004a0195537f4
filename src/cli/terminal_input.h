// Lines from a person at a terminal: what is pasted in one go is one message, and Ctrl-C at the prompt is
// told apart from the end of the input. Knows nothing of what the lines mean.
#pragma once

#include <optional>
#include <string>

namespace retort::cli {

enum class InputKind { message, interrupted, end };

struct Input {
    InputKind kind = InputKind::end;
    std::string text;
};

class TerminalInput {
  public:
    explicit TerminalInput(int descriptor) : descriptor_(descriptor) {}

    // One line, and the lines that arrive with it (a paste); or, when it is exactly """, everything up to the
    // next line that is.
    Input read_message();

  private:
    // Waits; nothing at the end of the input, or on Ctrl-C.
    std::optional<std::string> read_line();
    [[nodiscard]] bool more_is_there() const;

    int descriptor_;
    std::string buffer_;
    bool at_end_ = false;
};

}  // namespace retort::cli
