// <think>…</think> in another server's chat answers, taken out of the content into reasoning_content as our
// own engine's answers have it. Private to this part.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>

#include "generate/text_generation.h"
#include "serve/upstream.h"

namespace retort::serve {

class ThinkSplit {
    using Json = nlohmann::ordered_json;

  public:
    // `choices`: how many the answer will have.
    ThinkSplit(ThinkTags tags, std::int64_t choices)
        : tags_(tags), limit_(tags == ThinkTags::as_is ? 0 : choices), undecided_(limit_) {}

    // Whether a frame of a stream can still need splitting: mostly not, once each answer has begun.
    [[nodiscard]] bool wants_frames() const { return undecided_ > 0; }
    // Whether the frame was changed.
    bool split_frame(Json& json);
    // A frame with what was held back when the stream ends without a finish reason; null: nothing was.
    Json rest();
    bool split_whole(Json& json) const;

  private:
    struct Choice {
        generate::ReasoningSplitter splitter;
        bool decided = false;
    };
    bool split_delta(Choice& state, Json& choice);
    void decide(Choice& state);

    ThinkTags tags_;
    std::int64_t limit_;
    std::int64_t undecided_;
    std::map<std::int64_t, Choice> choices_;
    Json head_;  // of the last frame: everything but its choices
};

}  // namespace retort::serve
