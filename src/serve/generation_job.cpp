#include "serve/generation_job.h"

#include <algorithm>
#include <utility>

#include "api/error.h"
#include "base/clock.h"
#include "http/sse.h"
#include "serve/kept_answer.h"
#include "serve/processing_time.h"
#include "text/unicode.h"

namespace retort::serve {

namespace {

std::string finish_reason_text(generate::FinishReason reason) {
    return reason == generate::FinishReason::length ? "length" : "stop";
}

api::LogprobEntry entry_of(const text::Tokenizer& tokenizer, std::int32_t token, float logprob) {
    const std::string_view bytes = tokenizer.token_bytes(token);
    return {text::lossy_utf8(bytes), logprob, std::vector<std::uint8_t>(bytes.begin(), bytes.end())};
}

std::int64_t characters_of(const std::vector<api::TokenLogprobs>& tokens) {
    std::int64_t count = 0;
    for (const api::TokenLogprobs& token : tokens) {
        count += std::count_if(token.token.begin(), token.token.end(),
                               [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; });
    }
    return count;
}

}  // namespace

GenerationJob::GenerationJob(std::shared_ptr<const ServedModel> model,
                             std::shared_ptr<http::ResponseWriter> writer, http::Headers headers,
                             std::unique_ptr<AnswerFormat> format, JobRequest request, Metrics& metrics,
                             ActiveJobs& active, std::shared_ptr<Ticket> ticket)
    : model_(std::move(model)),
      writer_(std::move(writer)),
      headers_(std::move(headers)),
      format_(std::move(format)),
      request_(std::move(request)),
      metrics_(metrics),
      active_(active),
      ticket_(std::move(ticket)),
      reasoning_(request_.choices.size(),
                 ReasoningFilter(ticket_ ? ticket_->reasoning() : ReasoningAccess::full)),
      start_time_(base::monotonic_seconds()),
      choices_(request_.choices.size()),
      last_token_time_(request_.choices.size(), 0),
      call_parsers_(request_.choices.size(), ToolCallParser(request_.tools)),
      prompts_(request_.choices.size()),
      last_write_(start_time_),
      unfinished_(request_.choices.size()) {
    if (request_.protected_works) {
        guards_.assign(request_.choices.size(), ChoiceGuard(*request_.protected_works));
        held_logprobs_.resize(request_.choices.size());
    }
    active_.enter();
}

GenerationJob::~GenerationJob() {
    active_.leave();
}

void GenerationJob::start() {
    // The writer must not keep the job alive, nor the job be gone when the client goes.
    writer_->on_gone([weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->cancel_all();
    });
    active_.add(weak_from_this());
    for (const auto& kept : request_.kept) kept->start(model_, active_);
    for (std::size_t i = 0; i < request_.choices.size(); ++i) {
        if (request_.logprobs && request_.choices[i].tokens.prompt_logprobs)
            prompts_[i] = request_.choices[i].tokens.prompt;
        if (!request_.echo.empty()) choices_[i].content = request_.echo[i];
        auto id = generate::submit_text(
            *model_->engine, model_->tokenizer, std::move(request_.choices[i]),
            [self = shared_from_this(), i](const generate::TextDelta& delta) {
                return self->on_delta(i, delta);
            },
            [self = shared_from_this(), i](Result<generate::TextCompletion> done) {
                self->on_done(i, std::move(done));
            });
        if (!id) {
            fail_with(id.error().code == ErrorCode::invalid_argument
                          ? api::invalid_value("messages", id.error().message)
                          : api::server_error(id.error().message));
            return;
        }
        {
            const std::lock_guard lock(mutex_);
            ids_.push_back(*id);
        }
        if (cancelled_) model_->engine->cancel(*id);
    }
}

void GenerationJob::cancel_all() {
    cancelled_ = true;
    std::vector<std::uint64_t> ids;
    {
        const std::lock_guard lock(mutex_);
        ids = ids_;
    }
    // The withheld twin's other half is wanted whole: its tokens end in on_delta.
    if (!request_.kept.empty() && request_.kept.front()->wants_rest()) return;
    for (const std::uint64_t id : ids) model_->engine->cancel(id);
}

void GenerationJob::fail_with(const api::ApiError& error) {
    {
        const std::lock_guard lock(mutex_);
        if (failed_) return;
        failed_ = true;
        failed_status_ = error.status;
        metrics_.count(Outcome::error);
        if (begun_) {
            writer_->write(http::sse_frame(api::write_error(error)));
            writer_->end();
        } else {
            writer_->send(error.status, timed_headers(), api::write_error(error));
        }
    }
    cancel_all();
}

http::Headers GenerationJob::timed_headers() const {
    http::Headers headers = headers_;
    tell_processing_time(headers, start_time_);
    return headers;
}

void GenerationJob::begin_stream() {
    if (begun_) return;
    begun_ = true;
    if (ticket_) ticket_->began();
    http::Headers headers = timed_headers();
    headers.set("Content-Type", "text/event-stream");
    headers.set("Cache-Control", "no-cache");
    headers.set("X-Accel-Buffering", "no");
    writer_->begin_stream(200, std::move(headers));
    std::string opening;
    for (std::size_t i = 0; i < choices_.size(); ++i) {
        if (const std::string event = format_->opening(static_cast<std::int64_t>(i)); !event.empty()) {
            opening += http::sse_frame(event);
        }
    }
    for (std::size_t i = 0; i < request_.echo.size(); ++i) {
        ChoiceState echo;
        echo.content = request_.echo[i];
        opening += http::sse_frame(format_->event(static_cast<std::int64_t>(i), echo));
    }
    writer_->write(opening);
    last_write_ = base::monotonic_seconds();
}

void GenerationJob::keep_alive(double interval) {
    const std::lock_guard lock(mutex_);
    if (!request_.stream || failed_ || cancelled_ || unfinished_ == 0) return;
    if (base::monotonic_seconds() - last_write_ < interval) return;
    begin_stream();
    writer_->write(": keep-alive\n\n");
    last_write_ = base::monotonic_seconds();
}

void GenerationJob::take_calls(std::size_t index, ToolCallParser::Parts parts, ChoiceState& piece) {
    piece.content = std::move(parts.content);
    std::vector<ToolCall>& known = choices_[index].tool_calls;
    piece.first_call = static_cast<std::int64_t>(known.size());
    for (ToolCall& call : parts.calls) {
        if (!request_.parallel_tool_calls && !known.empty()) continue;
        known.push_back(call);
        piece.tool_calls.push_back(std::move(call));
    }
}

void GenerationJob::guard_piece(std::size_t index, ChoiceState& piece, bool last) {
    if (guards_.empty()) return;
    ChoiceGuard& guard = guards_[index];
    ChoiceGuard::Parts parts = guard.push(piece.reasoning.value_or(""), piece.content);
    if (last || !piece.tool_calls.empty()) {
        ChoiceGuard::Parts rest = guard.finish();
        parts.reasoning += rest.reasoning;
        parts.content += rest.content;
    }
    piece.content = std::move(parts.content);
    piece.reasoning.reset();
    if (!parts.reasoning.empty()) piece.reasoning = std::move(parts.reasoning);
    std::vector<ToolCall>& calls = choices_[index].tool_calls;
    std::erase_if(piece.tool_calls, [&](const ToolCall& call) {
        if (!guard.blocked() && guard.may_leave(call.arguments)) return false;
        std::erase_if(calls, [&](const ToolCall& known) { return known.id == call.id; });
        return true;
    });
    // Tokens would tell what the text does not yet.
    std::vector<api::TokenLogprobs>& held = held_logprobs_[index];
    if (piece.logprobs) held.insert(held.end(), piece.logprobs->begin(), piece.logprobs->end());
    piece.logprobs.reset();
    if (guard.blocked()) {
        held.clear();
    } else if (guard.holds_nothing() && !held.empty()) {
        piece.logprobs = std::exchange(held, {});
    }
}

bool GenerationJob::deliver(std::size_t index, ChoiceState piece) {
    if (request_.stream) {
        const bool says_nothing = piece.content.empty() && !piece.reasoning && piece.tool_calls.empty() &&
                                  !piece.logprobs && piece.finish_reason.empty();
        if (says_nothing) return true;
        begin_stream();
        last_write_ = base::monotonic_seconds();
        piece.text_offset = static_cast<std::int64_t>(choices_[index].text_offset);
        if (piece.logprobs) choices_[index].text_offset += characters_of(*piece.logprobs);
        return writer_->write(http::sse_frame(format_->event(static_cast<std::int64_t>(index), piece)));
    }
    ChoiceState& choice = choices_[index];
    choice.content += piece.content;
    if (piece.reasoning) choice.reasoning = choice.reasoning.value_or("") + *piece.reasoning;
    if (piece.logprobs) {
        if (!choice.logprobs) choice.logprobs.emplace();
        choice.logprobs->insert(choice.logprobs->end(), piece.logprobs->begin(), piece.logprobs->end());
    }
    return true;
}

// The tokens of an echoed prompt go before those of the answer.
void GenerationJob::add_prompt(std::size_t index, const generate::Completion& completion) {
    if (prompts_[index].empty()) return;
    std::vector<api::TokenLogprobs> prompt = logprobs_of(completion.prompt);
    api::TokenLogprobs first;
    static_cast<api::LogprobEntry&>(first) = entry_of(model_->tokenizer, prompts_[index].front(), 0);
    first.is_unknown = true;
    prompt.insert(prompt.begin(), std::move(first));
    ChoiceState& choice = choices_[index];
    if (choice.logprobs) prompt.insert(prompt.end(), choice.logprobs->begin(), choice.logprobs->end());
    choice.logprobs = std::move(prompt);
}

bool GenerationJob::on_delta(std::size_t index, const generate::TextDelta& delta) {
    const double now = base::monotonic_seconds();
    const std::lock_guard lock(mutex_);
    KeptAnswer* const kept = request_.kept.empty() ? nullptr : request_.kept[index].get();
    if (kept != nullptr) kept->served(delta);
    if (failed_ || cancelled_) return kept != nullptr && kept->wants_rest();
    if (last_token_time_[index] == 0) {
        metrics_.time_to_first_token.observe(now - start_time_);
    } else {
        metrics_.inter_token_latency.observe(now - last_token_time_[index]);
    }
    last_token_time_[index] = now;
    ChoiceState piece;
    piece.content = delta.content;
    const std::string reasoning = reasoning_[index].pass(delta.reasoning, !delta.content.empty());
    if (!reasoning.empty()) piece.reasoning = reasoning;
    // Tokens of hidden reasoning would tell it.
    const bool hidden = reasoning_[index].hides() && !delta.reasoning.empty();
    if (hidden && piece.content.empty() && !piece.reasoning) return true;
    if (request_.logprobs && !delta.tokens.empty() && !hidden) piece.logprobs = logprobs_of(delta.tokens);
    if (request_.tools != ToolStyle::none) take_calls(index, call_parsers_[index].push(delta.content), piece);
    const bool wants_rest = kept != nullptr && kept->wants_rest();
    if (is_blocked(index)) return wants_rest;
    guard_piece(index, piece, false);
    return (deliver(index, std::move(piece)) && !is_blocked(index)) || wants_rest;
}

void GenerationJob::on_done(std::size_t index, Result<generate::TextCompletion> done) {
    if (!request_.kept.empty()) request_.kept[index]->served_done(done, !cancelled_ && !failed_);
    if (!done) {
        fail_with(api::server_error(done.error().message));
    }
    const std::lock_guard lock(mutex_);
    if (done) {
        const generate::Completion& completion = done->completion;
        const bool stopped = completion.finish_reason == generate::FinishReason::cancelled;
        aborted_ = aborted_ || (stopped && !is_blocked(index));
        if (index % (choices_.size() / static_cast<std::size_t>(request_.prompts)) == 0) {
            usage_.prompt_tokens += completion.prompt_tokens;
            usage_.cached_tokens += completion.cached_tokens;
        }
        usage_.completion_tokens += completion.completion_tokens;
        usage_.reasoning_tokens += done->reasoning_tokens;
        metrics_.queue_time.observe(completion.queue_seconds);
        ChoiceState rest;
        if (std::string last = reasoning_[index].pass({}, true); !last.empty()) rest.reasoning = last;
        if (request_.tools != ToolStyle::none) take_calls(index, call_parsers_[index].finish(), rest);
        if (request_.logprobs && request_.logprobs_with_stop && completion.stop) {
            rest.logprobs = logprobs_of({*completion.stop});
        }
        if (!is_blocked(index)) guard_piece(index, rest, true);
        if (!failed_ && !aborted_) deliver(index, std::move(rest));
        add_prompt(index, completion);
        const bool calls =
            !choices_[index].tool_calls.empty() && completion.finish_reason == generate::FinishReason::stop;
        choices_[index].finish_reason = is_blocked(index) ? "content_filter"
                                        : calls           ? "tool_calls"
                                                          : finish_reason_text(completion.finish_reason);
        if (request_.stream && !failed_ && !aborted_) {
            ChoiceState last;
            last.finish_reason = choices_[index].finish_reason;
            deliver(index, std::move(last));
        }
    }
    if (--unfinished_ == 0) finish();
}

void GenerationJob::settle(RequestEnd how, int status) {
    if (!ticket_) return;
    ticket_->count(
        {usage_.prompt_tokens, usage_.cached_tokens, usage_.completion_tokens, usage_.reasoning_tokens});
    ticket_->end(how, status);
}

void GenerationJob::finish() {
    if (failed_) return settle(RequestEnd::failed, failed_status_);
    const bool went = aborted_ || cancelled_;
    settle(went ? RequestEnd::aborted : RequestEnd::finished, went && !begun_ ? 503 : 200);
    metrics_.request_latency.observe(base::monotonic_seconds() - start_time_);
    if (aborted_ || cancelled_) {
        metrics_.count(Outcome::abort);
        // The client has gone; or the server is stopping, and must not pass half an answer off as whole.
        const api::ApiError error = api::unavailable("The server stopped before the answer was complete.");
        if (begun_) {
            writer_->write(http::sse_frame(api::write_error(error)));
            writer_->end();
        } else {
            writer_->send(error.status, timed_headers(), api::write_error(error));
        }
        return;
    }
    const bool cut = std::any_of(choices_.begin(), choices_.end(),
                                 [](const ChoiceState& choice) { return choice.finish_reason == "length"; });
    const bool calls = std::any_of(choices_.begin(), choices_.end(), [](const ChoiceState& choice) {
        return choice.finish_reason == "tool_calls";
    });
    const bool filtered =
        std::any_of(guards_.begin(), guards_.end(), [](const ChoiceGuard& guard) { return guard.blocked(); });
    metrics_.count(filtered ? Outcome::content_filter
                   : cut    ? Outcome::length
                   : calls  ? Outcome::tool_calls
                            : Outcome::stop);
    if (request_.stream) {
        std::string end;
        if (request_.include_usage) end += http::sse_frame(format_->usage_event(usage_));
        writer_->write(end + http::sse_frame("[DONE]"));
        writer_->end();
        return;
    }
    if (request_.logprobs) {
        for (ChoiceState& choice : choices_) {
            if (!choice.logprobs) choice.logprobs.emplace();
        }
    }
    writer_->send(200, timed_headers(), format_->whole(choices_, usage_));
}

std::vector<api::TokenLogprobs> GenerationJob::logprobs_of(
    const std::vector<generate::TokenEvent>& events) const {
    std::vector<api::TokenLogprobs> out;
    for (const generate::TokenEvent& event : events) {
        api::TokenLogprobs token;
        static_cast<api::LogprobEntry&>(token) = entry_of(model_->tokenizer, event.token, event.logprob);
        for (const generate::TokenLogprob& alternative : event.top) {
            token.top.push_back(entry_of(model_->tokenizer, alternative.token, alternative.logprob));
        }
        out.push_back(std::move(token));
    }
    return out;
}

}  // namespace retort::serve
