// What accounts have used in each minute, day and month, and what servers hold on lease of what is left. A
// server leases ahead and serves from its lease without asking again; a lease counts against the limit like
// use, so that all servers together never exceed it. What a dead server held becomes used: more may have been
// served than it has told, never more than it held.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/accounts.h"

namespace retort::store {

// One counter's business in an exchange. What is used or given back of a lease must have been granted to this
// server for the same span.
struct LedgerLine {
    std::size_t unit = 0;
    std::size_t span = 0;
    std::int64_t start = 0;        // of the span, Unix seconds
    std::int64_t used = 0;         // out of the lease
    std::int64_t used_beyond = 0;  // not covered by a lease: no limit, or more than was reserved
    std::int64_t give_back = 0;    // of the lease, not used
    std::int64_t need = 0;         // granted whole or not at all
    std::int64_t ask = 0;          // on top, as far as it goes
    std::int64_t want = 0;         // on top, ahead of need: a small share of what is left
    std::int64_t limit = no_limit;
    // The answer.
    std::int64_t granted = 0;
    std::int64_t left = 0;  // of the limit after this: neither used nor leased by anybody
};

struct AccountExchange {
    std::string account;
    std::vector<LedgerLine> lines;
};

struct UsageRow {
    std::string account;
    std::size_t unit = 0;
    std::size_t span = 0;
    std::int64_t start = 0;
    std::int64_t used = 0;
    std::int64_t leased = 0;
};

class Ledger {
  public:
    // `server` names this process among all that share the store: a new name each start.
    Ledger(Database& database, std::string server) : database_(&database), server_(std::move(server)) {}

    // Says that the server lives, for `seconds` more. False: it had been given up, and its leases are gone
    // (charged as used); what it still holds in memory must be dropped.
    Result<bool> heartbeat(std::int64_t now, std::int64_t seconds);
    // Charges the leases of servers whose time is over as used. Returns how many servers.
    Result<int> reap(std::int64_t now);
    // One transaction for all; lines are answered in place. Accounts are locked in the order of their ids.
    Status exchange(std::vector<AccountExchange>& accounts);
    // Gives everything up, in good order: unspent leases are returned by the exchanges before.
    Status leave();
    // Minutes end up of no interest: drops counters of a span that began before.
    Status forget(std::size_t span, std::int64_t before);
    // For pages and tests; an empty account means all.
    Result<std::vector<UsageRow>> usage(const std::string& account, std::size_t span, std::int64_t since);

  private:
    Status answer(const std::string& account, LedgerLine& line);
    Status charge_leases(const std::string& server);

    Database* database_;
    std::string server_;
};

}  // namespace retort::store
