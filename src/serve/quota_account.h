// One account's counters in memory. Private to the quota.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "serve/quota.h"

namespace retort::serve {

struct QuotaCounter {
    std::int64_t balance = 0;  // leased and free
    std::int64_t used = 0;     // out of leases, not told the ledger yet
    std::int64_t beyond = 0;   // without a lease, likewise
    std::int64_t recent = 0;   // reserved since the last round
    std::int64_t left = 0;     // of the limit, as the ledger last said
};

struct QuotaAccount {
    explicit QuotaAccount(std::string name) : id(std::move(name)) {}

    // All below by whoever holds the mutex.
    void roll(std::int64_t now);
    // Takes the amounts out of the leases, or nothing.
    std::optional<Reservation> take(const std::shared_ptr<QuotaAccount>& self, const Amounts& wanted);
    // The limit that `wanted` cannot pass; `fresh`: what the ledger said is of this moment.
    [[nodiscard]] std::optional<QuotaRefusal> refusal(const Amounts& wanted, std::int64_t now,
                                                      bool fresh) const;
    void settle(const Reservation& reservation, const Amounts& used);
    [[nodiscard]] std::array<QuotaState, 2> states(std::int64_t now) const;
    void drop_leases();
    // Lines for the ledger; `waiting` are the amounts of those who wait, in order. What they say leaves the
    // counters.
    [[nodiscard]] std::vector<store::LedgerLine> lines(const std::vector<Amounts>& waiting, bool last);
    void accept(const std::vector<store::LedgerLine>& answered);
    // The exchange failed: the lines' amounts come back.
    void reject(const std::vector<store::LedgerLine>& asked);
    [[nodiscard]] bool is_idle() const;

    std::string id;
    std::mutex mutex;
    store::Limits limits{};
    std::array<std::int64_t, store::spans> starts{};
    std::array<std::int64_t, store::spans> ends{};
    std::array<std::array<QuotaCounter, store::spans>, store::units> counters{};
    std::vector<store::LedgerLine> past;  // of spans gone by
    std::uint64_t epoch = 0;
    double exhausted_until = 0;  // monotonic; refusals are certain until then
    bool listed = false;
};

}  // namespace retort::serve
