#include "generate/text_generation.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>

#include "text/streaming_detokenizer.h"

namespace retort::generate {

namespace {

constexpr std::string_view open_tag = "<think>";
constexpr std::string_view close_tag = "</think>";

// The length of the longest end of `text` that is a proper beginning of `pattern`.
std::size_t overlap(std::string_view text, std::string_view pattern) {
    if (pattern.empty()) return 0;
    for (std::size_t length = std::min(text.size(), pattern.size() - 1); length > 0; --length) {
        if (text.ends_with(pattern.substr(0, length))) return length;
    }
    return 0;
}

void strip_line_ends_before(std::string& text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
}

std::size_t count_line_ends(std::string_view text) {
    return std::min(text.find_first_not_of("\r\n"), text.size());
}

// The state of one request between its tokens; used on the engine's thread only.
class TextStream {
  public:
    TextStream(text::Tokenizer tokenizer, TextRequest& request, OnDelta on_delta)
        : tokenizer_(std::move(tokenizer)),
          detokenizer_(tokenizer_),
          matcher_(std::move(request.stops)),
          splitter_(request.starts_in_reasoning),
          splits_(request.split_reasoning),
          visible_(std::move(request.visible)),
          wants_tokens_(request.tokens.top_logprobs >= 0),
          on_delta_(std::move(on_delta)) {}

    bool on_token(const TokenEvent& event) {
        if (wants_tokens_) waiting_.push_back({event, text_size_});
        const std::string text = text_of(event.token);
        text_size_ += text.size();
        if (splits_ && splitter_.in_reasoning()) ++reasoning_tokens_;
        const std::string certain = matcher_.push(text);
        emitted_ += certain.size();
        if (!deliver(split(certain), false)) return false;
        return !matcher_.stopped();
    }

    Result<TextCompletion> on_done(Result<Completion> done) {
        if (!done) return tl::make_unexpected(done.error());
        TextCompletion result{*done, reasoning_tokens_};
        if (matcher_.stopped()) result.completion.finish_reason = FinishReason::stop;
        std::string rest = matcher_.push(detokenizer_.finish());
        if (matcher_.stopped()) {
            result.completion.finish_reason = FinishReason::stop;
        } else {
            rest += matcher_.finish();
        }
        emitted_ += rest.size();
        ReasoningSplitter::Parts parts = split(rest);
        if (splits_) {
            const ReasoningSplitter::Parts last = splitter_.finish();
            parts.reasoning += last.reasoning;
            parts.content += last.content;
        }
        const bool cancelled = result.completion.finish_reason == FinishReason::cancelled;
        if (!cancelled) deliver(std::move(parts), !matcher_.stopped());
        return result;
    }

  private:
    struct WaitingToken {
        TokenEvent event;
        std::size_t begin;  // of its text, in bytes of valid UTF-8
    };

    // Tags that a vocabulary has as special tokens are text all the same.
    std::string text_of(std::int32_t token) {
        if (tokenizer_.is_special(token)) {
            const std::string_view tag = tokenizer_.token_text(token);
            if ((splits_ && (tag == open_tag || tag == close_tag)) ||
                std::find(visible_.begin(), visible_.end(), tag) != visible_.end()) {
                return detokenizer_.finish() + std::string(tag);
            }
        }
        return detokenizer_.push(token);
    }

    ReasoningSplitter::Parts split(std::string_view text) {
        if (splits_) return splitter_.push(text);
        return {{}, std::string(text)};
    }

    bool deliver(ReasoningSplitter::Parts parts, bool all_tokens) {
        TextDelta delta{std::move(parts.content), std::move(parts.reasoning), {}};
        while (!waiting_.empty() && (all_tokens || waiting_.front().begin < emitted_)) {
            delta.tokens.push_back(std::move(waiting_.front().event));
            waiting_.pop_front();
        }
        if (delta.content.empty() && delta.reasoning.empty() && delta.tokens.empty()) return true;
        return on_delta_(delta);
    }

