#include "generate/engine.h"

#include <condition_variable>
#include <future>
#include <mutex>
#include <new>
#include <random>
#include <system_error>
#include <thread>

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "generate/scheduler.h"

namespace retort::generate {

namespace {

class ThreadedEngine final : public Engine {
  public:
    ThreadedEngine(model::Weights weights, const SchedulerPlan& plan, std::optional<model::Weights> draft)
        : plan_(plan),
          scheduler_(std::move(weights), plan, std::random_device()(), std::move(draft)),
          thread_([this, threads = base::thread_count()] {
              base::set_thread_count(threads);  // OpenMP's number is each thread's own
              run();
          }) {}

    ~ThreadedEngine() override {
        {
            const std::scoped_lock lock(mutex_);
            stopping_ = true;
        }
        wake_.notify_one();
        thread_.join();
    }

    Result<std::uint64_t> submit(Request request, OnToken on_token, OnDone on_done) override {
        RETORT_CHECK(check_request(request, scheduler_.config(), plan_.context_length));
        std::uint64_t id = 0;
        {
            const std::scoped_lock lock(mutex_);
            id = next_id_++;
            arrived_.push_back(
                {id, std::move(request), std::move(on_token), std::move(on_done), base::monotonic_seconds()});
        }
        wake_.notify_one();
        return id;
    }

    void cancel(std::uint64_t id) override {
        {
            const std::scoped_lock lock(mutex_);
            cancelled_.push_back(id);
        }
        wake_.notify_one();
    }

    Result<Completion> generate(Request request, const OnToken& on_token) override {
        std::promise<Result<Completion>> promise;
        auto future = promise.get_future();
        RETORT_TRY(const std::uint64_t id,
                   submit(std::move(request), on_token,
                          [&promise](Result<Completion> result) { promise.set_value(std::move(result)); }));
        // A long prompt calls nobody back: Ctrl-C is looked for here.
        bool cancelled = false;
        while (future.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
            if (base::interrupted() && !cancelled) {
                cancel(id);
                cancelled = true;
            }
        }
        return future.get();
    }

    [[nodiscard]] const model::ModelConfig& config() const override { return scheduler_.config(); }
    [[nodiscard]] std::int64_t context_length() const override { return plan_.context_length; }

    [[nodiscard]] EngineStatistics statistics() const override {
        const std::scoped_lock lock(mutex_);
        EngineStatistics statistics = statistics_;
        statistics.waiting += static_cast<std::int64_t>(arrived_.size());
        return statistics;
    }

  private:
    void run() {
        for (;;) {
            std::vector<ScheduledRequest> arrived;
            std::vector<std::uint64_t> cancelled;
            bool stopping = false;
            {
                std::unique_lock lock(mutex_);
                statistics_ = scheduler_.statistics();
                wake_.wait(lock, [this] {
                    return stopping_ || !arrived_.empty() || !cancelled_.empty() || !scheduler_.idle();
                });
                arrived.swap(arrived_);
                cancelled.swap(cancelled_);
                stopping = stopping_;
            }
            for (ScheduledRequest& request : arrived) scheduler_.add(std::move(request));
            for (const std::uint64_t id : cancelled) scheduler_.cancel(id);
            if (stopping) {
                scheduler_.cancel_all();
                return;
            }
            scheduler_.step();
        }
    }

    const SchedulerPlan plan_;
    Scheduler scheduler_;  // touched by the thread alone once that runs
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<ScheduledRequest> arrived_;
    std::vector<std::uint64_t> cancelled_;
    EngineStatistics statistics_;
    std::uint64_t next_id_ = 1;
    bool stopping_ = false;
    std::thread thread_;  // last: it uses all of the above
};

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(model::Weights weights, const EngineOptions& options,
                                               std::optional<model::Weights> draft) {
    RETORT_TRY(const SchedulerPlan plan,
               plan_scheduler(weights.config, options, draft ? &draft->config : nullptr));
    try {
        return std::make_unique<ThreadedEngine>(std::move(weights), plan, std::move(draft));
    } catch (const std::bad_alloc&) {
        return fail(
            ErrorCode::invalid_argument,
            "no memory for a cache of {} tokens: give a shorter context, fewer sequences or a smaller cache",
            plan.page_count * tensor::kv_page_tokens);
    } catch (const std::system_error& error) {
        return fail(ErrorCode::internal, "the engine's thread could not be started: {}", error.what());
    }
}

}  // namespace retort::generate
