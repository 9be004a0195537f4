#include "tensor/team.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/parallel.h"

namespace retort::tensor {

namespace {

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

thread_local bool inside_item = false;

class Team {
  public:
    ~Team() { resize(0); }

    void run(std::int64_t count, TeamItem item, const void* context) {
        const int helpers = std::min<int>(base::thread_count(), 256) - 1;
        std::unique_lock<std::mutex> lock;
        if (helpers > 0 && !inside_item) lock = std::unique_lock(owner_, std::try_to_lock);
        if (!lock.owns_lock()) {
            for (std::int64_t i = 0; i < count; ++i) item(context, i);
            return;
        }
        if (wanted_ != helpers) resize(helpers);
        item_.store(item, std::memory_order_relaxed);
        context_.store(context, std::memory_order_relaxed);
        count_.store(count, std::memory_order_relaxed);
        done_.store(0, std::memory_order_relaxed);
        const std::uint64_t generation = (ticket_.load(std::memory_order_relaxed) >> 32U) + 1;
        ticket_.store(generation << 32U | static_cast<std::uint64_t>(count), std::memory_order_seq_cst);
        if (sleepers_.load(std::memory_order_seq_cst) > 0) ticket_.notify_all();
        work();
        for (int spins = 0; done_.load(std::memory_order_acquire) != count; ++spins) {
            if (spins < spin_limit) {
                pause_briefly();
            } else {
                std::this_thread::yield();  // a helper is inside an item and not running
            }
        }
    }

  private:
    static constexpr int spin_limit = 4000;  // about 50 to 100 µs

    // The low half of the ticket counts the items that nobody has claimed. A claim that succeeds proves that
    // the job is still the one whose fields were read: its owner waits for that very item.
    void work() {
        inside_item = true;
        for (std::uint64_t ticket = ticket_.load(std::memory_order_acquire); (ticket & 0xffffffffU) != 0;) {
            const TeamItem item = item_.load(std::memory_order_relaxed);
            const void* context = context_.load(std::memory_order_relaxed);
            const std::int64_t count = count_.load(std::memory_order_relaxed);
            if (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel,
                                               std::memory_order_acquire)) {
                continue;
            }
            item(context, count - static_cast<std::int64_t>(ticket & 0xffffffffU));
            done_.fetch_add(1, std::memory_order_release);
            ticket = ticket_.load(std::memory_order_acquire);
        }
        inside_item = false;
    }

    void help() {
        int spins = 0;
        while (!stopping_.load(std::memory_order_relaxed)) {
            const std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
            if ((ticket & 0xffffffffU) != 0) {
                work();
                spins = 0;
            } else if (++spins < spin_limit) {
                pause_briefly();
            } else {
                sleepers_.fetch_add(1, std::memory_order_seq_cst);
                ticket_.wait(ticket, std::memory_order_seq_cst);
                sleepers_.fetch_sub(1, std::memory_order_relaxed);
                spins = 0;
            }
        }
    }

    void resize(int helpers) {
        stopping_.store(true);
        ticket_.fetch_add(std::uint64_t{1} << 32U);
        ticket_.notify_all();
        for (std::thread& helper : helpers_) helper.join();
        helpers_.clear();
        stopping_.store(false);
        wanted_ = helpers;
        try {
            for (int i = 0; i < helpers; ++i) helpers_.emplace_back([this] { help(); });
        } catch (const std::system_error&) {
            // The system has no more threads to give: fewer do the same work.
        }
    }

    std::mutex owner_;
    std::vector<std::thread> helpers_;
    int wanted_ = 0;
    std::atomic<std::uint64_t> ticket_ = 0;
    std::atomic<TeamItem> item_ = nullptr;
    std::atomic<const void*> context_ = nullptr;
    std::atomic<std::int64_t> count_ = 0;
    std::atomic<std::int64_t> done_ = 0;
    std::atomic<int> sleepers_ = 0;
    std::atomic<bool> stopping_ = false;
};

}  // namespace

void team_run(std::int64_t count, TeamItem item, const void* context) {
    static Team team;
    team.run(count, item, context);
}

}  // namespace retort::tensor