    text::Tokenizer tokenizer_;
    text::StreamingDetokenizer detokenizer_;
    StopMatcher matcher_;
    ReasoningSplitter splitter_;
    bool splits_;
    std::vector<std::string> visible_;
    bool wants_tokens_;
    OnDelta on_delta_;
    std::deque<WaitingToken> waiting_;
    std::size_t text_size_ = 0;
    std::size_t emitted_ = 0;
    std::int64_t reasoning_tokens_ = 0;
};

}  // namespace

std::string StopMatcher::push(std::string_view text) {
    if (stopped_) return {};
    if (stops_.empty()) return std::string(text);
    held_ += text;
    std::size_t first = std::string::npos;
    for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
    if (first != std::string::npos) {
        stopped_ = true;
        std::string out = held_.substr(0, first);
        held_.clear();
        return out;
    }
    std::size_t keep = 0;
    for (const std::string& stop : stops_) keep = std::max(keep, overlap(held_, stop));
    std::string out = held_.substr(0, held_.size() - keep);
    held_.erase(0, out.size());
    return out;
}

std::string StopMatcher::finish() {
    return std::exchange(held_, {});
}

ReasoningSplitter::Parts ReasoningSplitter::push(std::string_view text) {
    held_ += text;
    Parts parts;
    step(parts, false);
    return parts;
}

ReasoningSplitter::Parts ReasoningSplitter::finish() {
    Parts parts;
    step(parts, true);
    return parts;
}

void ReasoningSplitter::step(Parts& parts, bool last) {
    if (state_ == State::start) {
        // White space may come before the tag; anything else means that there is no reasoning.
        const std::size_t begin = std::min(held_.find_first_not_of(" \t\r\n"), held_.size());
        const std::string_view rest = std::string_view(held_).substr(begin);
        if (rest.starts_with(open_tag)) {
            held_.erase(0, begin + open_tag.size());
            state_ = State::reasoning;
        } else if (!open_tag.starts_with(rest) || last) {
            state_ = State::content;
        } else {
            return;
        }
    }
    if (state_ == State::reasoning) {
        if (trimming_) {
            held_.erase(0, count_line_ends(held_));
            trimming_ = held_.empty();
        }
        const std::size_t close = held_.find(close_tag);
        if (close != std::string::npos) {
            std::string reasoning = held_.substr(0, close);
            strip_line_ends_before(reasoning);
            parts.reasoning += reasoning;
            held_.erase(0, close + close_tag.size());
            state_ = State::after;
        } else if (last) {
            parts.reasoning += std::exchange(held_, {});
        } else {
            // Held back: a beginning of the tag, and line ends that may turn out to stand before it.
            std::size_t end = held_.size() - overlap(held_, close_tag);
            while (end > 0 && (held_[end - 1] == '\n' || held_[end - 1] == '\r')) --end;
            parts.reasoning += held_.substr(0, end);
            held_.erase(0, end);
        }
    }
    if (state_ == State::after) {
        held_.erase(0, count_line_ends(held_));
        if (!held_.empty()) state_ = State::content;
    }
    if (state_ == State::content) parts.content += std::exchange(held_, {});
}

Result<std::uint64_t> submit_text(Engine& engine, const text::Tokenizer& tokenizer, TextRequest request,
                                  OnDelta on_delta, OnTextDone on_done) {
    auto stream = std::make_shared<TextStream>(tokenizer, request, std::move(on_delta));
    return engine.submit(
        std::move(request.tokens), [stream](const TokenEvent& event) { return stream->on_token(event); },
        [stream, finish = std::move(on_done)](Result<Completion> done) {
            finish(stream->on_done(std::move(done)));
        });
}

Result<TextCompletion> generate_text(Engine& engine, const text::Tokenizer& tokenizer, TextRequest request,
                                     const OnDelta& on_delta) {
    TextStream stream(tokenizer, request, on_delta);
    return stream.on_done(engine.generate(std::move(request.tokens),
                                          [&](const TokenEvent& event) { return stream.on_token(event); }));
}

}  // namespace retort::generate
