// What passes through of another server's answer: usage counted, reasoning as the plan has it, the rest
// untouched. Private to this part.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "serve/admission.h"
#include "serve/protected_works.h"
#include "serve/reasoning_filter.h"
#include "serve/upstream.h"
#include "serve/upstream_think.h"

namespace retort::serve {

struct AnswerRules {
    ReasoningAccess reasoning = ReasoningAccess::full;
    bool hide_usage = false;    // the usage event was asked for by us, not by the client
    bool hide_running = false;  // likewise the use so far in each chunk
    std::int64_t prompt_guess = 0;
    std::int64_t choices = 1;
    bool generates = true;  // an answer that tells no usage has used something all the same
    std::shared_ptr<const ProtectedWorks> works;  // what the answer must not repeat; null: none
    ThinkTags think = ThinkTags::as_is;
    std::shared_ptr<const TokenCounter> tokens;  // null: guesses
};

class UpstreamAnswer {
    using Json = nlohmann::ordered_json;

  public:
    explicit UpstreamAnswer(AnswerRules rules)
        : rules_(std::move(rules)), think_(rules_.think, rules_.choices) {
        use_.prompt_tokens = rules_.prompt_guess;
    }
    void hide_running(bool hide) { rules_.hide_running = hide; }
    // Bytes of a stream: whole frames, ready to be sent on.
    std::string frames(std::string_view bytes);
    // What is left when the stream has ended, with or without an empty line.
    std::string rest();
    // A whole answer.
    std::string whole(std::string body);
    // As told by the server. What it has not told is counted: by its tokenizer where we have it, else a frame
    // that says something for a token, and the prompt as it was guessed.
    [[nodiscard]] TokenUse use() const;
    [[nodiscard]] bool is_told() const { return told_; }
    [[nodiscard]] bool is_done() const { return done_; }  // [DONE] has come
    // No frame has an end in sight: more than 16 MiB.
    [[nodiscard]] bool is_too_long() const { return buffer_.size() > (std::size_t{16} << 20U); }

  private:
    std::optional<std::string> frame(std::string_view text);
    bool read_usage(std::string_view json, bool& only_usage);
    bool hide_stats(Json& json) const;
    void collect(const Json& json);
    bool filter_frame(Json& json);
    // Null: nothing of the frame is left. `changed`: it is no longer what came.
    std::optional<std::string> pass(Json& json, bool changed, std::string_view text);
    std::string think_rest();
    struct GuardedChoice {
        ChoiceGuard guard;
        Json held_logprobs = Json::array();
        Json held_calls = Json::array();  // a delta's tool_calls each
        bool ended = false;               // its finish reason has been told
    };
    GuardedChoice& guarded(const Json& choice);
    // False: the frame says nothing any more.
    bool guard_frame(Json& json);
    void guard_delta(Json& choice, GuardedChoice& state);
    void guard_whole(Json& json);

    AnswerRules rules_;
    ThinkSplit think_;
    bool told_ = false;
    bool done_ = false;
    TokenUse use_;
    std::int64_t frames_since_ = 0;               // that say something, since use was told last
    std::map<std::int64_t, std::string> spoken_;  // of each choice, for the tokenizer
    std::string buffer_;
    std::map<std::int64_t, ReasoningFilter> filters_;
    std::map<std::int64_t, GuardedChoice> guards_;
};

// Both names are in use: vLLM and DeepSeek say reasoning_content, others reasoning.
inline constexpr const char* reasoning_names[] = {"reasoning_content", "reasoning"};

// Whether clients can read the body as an error: a JSON object whose "error" is an object or a text.
bool is_error_answer(std::string_view body);

// The body with stream_options.include_usage set; `running`: and what vLLM and llama-server know for use so
// far in each chunk.
std::string ask_for_usage(const std::string& body, bool running);

}  // namespace retort::serve
