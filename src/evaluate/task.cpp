#include "evaluate/task.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "base/interrupt.h"
#include "stats/proportion.h"

namespace retort::evaluate {

TaskScore score_answers(std::span<const std::string> answers, const AnswerCheck& check, double confidence) {
    TaskScore score;
    std::int64_t passed = 0;
    for (std::size_t i = 0; i < answers.size(); ++i) {
        const bool passes = check(answers[i], i);
        score.passed.push_back(passes ? 1 : 0);
        passed += passes ? 1 : 0;
    }
    const auto trials = static_cast<std::int64_t>(answers.size());
    score.wilson = stats::wilson(passed, trials, confidence);
    score.exact = stats::clopper_pearson(passed, trials, confidence);
    return score;
}

Result<stats::Estimate> task_difference(const TaskScore& a, const TaskScore& b,
                                        const stats::BootstrapOptions& options) {
    if (a.passed.size() != b.passed.size() || a.passed.empty()) {
        return fail(ErrorCode::invalid_argument,
                    "task scores of {} and {} answers cannot be compared: both models must answer the same "
                    "prompts",
                    a.passed.size(), b.passed.size());
    }
    const std::vector<double> of_a(a.passed.begin(), a.passed.end());
    const std::vector<double> of_b(b.passed.begin(), b.passed.end());
    return stats::paired_difference(of_a, of_b, std::vector<double>(of_a.size(), 1.0), options);
}

namespace {

// What the engine's thread writes and the caller waits for.
struct Pending {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::vector<std::int32_t>> tokens;
    std::vector<std::uint8_t> complete;
    std::int64_t done = 0;
    std::optional<base::Error> error;
};

}  // namespace

Result<GeneratedAnswers> answer_prompts(generate::Engine& engine,
                                        std::span<const std::vector<std::int32_t>> prompts,
                                        const AnswerOptions& options, const DecodeTokens& decode,
                                        const std::function<void(std::int64_t done)>& on_progress) {
    Pending pending;
    pending.tokens.resize(prompts.size());
    pending.complete.resize(prompts.size());
    std::vector<std::uint64_t> ids;
    std::optional<base::Error> refused;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
        generate::Request request;
        request.prompt = prompts[i];
        request.sampling = options.sampling;
        if (request.sampling.seed) request.sampling.seed = *request.sampling.seed + i;
        request.max_tokens = options.max_tokens;
        request.stop_tokens = options.stop_tokens;
        if (options.hook) request.hook = options.hook();
        auto id = engine.submit(
            std::move(request),
            [&pending, i](const generate::TokenEvent& event) {
                pending.tokens[i].push_back(event.token);
                return true;
            },
            [&pending, i](Result<generate::Completion> completion) {
                const std::lock_guard lock(pending.mutex);
                ++pending.done;
                if (completion) {
                    pending.complete[i] = completion->finish_reason == generate::FinishReason::stop ? 1 : 0;
                } else if (!pending.error) {
                    pending.error = completion.error();
                }
                pending.changed.notify_all();
            });
        if (!id) {
            refused = base::Error{id.error().code, fmt::format("prompt {}: {}", i + 1, id.error().message)};
            break;
        }
        ids.push_back(*id);
    }
    // Callbacks refer to `pending`: whatever happens, every submitted request is waited for.
    const auto submitted = static_cast<std::int64_t>(ids.size());
    bool cancelled = false;
    std::unique_lock lock(pending.mutex);
    while (pending.done < submitted) {
        pending.changed.wait_for(lock, std::chrono::milliseconds(100));
        const std::int64_t done = pending.done;
        const bool stop = base::interrupted() || refused || pending.error;
        lock.unlock();
        if (stop && !cancelled) {
            for (const std::uint64_t id : ids) engine.cancel(id);
            cancelled = true;
        }
        if (on_progress && !cancelled) on_progress(done);
        lock.lock();
    }
    if (base::interrupted()) return fail(ErrorCode::cancelled, "answering was interrupted");
    if (refused) return tl::unexpected(*refused);
    if (pending.error) return tl::unexpected(*pending.error);
    GeneratedAnswers answers;
    answers.complete = pending.complete;
    for (const std::vector<std::int32_t>& tokens : pending.tokens) {
        answers.tokens.push_back(static_cast<std::int64_t>(tokens.size()));
        answers.texts.push_back(decode(tokens));
    }
    answers.ids = std::move(pending.tokens);
    return answers;
}

}  // namespace retort::evaluate
