#include "collect/workers.h"

#include <chrono>
#include <memory>
#include <system_error>
#include <utility>

namespace retort::collect {

Result<std::unique_ptr<Workers>> Workers::start(int threads, Work work) {
    std::unique_ptr<Workers> workers(new Workers(std::move(work)));
    for (int i = 0; i < threads; ++i) {
        try {
            workers->threads_.emplace_back([self = workers.get()] { self->run(); });
        } catch (const std::system_error& error) {
            if (i == 0) return fail(ErrorCode::internal, "cannot start a thread: {}", error.what());
            break;
        }
    }
    return workers;
}

Workers::~Workers() {
    {
        const std::lock_guard lock(mutex_);
        closing_ = true;
        jobs_.clear();
    }
    has_job_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void Workers::give(const Job& job) {
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(job);
    }
    has_job_.notify_one();
}

std::optional<Finished> Workers::take(double seconds) {
    std::unique_lock lock(mutex_);
    has_result_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return !results_.empty(); });
    if (results_.empty()) return std::nullopt;
    Finished finished = std::move(results_.front());
    results_.pop_front();
    return finished;
}

void Workers::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        has_job_.wait(lock, [&] { return closing_ || !jobs_.empty(); });
        if (jobs_.empty()) return;
        const Job job = jobs_.front();
        jobs_.pop_front();
        lock.unlock();
        Finished finished{job, work_(job)};
        lock.lock();
        results_.push_back(std::move(finished));
        has_result_.notify_one();
    }
}

}  // namespace retort::collect
