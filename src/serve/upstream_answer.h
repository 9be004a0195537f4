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

namespace retort::serve {

class UpstreamAnswer {
    using Json = nlohmann::ordered_json;

  public:
    // `hide_usage`: the usage event was asked for by us, not by the client.
    // `works` (null: none): what the answer must not repeat.
    UpstreamAnswer(ReasoningAccess reasoning, bool hide_usage, std::int64_t prompt_guess,
                   std::shared_ptr<const ProtectedWorks> works = nullptr)
        : reasoning_(reasoning), hide_usage_(hide_usage), works_(std::move(works)) {
        use_.prompt_tokens = prompt_guess;
    }
    // Bytes of a stream: whole frames, ready to be sent on.
    std::string frames(std::string_view bytes);
    // What is left when the stream has ended without an empty line.
    std::string rest() { return works_ ? std::string() : std::move(buffer_); }
    // A whole answer.
    std::string whole(std::string body);
    // As told by the server; until it tells, the prompt is a guess and a frame of content counts as a token.
    [[nodiscard]] const TokenUse& use() const { return use_; }
    [[nodiscard]] bool is_told() const { return told_; }
    [[nodiscard]] bool is_done() const { return done_; }  // [DONE] has come
    // No frame has an end in sight: more than 16 MiB.
    [[nodiscard]] bool is_too_long() const { return buffer_.size() > (std::size_t{16} << 20U); }

  private:
    std::optional<std::string> frame(std::string_view text);
    bool read_usage(std::string_view json, bool& only_usage);
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

    ReasoningAccess reasoning_;
    bool hide_usage_;
    bool told_ = false;
    bool done_ = false;
    TokenUse use_;
    std::string buffer_;
    std::map<std::int64_t, ReasoningFilter> filters_;
    std::shared_ptr<const ProtectedWorks> works_;
    std::map<std::int64_t, GuardedChoice> guards_;
};

// Both names are in use: vLLM and DeepSeek say reasoning_content, others reasoning.
inline constexpr const char* reasoning_names[] = {"reasoning_content", "reasoning"};

// Whether clients can read the body as an error: a JSON object whose "error" is an object or a text.
bool is_error_answer(std::string_view body);

// The body with stream_options.include_usage set.
std::string ask_for_usage(const std::string& body);

}  // namespace retort::serve
