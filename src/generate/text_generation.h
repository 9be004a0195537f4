// Text out of an engine: tokens become text that is never cut inside a character, stop strings end it across
// token borders, and a model's <think>…</think> is told apart from its answer. Shared by `serve`, `chat` and
// evaluation; knows no wire format.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "generate/engine.h"
#include "text/tokenizer.h"

namespace retort::generate {

// Looks for stop strings in text that comes in pieces, holding back what may be the beginning of one.
class StopMatcher {
  public:
    explicit StopMatcher(std::vector<std::string> stops = {}) : stops_(std::move(stops)) {}

    // Text that is certainly before any stop string. Empty for good once stopped().
    std::string push(std::string_view text);
    // What was held back, when nothing more comes.
    std::string finish();
    [[nodiscard]] bool stopped() const { return stopped_; }

  private:
    std::vector<std::string> stops_;
    std::string held_;
    bool stopped_ = false;
};

// Tells reasoning from answer in text that comes in pieces: an opening <think> counts only at the very start,
// the first </think> closes it. Line ends next to the tags belong to neither.
class ReasoningSplitter {
  public:
    struct Parts {
        std::string reasoning;
        std::string content;
    };
    // `inside`: the prompt itself ended with <think>.
    explicit ReasoningSplitter(bool inside) : state_(inside ? State::reasoning : State::start) {}

    Parts push(std::string_view text);
    Parts finish();
    [[nodiscard]] bool in_reasoning() const { return state_ == State::reasoning; }

  private:
    enum class State { start, reasoning, after, content };
    void step(Parts& parts, bool last);
    State state_;
    bool trimming_ = true;  // line ends at the start of the reasoning
    std::string held_;
};

struct TextRequest {
    Request tokens;  // prompt, sampling, limits, stop tokens
    std::vector<std::string> stops;
    bool split_reasoning = false;      // the model's template uses <think>
    bool starts_in_reasoning = false;  // and has opened it in the prompt already
    std::vector<std::string> visible;  // special tokens that are text all the same: marks of tool calls
};

// What has become certain since the delta before. Tokens are those whose text begins within it; text may be
// empty.
struct TextDelta {
    std::string content;
    std::string reasoning;
    std::vector<TokenEvent> tokens;  // only when the request asks for logprobs
};

struct TextCompletion {
    Completion completion;  // a stop string's end counts as FinishReason::stop
    std::int64_t reasoning_tokens = 0;
};

// Both are called on the engine's thread; false from on_delta cancels. on_done comes last, once.
using OnDelta = std::function<bool(const TextDelta&)>;
using OnTextDone = std::function<void(Result<TextCompletion>)>;

// The tokenizer is copied (cheaply); the engine must outlive the request.
Result<std::uint64_t> submit_text(Engine& engine, const text::Tokenizer& tokenizer, TextRequest request,
                                  OnDelta on_delta, OnTextDone on_done);
// The same, blocking.
Result<TextCompletion> generate_text(Engine& engine, const text::Tokenizer& tokenizer, TextRequest request,
                                     const OnDelta& on_delta);

}  // namespace retort::generate
