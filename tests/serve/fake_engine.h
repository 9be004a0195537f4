// An engine that says what the test tells it to: no weights, one token after another for all requests in
// turn, on a thread of its own as the real one does. And a tokenizer whose ids are bytes, so that scripts can
// be written as text.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "generate/engine.h"
#include "model/config.h"
#include "text/bpe.h"
#include "text/tokenizer.h"

namespace retort::test {

inline constexpr std::int32_t end_token = 256;        // <|end|>, special
inline constexpr std::int32_t think_token = 257;      // <think>
inline constexpr std::int32_t end_think_token = 258;  // </think>
inline constexpr std::int32_t byte_vocabulary = 259;

inline std::string json_string(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + "\"";
}

inline text::Tokenizer byte_tokenizer() {
    std::string vocabulary;
    for (int byte = 0; byte < 256; ++byte) {
        const char c = static_cast<char>(byte);
        vocabulary +=
            json_string(text::alphabet_of_bytes(std::string_view(&c, 1))) + ":" + std::to_string(byte) + ",";
    }
    vocabulary.pop_back();
    const auto added = [](int id, std::string_view content, bool special) {
        return R"({"id":)" + std::to_string(id) + R"(,"content":)" + json_string(content) +
               R"(,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":)" +
               (special ? "true}" : "false}");
    };
    const std::string json =
        R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)" +
        added(256, "<|end|>", true) + "," + added(257, "<think>", false) + "," +
        added(258, "</think>", false) +
        R"(],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)"
        R"("use_regex":false},"post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":true,)"
        R"("trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,)"
        R"("continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,)"
        R"("ignore_merges":false,"vocab":{)" +
        vocabulary + R"(},"merges":[]}})";
    auto tokenizer = text::Tokenizer::from_json(json);
    if (!tokenizer) throw std::runtime_error(tokenizer.error().message);
    return std::move(*tokenizer);
}

inline std::vector<std::int32_t> tokens_of(std::string_view text) {
    std::vector<std::int32_t> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
}

class FakeEngine : public generate::Engine {
  public:
    struct Options {
        std::chrono::microseconds token_time{0};
        std::int64_t context_length = 1000;
    };
    // What the answer to a request is; the engine ends it at max_tokens or at a stop token.
    using Script = std::function<std::vector<std::int32_t>(const generate::Request&)>;

    FakeEngine(Script script, Options options)
        : script_(std::move(script)), options_(options), thread_([this] { run(); }) {
        config_.hidden_size = 3;
    }
    ~FakeEngine() override {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        wake_.notify_all();
        thread_.join();
    }

    Result<std::uint64_t> submit(generate::Request request, OnToken on_token, OnDone on_done) override {
        if (fail_submit) return fail(ErrorCode::invalid_argument, "this engine refuses");
        std::vector<std::int32_t> script = script_(request);
        const std::lock_guard lock(mutex_);
        requests.push_back(request);
        ++running_;
        const auto prompt_size = static_cast<std::int64_t>(request.prompt.size());
        jobs_.push_back({++last_id_, std::move(request), std::move(script), std::move(on_token),
                         std::move(on_done), 0, prompt_size});
        wake_.notify_all();
        return last_id_;
    }

    void cancel(std::uint64_t id) override {
        const std::lock_guard lock(mutex_);
        cancelled_.insert(id);
        wake_.notify_all();
    }

    Result<generate::Completion> generate(generate::Request request, const OnToken& on_token) override {
        std::mutex mutex;
        std::condition_variable ended;
        std::optional<Result<generate::Completion>> result;
        auto id = submit(std::move(request), on_token, [&](Result<generate::Completion> done) {
            const std::lock_guard lock(mutex);
            result = std::move(done);
            ended.notify_all();
        });
        if (!id) return tl::make_unexpected(id.error());
        std::unique_lock lock(mutex);
        ended.wait(lock, [&] { return result.has_value(); });
        return *result;
    }

    [[nodiscard]] const model::ModelConfig& config() const override { return config_; }
    [[nodiscard]] std::int64_t context_length() const override { return options_.context_length; }
    [[nodiscard]] generate::EngineStatistics statistics() const override {
        const std::lock_guard lock(mutex_);
        generate::EngineStatistics statistics;
        statistics.running = static_cast<std::int64_t>(running_.load());
        statistics.waiting = waiting;
        statistics.generated_tokens = generated_;
        return statistics;
    }
    [[nodiscard]] std::size_t running() const { return running_; }
    generate::Request last_request() {
        const std::lock_guard lock(mutex_);
        return requests.back();
    }

