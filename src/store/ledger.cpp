#include "store/ledger.h"

#include <algorithm>

namespace retort::store {

namespace {

// Of what is left, how much a server may lease ahead of need: others want their part.
constexpr std::int64_t lease_share = 8;

Value number(std::size_t value) {
    return static_cast<std::int64_t>(value);
}

}  // namespace

Result<bool> Ledger::heartbeat(std::int64_t now, std::int64_t seconds) {
    bool known = false;
    RETORT_CHECK(database_->transaction([&]() -> Status {
        RETORT_TRY(const auto rows,
                   database_->query("UPDATE servers SET expires = $2 WHERE id = $1 RETURNING id",
                                    {server_, now + seconds}));
        known = !rows.empty();
        if (known) return {};
        return database_->execute("INSERT INTO servers (id, expires) VALUES ($1, $2)",
                                  {server_, now + seconds});
    }));
    return known;
}

// One statement each, so that a counter is never seen without its lease: within the caller's transaction.
Status Ledger::charge_leases(const std::string& server) {
    // The accounts' own locks, in the order everybody takes them.
    RETORT_TRY(const auto held,
               database_->query("SELECT DISTINCT account FROM leases WHERE server = $1", {server}));
    std::vector<std::string> accounts;
    accounts.reserve(held.size());
    for (const Row& row : held) accounts.push_back(row.text(0));
    std::sort(accounts.begin(), accounts.end());
    for (const std::string& account : accounts) {
        RETORT_CHECK(database_->query(
            fmt::format("SELECT id FROM accounts WHERE id = $1{}", database_->lock_rows()), {account}));
        RETORT_TRY(
            const auto leases,
            database_->query("DELETE FROM leases WHERE server = $1 AND account = $2 RETURNING unit, span, "
                             "span_start, amount",
                             {server, account}));
        for (const Row& row : leases) {
            RETORT_CHECK(database_->execute(
                "UPDATE counters SET used = used + $5, leased = leased - $5 WHERE account = $1 AND unit = $2 "
                "AND "
                "span = $3 AND span_start = $4",
                {account, row.integer(0), row.integer(1), row.integer(2), row.integer(3)}));
        }
    }
    return {};
}

Result<int> Ledger::reap(std::int64_t now) {
    int count = 0;
    RETORT_CHECK(database_->transaction([&]() -> Status {
        count = 0;
        RETORT_TRY(const auto dead,
                   database_->query("DELETE FROM servers WHERE expires < $1 AND id <> $2 RETURNING id",
                                    {now, server_}));
        for (const Row& row : dead) {
            RETORT_CHECK(charge_leases(row.text(0)));
            ++count;
        }
        return {};
    }));
    return count;
}

Status Ledger::leave() {
    return database_->transaction([&]() -> Status {
        RETORT_CHECK(database_->execute("DELETE FROM servers WHERE id = $1", {server_}));
        return charge_leases(server_);
    });
}

Status Ledger::answer(const std::string& account, LedgerLine& line) {
    const std::initializer_list<Value> key = {account, number(line.unit), number(line.span), line.start};
    constexpr std::string_view of_key = "account = $1 AND unit = $2 AND span = $3 AND span_start = $4";
    line.granted = 0;
    std::int64_t settled = 0;
    std::int64_t returned = 0;
    if (line.used > 0 || line.give_back > 0) {
        RETORT_TRY(const auto lease,
                   database_->query(fmt::format("SELECT amount FROM leases WHERE {} AND server = $5", of_key),
                                    {account, number(line.unit), number(line.span), line.start, server_}));
        // Less than we think: we were given up, and all of it was charged.
        const std::int64_t amount = lease.empty() ? 0 : lease[0].integer(0);
        settled = std::min(line.used, amount);
        returned = std::min(line.give_back, amount - settled);
    }
    RETORT_TRY(const auto counter,
               database_->query(fmt::format("SELECT used, leased FROM counters WHERE {}", of_key), key));
    const std::int64_t used = (counter.empty() ? 0 : counter[0].integer(0)) + settled + line.used_beyond;
    const std::int64_t leased = (counter.empty() ? 0 : counter[0].integer(1)) - settled - returned;
    if (line.limit != no_limit) {
        line.left = std::max<std::int64_t>(line.limit - used - leased, 0);
        if (line.need <= line.left) {
            line.granted = line.need + std::min(line.ask, line.left - line.need);
            line.granted += std::min(line.want, (line.left - line.granted) / lease_share);
            line.left -= line.granted;
        }
    }
    const std::int64_t lease_change = line.granted - settled - returned;
    if (lease_change != 0) {
        RETORT_CHECK(database_->execute(
            "INSERT INTO leases (account, unit, span, span_start, server, amount) VALUES ($1, $2, $3, $4, "
            "$5, $6) ON "
            "CONFLICT (server, account, unit, span, span_start) DO UPDATE SET amount = leases.amount + $6",
            {account, number(line.unit), number(line.span), line.start, server_, lease_change}));
    }
    if (lease_change == 0 && settled + line.used_beyond == 0) return {};
    return database_->execute(
        "INSERT INTO counters (account, unit, span, span_start, used, leased) VALUES ($1, $2, $3, $4, $5, "
        "$6) ON "
        "CONFLICT (account, unit, span, span_start) DO UPDATE SET used = counters.used + $5, leased = "
        "counters.leased + $6",
        {account, number(line.unit), number(line.span), line.start, settled + line.used_beyond,
         lease_change});
}

Status Ledger::exchange(std::vector<AccountExchange>& accounts) {
    std::sort(accounts.begin(), accounts.end(),
              [](const AccountExchange& a, const AccountExchange& b) { return a.account < b.account; });
    return database_->transaction([&]() -> Status {
        for (AccountExchange& account : accounts) {
            RETORT_CHECK(database_->query(
                fmt::format("SELECT id FROM accounts WHERE id = $1{}", database_->lock_rows()),
                {account.account}));
            for (LedgerLine& line : account.lines) RETORT_CHECK(answer(account.account, line));
        }
        // Emptied leases of spans gone by.
        return database_->execute("DELETE FROM leases WHERE server = $1 AND amount = 0", {server_});
    });
}

Status Ledger::forget(std::size_t span, std::int64_t before) {
    return database_->execute("DELETE FROM counters WHERE span = $1 AND span_start < $2 AND leased = 0",
                              {number(span), before});
}

Result<std::vector<UsageRow>> Ledger::usage(const std::string& account, std::size_t span,
                                            std::int64_t since) {
    RETORT_TRY(const auto rows,
               database_->query(
                   "SELECT account, unit, span, span_start, used, leased FROM counters WHERE (account = $1 "
                   "OR $1 = '') AND span = $2 AND span_start >= $3 ORDER BY account, span_start, unit",
                   {account, number(span), since}));
    std::vector<UsageRow> out;
    for (const Row& row : rows) {
        out.push_back({row.text(0), static_cast<std::size_t>(row.integer(1)),
                       static_cast<std::size_t>(row.integer(2)), row.integer(3), row.integer(4),
                       row.integer(5)});
    }
    return out;
}

}  // namespace retort::store
