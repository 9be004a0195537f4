// One request's answer in the making: its choices generated side by side, sent whole or as a stream. Private
// to this part.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/chat_response.h"
#include "generate/text_generation.h"
#include "http/server.h"
#include "serve/admission.h"
#include "serve/metrics.h"
#include "serve/protected_works.h"
#include "serve/reasoning_filter.h"
#include "serve/server.h"

namespace retort::serve {

class GenerationJob;
class KeptAnswer;

// The jobs that have not ended: a server waits for the engine to have let go of all of them, and looks after
// those that wait.
class ActiveJobs {
  public:
    void add(const std::weak_ptr<GenerationJob>& job) {
        const std::lock_guard lock(mutex_);
        std::erase_if(jobs_, [](const auto& known) { return known.expired(); });
        jobs_.push_back(job);
    }
    template <typename Function>
    void each(const Function& function) {
        std::vector<std::shared_ptr<GenerationJob>> now;
        {
            const std::lock_guard lock(mutex_);
            for (const auto& job : jobs_) {
                if (auto held = job.lock()) now.push_back(std::move(held));
            }
        }
        for (const auto& job : now) function(*job);
    }
    void enter() {
        const std::lock_guard lock(mutex_);
        ++count_;
    }
    void leave() {
        const std::lock_guard lock(mutex_);
        if (--count_ == 0) none_.notify_all();
    }
    void wait() {
        std::unique_lock lock(mutex_);
        none_.wait(lock, [this] { return count_ == 0; });
    }

  private:
    std::mutex mutex_;
    std::condition_variable none_;
    int count_ = 0;
    std::vector<std::weak_ptr<GenerationJob>> jobs_;
};

// One choice as it grows.
struct ChoiceState {
    std::string content;
    std::optional<std::string> reasoning;
    std::optional<std::vector<api::TokenLogprobs>> logprobs;
    std::vector<ToolCall> tool_calls;
    std::int64_t first_call = 0;   // in a delta: the number of the first of them
    std::int64_t text_offset = 0;  // in a delta: characters of the choice before it
    std::string finish_reason;
};

// What the two kinds of answer differ in.
class AnswerFormat {
  public:
    virtual ~AnswerFormat() = default;
    // Events before the first token of a choice; empty: none.
    [[nodiscard]] virtual std::string opening(std::int64_t index) const = 0;
    // One event; `delta` holds only what is new.
    [[nodiscard]] virtual std::string event(std::int64_t index, const ChoiceState& delta) const = 0;
    [[nodiscard]] virtual std::string usage_event(const api::Usage& usage) const = 0;
    [[nodiscard]] virtual std::string whole(const std::vector<ChoiceState>& choices,
                                            const api::Usage& usage) const = 0;
};

struct JobRequest {
    std::vector<generate::TextRequest> choices;  // one for each, in order
    std::int64_t prompts = 1;                    // choices ÷ prompts share a prompt, which is counted once
    bool stream = false;
    bool include_usage = false;
    bool logprobs = false;
    ToolStyle tools = ToolStyle::none;  // calls are taken out of the text
    bool parallel_tool_calls = true;    // else all but the first are left out
    bool logprobs_with_stop = false;    // the stop token has its place among them
    std::vector<std::string> echo;      // a text for each choice, which it begins with; or none
    std::shared_ptr<const ProtectedWorks> protected_works;  // null: none
    std::vector<std::shared_ptr<KeptAnswer>> kept;  // one for each choice, or none: nothing is escrowed
    // A fresh hook of what constrains the answer, for one more choice; null: nothing does.
    std::function<generate::SamplingHook()> unmarked_hook;
};

class GenerationJob : public std::enable_shared_from_this<GenerationJob> {
  public:
    GenerationJob(std::shared_ptr<const ServedModel> model, std::shared_ptr<http::ResponseWriter> writer,
                  http::Headers headers, std::unique_ptr<AnswerFormat> format, JobRequest request,
                  Metrics& metrics, ActiveJobs& active, std::shared_ptr<Ticket> ticket = nullptr);
    ~GenerationJob();
    GenerationJob(const GenerationJob&) = delete;
    GenerationJob& operator=(const GenerationJob&) = delete;

    // Submits every choice; the rest happens on the engine's thread.
    void start();
    // A comment, when nothing has been sent for so long.
    void keep_alive(double interval);

  private:
    bool on_delta(std::size_t index, const generate::TextDelta& delta);
    void on_done(std::size_t index, Result<generate::TextCompletion> done);
    void fail_with(const api::ApiError& error);
    void begin_stream();
    // With the time until now.
    [[nodiscard]] http::Headers timed_headers() const;
    void finish();
    void settle(RequestEnd how, int status);
    void cancel_all();
    // A piece of a choice: sent, or kept for the end.
    bool deliver(std::size_t index, ChoiceState piece);
    void take_calls(std::size_t index, ToolCallParser::Parts parts, ChoiceState& piece);
    // Takes from the piece what must not leave, or not yet; `last`: nothing comes after it.
    void guard_piece(std::size_t index, ChoiceState& piece, bool last);
    [[nodiscard]] bool is_blocked(std::size_t index) const {
        return !guards_.empty() && guards_[index].blocked();
    }
    void add_prompt(std::size_t index, const generate::Completion& completion);
    [[nodiscard]] std::vector<api::TokenLogprobs> logprobs_of(
        const std::vector<generate::TokenEvent>& events) const;

    std::shared_ptr<const ServedModel> model_;
    std::shared_ptr<http::ResponseWriter> writer_;
    http::Headers headers_;
    std::unique_ptr<AnswerFormat> format_;
    JobRequest request_;
    Metrics& metrics_;
    ActiveJobs& active_;
    std::shared_ptr<Ticket> ticket_;  // null: nobody keeps accounts
    std::vector<ReasoningFilter> reasoning_;
    double start_time_;

    std::atomic<bool> cancelled_{false};
    // A client may go, and the first tokens may come, while later choices are still being submitted.
    std::mutex mutex_;
    std::vector<std::uint64_t> ids_;
    std::vector<ChoiceState> choices_;
    std::vector<double> last_token_time_;
    std::vector<ToolCallParser> call_parsers_;                    // one a choice
    std::vector<ChoiceGuard> guards_;                             // one a choice, or none
    std::vector<std::vector<api::TokenLogprobs>> held_logprobs_;  // of text that a guard holds back
    std::vector<std::vector<std::int32_t>> prompts_;  // of each choice whose prompt is echoed with logprobs
    double last_write_;
    api::Usage usage_;
    std::size_t unfinished_ = 0;
    bool begun_ = false;
    bool failed_ = false;
    int failed_status_ = 0;
    bool aborted_ = false;
};

}  // namespace retort::serve
