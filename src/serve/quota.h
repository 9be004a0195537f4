// The limits of accounts, kept without asking the store for each request: reservations come out of leases
// that a thread of its own takes from the ledger, ahead of need where traffic is steady, and exactly what is
// needed where it is not or little is left. Knows no key and no route.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "store/ledger.h"

namespace retort::serve {

using Amounts = std::array<std::int64_t, store::units>;  // requests, tokens, millionths of a dollar

// Which limit stands in the way.
struct QuotaRefusal {
    std::size_t unit = 0;
    std::size_t span = 0;
    std::int64_t limit = 0;
    std::int64_t seconds = 0;  // until the span ends
    bool never_fits = false;   // one request asks for more than the whole limit
    bool unavailable = false;  // the store cannot be reached
};

// Of requests and tokens, for x-ratelimit-*.
struct QuotaState {
    std::int64_t limit = store::no_limit;
    std::int64_t remaining = 0;
    std::int64_t reset_seconds = 0;
};

struct QuotaAccount;

// What was reserved, to be settled once.
struct Reservation {
    std::shared_ptr<QuotaAccount> account;
    store::Limits taken{};  // out of each lease; 0 where there is no limit
    std::array<std::int64_t, store::spans> starts{};
    std::uint64_t epoch = 0;  // of the leases
};

struct QuotaAnswer {
    std::optional<QuotaRefusal> refused;
    Reservation reservation;
    std::array<QuotaState, 2> states;
};

class Quota {
  public:
    struct Options {
        double flush_seconds = 0.1;  // between rounds with the ledger; a waiting request starts one at once
        double lease_seconds = 10;   // after which a silent server's leases count as used
        std::int64_t minute_retention_seconds = 3600 * 24;
        std::function<std::int64_t()> clock;  // Unix seconds; the system's if empty
    };
    // Opens its own connection. `location` as of store::open_database.
    static Result<std::unique_ptr<Quota>> open(const std::string& location, Options options);
    ~Quota();
    Quota(const Quota&) = delete;
    Quota& operator=(const Quota&) = delete;

    // `decided` is called at once when the leases at hand suffice or the refusal is certain, else from the
    // quota's thread.
    void reserve(const std::string& account, const store::Limits& limits, const Amounts& wanted,
                 std::function<void(QuotaAnswer)> decided);
    // What was used in truth: more or less than was reserved.
    void settle(const Reservation& reservation, const Amounts& used);
    // Whoever waits is refused, the books are settled, leases returned.
    void stop();
    // Whether the ledger has answered lately.
    [[nodiscard]] bool is_healthy() const { return healthy_.load(); }

  private:
    struct Waiting {
        std::shared_ptr<QuotaAccount> account;
        Amounts wanted{};
        std::function<void(QuotaAnswer)> decided;
    };

    Quota(std::unique_ptr<store::Database> database, Options options);
    void run();
    // One exchange with the ledger for all accounts with business; answers those who wait as far as it can.
    Status round(std::vector<Waiting>& waiting, bool last);
    Status exchange(const std::vector<std::shared_ptr<QuotaAccount>>& accounts,
                    const std::vector<Waiting>& waiting, bool last);
    void answer(std::vector<Waiting>& waiting);
    std::shared_ptr<QuotaAccount> account_of(const std::string& id, const store::Limits& limits);
    void list(const std::shared_ptr<QuotaAccount>& account);
    [[nodiscard]] std::int64_t now() const;
    void drop_leases();
    void housekeeping();

    Options options_;
    std::unique_ptr<store::Database> database_;
    store::Ledger ledger_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::unordered_map<std::string, std::shared_ptr<QuotaAccount>> accounts_;
    std::vector<Waiting> waiting_;
    std::vector<std::shared_ptr<QuotaAccount>> active_;
    bool stopping_ = false;
    std::atomic<bool> healthy_{true};
    double last_heartbeat_ = 0;
    double last_housekeeping_ = 0;
    std::mutex stop_mutex_;
    std::thread thread_;
};

}  // namespace retort::serve
