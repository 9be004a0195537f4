// Threads that each wait for one request at a time; everything that is decided stays with the one thread that
// hands out jobs and takes results. Knows nothing of limits and journals.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "collect/ask.h"

namespace retort::collect {

struct Job {
    std::size_t item = 0;
    std::size_t endpoint = 0;
    double started_at = 0;
    bool second = false;                          // of two for the same answer
    std::shared_ptr<std::atomic<bool>> cancel{};  // set: its answer is wanted no more
};

struct Finished {
    Job job;
    Outcome outcome;
};

class Workers {
  public:
    using Work = std::function<Outcome(const Job&)>;
    // Fewer threads than asked when the system has no more; fails only when there is none at all.
    static Result<std::unique_ptr<Workers>> start(int threads, Work work);
    ~Workers();  // waits for jobs in progress
    Workers(const Workers&) = delete;
    Workers& operator=(const Workers&) = delete;

    void give(const Job& job);
    // Waits at most `seconds` for the next result.
    std::optional<Finished> take(double seconds);
    [[nodiscard]] int threads() const { return static_cast<int>(threads_.size()); }

  private:
    explicit Workers(Work work) : work_(std::move(work)) {}
    void run();
    Work work_;
    std::mutex mutex_;
    std::condition_variable has_job_;
    std::condition_variable has_result_;
    std::deque<Job> jobs_;
    std::deque<Finished> results_;
    bool closing_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace retort::collect