    std::vector<generate::Request> requests;
    std::atomic<bool> fail_submit{false};
    std::atomic<bool> fail_generation{false};
    std::atomic<std::int64_t> waiting{0};

  private:
    struct Job {
        std::uint64_t id;
        generate::Request request;
        std::vector<std::int32_t> script;
        OnToken on_token;
        OnDone on_done;
        std::int64_t made = 0;
        std::int64_t prompt_size = 0;
    };

    // What the script wants if the hook lets it, else the least token that it leaves.
    static std::int32_t hooked(Job& job, std::int32_t wanted) {
        std::vector<float> logits(byte_vocabulary, 0.0F);
        logits[static_cast<std::size_t>(wanted)] = 1;
        job.request.hook.change_logits(job.request.prompt, logits);
        const auto token =
            static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
        job.request.prompt.push_back(token);
        return token;
    }

    // What a request about its prompt alone is told.
    static generate::Completion about_prompt(const Job& job) {
        generate::Completion completion;
        completion.finish_reason = generate::FinishReason::length;
        completion.prompt_tokens = job.prompt_size;
        if (job.request.embed)
            completion.embedding = {3, 0, static_cast<float>(job.prompt_size % 2 == 0 ? 4 : 0)};
        return completion;
    }
    static void add_prompt(const Job& job, generate::Completion& completion) {
        if (!job.request.prompt_logprobs) return;
        for (std::int64_t i = 1; i < job.prompt_size; ++i) {
            const std::int32_t token = job.request.prompt[static_cast<std::size_t>(i)];
            completion.prompt.push_back({token, -0.25F, {{token, -0.25F}}});
        }
    }

    // One token of one request; whether the request has ended, and how.
    std::optional<generate::FinishReason> step(Job& job) {
        const bool at_end = static_cast<std::size_t>(job.made) >= job.script.size();
        if (at_end && !job.request.hook.change_logits) return generate::FinishReason::stop;
        std::int32_t token = at_end ? end_token : job.script[static_cast<std::size_t>(job.made)];
        if (job.request.hook.change_logits) token = hooked(job, token);
        for (const std::int32_t stop : job.request.stop_tokens) {
            if (token == stop) return generate::FinishReason::stop;
        }
        ++job.made;
        generate::TokenEvent event{token, -0.5F, {}};
        for (std::int32_t i = 0; i < job.request.top_logprobs; ++i) {
            event.top.push_back({(token + i) % 256, -0.5F - static_cast<float>(i)});
        }
        if (!job.on_token(event)) return generate::FinishReason::cancelled;
        if (job.made >= job.request.max_tokens) return generate::FinishReason::length;
        return std::nullopt;
    }

    void run() {
        std::unique_lock lock(mutex_);
        while (true) {
            wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
            if (jobs_.empty()) return;
            Job job = std::move(jobs_.front());
            jobs_.pop_front();
            const bool cancelled = stopping_ || cancelled_.count(job.id) > 0;
            if (!cancelled && options_.token_time.count() > 0) {
                const std::uint64_t id = job.id;
                wake_.wait_for(lock, options_.token_time,
                               [&] { return stopping_ || cancelled_.count(id) > 0; });
            }
            lock.unlock();
            const bool prompt_alone = job.request.max_tokens == 0;
            auto ended = cancelled      ? std::optional(generate::FinishReason::cancelled)
                         : prompt_alone ? std::optional(generate::FinishReason::length)
                                        : step(job);
            if (fail_generation && !cancelled) {
                job.on_done(fail(ErrorCode::internal, "the engine broke"));
            } else if (ended) {
                generate::Completion completion;
                if (prompt_alone) completion = about_prompt(job);
                completion.finish_reason = *ended;
                completion.prompt_tokens = job.prompt_size;
                completion.cached_tokens = prompt_alone ? 0 : 3;
                completion.completion_tokens = job.made;
                add_prompt(job, completion);
                job.on_done(std::move(completion));
            }
            const bool again = !ended && !fail_generation;
            if (!again) {
                job = {};  // its callbacks are gone before it counts as ended
                --running_;
            }
            lock.lock();
            if (again) jobs_.push_back(std::move(job));
            ++generated_;
        }
    }

    Script script_;
    Options options_;
    model::ModelConfig config_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Job> jobs_;
    std::set<std::uint64_t> cancelled_;
    std::atomic<std::size_t> running_{0};
    std::uint64_t last_id_ = 0;
    std::uint64_t generated_ = 0;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace retort::test
