// A conversation with a model: what was said, how answers are sampled, and one turn at a time. Knows no
// terminal.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/loaded_model.h"
#include "generate/engine.h"
#include "generate/text_generation.h"

namespace retort::cli {

struct ChatSettings {
    generate::SamplingParameters sampling;
    std::int64_t max_tokens = 1024;
    std::vector<std::string> stops;
    std::string system;  // empty: what the template itself says, if anything
};

// "/set NAME VALUE": temperature, top_k, top_p, min_p, repetition_penalty, frequency_penalty,
// presence_penalty, seed, max_tokens. A name or a value out of its range is an error that says what is
// allowed.
Status apply_setting(ChatSettings& settings, std::string_view name, std::string_view value);
std::string settings_text(const ChatSettings& settings);

struct ChatAnswer {
    std::string content;
    std::string reasoning;
    generate::Completion completion;
    double first_token_seconds = 0;
    double seconds = 0;
};

class ChatSession {
  public:
    ChatSession(LoadedModel& model, ChatSettings settings) : model_(model), settings_(std::move(settings)) {}

    // Streams to on_delta as it comes. The turn becomes part of the conversation unless it failed; Ctrl-C
    // ends the answer (FinishReason::cancelled), what was said until then stays. A conversation that no
    // longer fits the context is an error that says how long it is.
    Result<ChatAnswer> ask(std::string_view text, const generate::OnDelta& on_delta);
    void reset() { turns_.clear(); }

    ChatSettings& settings() { return settings_; }
    [[nodiscard]] std::int64_t context_length() const { return model_.engine->context_length(); }
    // Tokens of the conversation after the last answer.
    [[nodiscard]] std::int64_t used_tokens() const { return used_tokens_; }

  private:
    LoadedModel& model_;
    ChatSettings settings_;
    std::vector<api::ChatMessage> turns_;  // user and assistant in turn, the system message apart
    std::int64_t used_tokens_ = 0;
};

}  // namespace retort::cli
