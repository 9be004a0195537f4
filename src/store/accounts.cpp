#include "store/accounts.h"

#include <sodium.h>

#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/clock.h"
#include "base/hash.h"

namespace retort::store {

namespace {

constexpr std::size_t max_name = 200;
constexpr std::int64_t day_seconds = 86'400;
constexpr std::string_view key_columns = "id, account, name, hash, role, created, expires, revoked";
constexpr std::string_view account_columns = "id, name, plan, status, reason, created, payment";

std::int64_t now() {
    return base::unix_milliseconds() / 1000;
}

Status check_name(std::string_view what, std::string_view name) {
    bool printable = !name.empty() && name.size() <= max_name;
    for (const char c : name) printable = printable && static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
    if (printable) return {};
    return fail(ErrorCode::invalid_argument, "{}: a name has 1 to {} bytes, none a control character", what,
                max_name);
}

Account account_of(const Row& row) {
    return {row.text(0), row.text(1), row.text(2), row.text(3), row.text(4), row.integer(5), row.text(6), {}};
}

Result<Key> key_of(const Row& row) {
    Key key{row.text(0), row.text(1),    row.text(2),    {},
            row.text(4), row.integer(5), row.integer(6), row.integer(7)};
    auto hash = parse_hash(row.text(3));
    if (!hash) return fail_from(hash.error(), "key " + key.id);
    key.hash = *hash;
    return key;
}

Result<Plan> plan_of(const Row& row) {
    const auto json = nlohmann::json::parse(row.text(1), nullptr, false);
    auto plan = plan_from_json(json, Plan{});
    if (!plan) return fail_from(plan.error(), "plan " + row.text(0));
    return plan;
}

Status not_found(std::string_view what, std::string_view name) {
    return fail(ErrorCode::invalid_argument, "there is no {} '{}'; `retort keys {} list` lists them", what,
                name, what == "key" ? "key" : what);
}

std::int64_t days_from_civil(std::int64_t year, unsigned month) {
    // Days from 1970-01-01 to the first of the month, proleptic Gregorian (H. Hinnant, chrono algorithms).
    year -= month <= 2 ? 1 : 0;
    const std::int64_t era = year / 400;
    const std::int64_t year_of_era = year - era * 400;
    const std::int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5;
    return era * 146'097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719'468;
}

std::int64_t month_start(std::int64_t seconds, int later) {
    const auto time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    gmtime_r(&time, &parts);
    const int months = parts.tm_mon + later;
    return days_from_civil(parts.tm_year + 1900 + months / 12, static_cast<unsigned>(months % 12 + 1)) *
           day_seconds;
}

}  // namespace

std::int64_t span_start(std::size_t span, std::int64_t seconds) {
    if (span == 0) return seconds - seconds % 60;
    if (span == 1) return seconds - seconds % day_seconds;
    return month_start(seconds, 0);
}

std::int64_t span_end(std::size_t span, std::int64_t seconds) {
    if (span == 0) return span_start(0, seconds) + 60;
    if (span == 1) return span_start(1, seconds) + day_seconds;
    return month_start(seconds, 1);
}

Result<Accounts> Accounts::open(Database& database, const Secret& secret) {
    const std::string check = secret.short_hash("check", "retort store");
    RETORT_CHECK(database.execute(
        "INSERT INTO meta (name, number, text) VALUES ('secret', 0, $1) ON CONFLICT (name) DO NOTHING",
        {check}));
    RETORT_CHECK(database.execute(
        "INSERT INTO meta (name, number, text) VALUES ('revision', 0, '') ON CONFLICT (name) DO NOTHING",
        {}));
    RETORT_TRY(const auto rows, database.query("SELECT text FROM meta WHERE name = 'secret'", {}));
    if (rows.empty() || rows[0].text(0) != check) {
        return fail(ErrorCode::invalid_argument,
                    "the store was made with another secret; give the file that belongs to it "
                    "(--store-secret), or its keys cannot be told");
    }
    return Accounts(database, secret);
}

Result<std::int64_t> Accounts::revision() {
    RETORT_TRY(const auto rows, database_->query("SELECT number FROM meta WHERE name = 'revision'", {}));
    return rows.empty() ? 0 : rows[0].integer(0);
}

// The row lock on the counter keeps revisions in the order of their commits.
Status Accounts::change(const std::function<Status(std::int64_t)>& work) {
    return database_->transaction([&]() -> Status {
        RETORT_TRY(const auto rows,
                   database_->query(
                       "UPDATE meta SET number = number + 1 WHERE name = 'revision' RETURNING number", {}));
        return work(rows.at(0).integer(0));
    });
}

Result<Changes> Accounts::changes_since(std::int64_t revision) {
    Changes out;
    // The revision first: what is committed between the reads is read twice, not missed.
    RETORT_TRY(out.revision, this->revision());
    RETORT_TRY(const auto plans,
               database_->query("SELECT name, fields FROM plans WHERE revision > $1", {revision}));
    for (const Row& row : plans) {
        RETORT_TRY(Plan plan, plan_of(row));
        out.plans.push_back(std::move(plan));
    }
    RETORT_TRY(const auto terms,
               database_->query(
                   "SELECT version, text_sha256, created FROM terms WHERE revision > $1 ORDER BY revision",
                   {revision}));
    for (const Row& row : terms) out.terms.push_back({row.text(0), row.text(1), row.integer(2)});
    RETORT_TRY(const auto accounts,
               database_->query(
                   fmt::format("SELECT {} FROM accounts WHERE revision > $1 ORDER BY id", account_columns),
                   {revision}));
    for (const Row& row : accounts) out.accounts.push_back(account_of(row));
    RETORT_TRY(const auto accepted,
               database_->query(
                   "SELECT c.account, c.terms, c.accepted_by, c.accepted FROM acceptances c JOIN accounts "
                   "a ON a.id = c.account WHERE a.revision > $1 ORDER BY c.account, c.accepted",
                   {revision}));
    std::unordered_map<std::string, Account*> by_id;
    for (Account& account : out.accounts) by_id.emplace(account.id, &account);
    for (const Row& row : accepted) {
        // An account committed since the read above comes with the next changes.
        const auto found = by_id.find(row.text(0));
        if (found == by_id.end()) continue;
        found->second->acceptances.push_back({row.text(1), row.text(2), row.integer(3)});
    }
    RETORT_TRY(
        const auto keys,
        database_->query(fmt::format("SELECT {} FROM keys WHERE revision > $1", key_columns), {revision}));
    for (const Row& row : keys) {
        RETORT_TRY(Key key, key_of(row));
        out.keys.push_back(std::move(key));
    }
    RETORT_TRY(out.marks, Marks(*database_, *secret_).marks(revision));
    return out;
}

Status Accounts::set_plan(const Plan& plan) {
    RETORT_CHECK(check_name("plan", plan.name));
    return change([&](std::int64_t revision) {
        return database_->execute(
            "INSERT INTO plans (name, fields, revision) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET "
            "fields = $2, revision = $3",
            {plan.name, to_json(plan).dump(), revision});
    });
}

Status Accounts::publish_terms(const std::string& version, const std::string& text) {
    RETORT_CHECK(check_name("terms", version));
    return change([&](std::int64_t revision) -> Status {
        RETORT_TRY(const auto made,
                   database_->query(
                       "INSERT INTO terms (version, text_sha256, created, revision) VALUES ($1, $2, $3, $4) "
                       "ON CONFLICT (version) DO NOTHING RETURNING version",
                       {version, base::sha256_hex(text), now(), revision}));
        if (!made.empty()) return {};
        return fail(
            ErrorCode::invalid_argument,
            "terms '{}' are published already, and accounts may have accepted them; choose another version",
            version);
    });
}

Result<Account> Accounts::create_account(const std::string& name, const std::string& plan) {
    RETORT_CHECK(check_name("account", name));
    Account account{random_name("acct_"), name, plan, "active", "", now(), "", {}};
    RETORT_CHECK(change([&](std::int64_t revision) -> Status {
        RETORT_TRY(const auto known, database_->query("SELECT name FROM plans WHERE name = $1", {plan}));
        if (known.empty()) return not_found("plan", plan);
        return database_->execute(
            "INSERT INTO accounts (id, name, plan, status, reason, created, revision) VALUES ($1, $2, $3, "
            "'active', "
            "'', $4, $5)",
            {account.id, name, plan, account.created, revision});
    }));
    return account;
}

Status Accounts::set_account_plan(const std::string& account, const std::string& plan) {
    return change([&](std::int64_t revision) -> Status {
        RETORT_TRY(const auto known, database_->query("SELECT name FROM plans WHERE name = $1", {plan}));
        if (known.empty()) return not_found("plan", plan);
        RETORT_TRY(const auto rows,
                   database_->query("UPDATE accounts SET plan = $2, revision = $3 WHERE id = $1 RETURNING id",
                                    {account, plan, revision}));
        return rows.empty() ? not_found("account", account) : Status();
    });
}

Status Accounts::set_payment(const std::string& account, const std::string& reference) {
    const std::string hash = reference.empty() ? "" : secret_->short_hash("payment", reference);
    return change([&](std::int64_t revision) -> Status {
        RETORT_TRY(
            const auto rows,
            database_->query("UPDATE accounts SET payment = $2, revision = $3 WHERE id = $1 RETURNING id",
                             {account, hash, revision}));
        if (rows.empty()) return not_found("account", account);
        RETORT_CHECK(
            database_->execute("DELETE FROM identities WHERE account = $1 AND kind = 'payment'", {account}));
        return hash.empty() ? Status() : saw_identity(account, "payment", hash, now());
    });
}

Status Accounts::suspend(const std::string& account, const std::string& reason) {
    return change([&](std::int64_t revision) -> Status {
        RETORT_TRY(const auto rows,
                   database_->query(
                       "UPDATE accounts SET status = 'suspended', reason = $2, revision = $3 WHERE id = $1 "
                       "RETURNING id",
                       {account, reason, revision}));
        return rows.empty() ? not_found("account", account) : Status();
    });
}

Status Accounts::resume(const std::string& account) {
    return change([&](std::int64_t revision) -> Status {
        RETORT_TRY(const auto rows,
                   database_->query(
                       "UPDATE accounts SET status = 'active', reason = '', revision = $2 WHERE id = $1 "
                       "RETURNING id",
                       {account, revision}));
        return rows.empty() ? not_found("account", account) : Status();
    });
}

Status Accounts::accept_terms(const std::string& account, const std::string& version, const std::string& by) {
    RETORT_CHECK(check_name("--by", by));
    return change([&](std::int64_t revision) -> Status {
        RETORT_TRY(const auto known,
                   database_->query("SELECT version FROM terms WHERE version = $1", {version}));
        if (known.empty()) return not_found("terms", version);
        RETORT_TRY(const auto rows,
                   database_->query("UPDATE accounts SET revision = $2 WHERE id = $1 RETURNING id",
                                    {account, revision}));
        if (rows.empty()) return not_found("account", account);
        return database_->execute(
            "INSERT INTO acceptances (account, terms, accepted_by, accepted) VALUES ($1, $2, $3, $4) ON "
            "CONFLICT "
            "(account, terms) DO NOTHING",
            {account, version, by, now()});
    });
}

Result<NewKey> Accounts::insert_key(const Key& like, std::int64_t revision) {
    NewKey made = make_key();
    RETORT_CHECK(
        database_->execute("INSERT INTO keys (id, account, name, hash, role, created, expires, revoked, "
                           "revision) VALUES ($1, $2, $3, "
                           "$4, $5, $6, $7, 0, $8)",
                           {made.id, like.account, like.name, hash_text(secret_->hash("key", made.text)),
                            like.role, now(), like.expires, revision}));
    return made;
}

Result<NewKey> Accounts::create_key(const std::string& account, const std::string& name,
                                    const std::string& role, std::int64_t days) {
    RETORT_CHECK(check_name("key", name));
    if (role != "user" && role != "admin") {
        return fail(ErrorCode::invalid_argument, "role: '{}' is neither user nor admin", role);
    }
    NewKey made;
    RETORT_CHECK(change([&](std::int64_t revision) -> Status {
        RETORT_TRY(const auto known, database_->query("SELECT id FROM accounts WHERE id = $1", {account}));
        if (known.empty()) return not_found("account", account);
        Key key;
        key.account = account;
        key.name = name;
        key.role = role;
        key.expires = days > 0 ? now() + days * day_seconds : 0;
        RETORT_TRY(made, insert_key(key, revision));
        return {};
    }));
    return made;
}

Status Accounts::set_revoked(const std::string& id, std::int64_t when) {
    return change([&](std::int64_t revision) -> Status {
        RETORT_TRY(const auto rows,
                   database_->query("UPDATE keys SET revoked = $2, revision = $3 WHERE id = $1 RETURNING id",
                                    {id, when, revision}));
        return rows.empty() ? not_found("key", id) : Status();
    });
}

Status Accounts::revoke_key(const std::string& id) {
    return set_revoked(id, now());
}

Result<NewKey> Accounts::rotate_key(const std::string& id, std::int64_t grace_seconds) {
    NewKey made;
    RETORT_CHECK(change([&](std::int64_t revision) -> Status {
        RETORT_TRY(const auto rows, database_->query(fmt::format("SELECT {} FROM keys WHERE id = $1{}",
                                                                 key_columns, database_->lock_rows()),
                                                     {id}));
        if (rows.empty()) return not_found("key", id);
        RETORT_TRY(const Key old, key_of(rows[0]));
        if (old.revoked != 0) {
            return fail(ErrorCode::invalid_argument, "key '{}' is revoked or rotated already; make a new one",
                        id);
        }
        RETORT_CHECK(database_->execute("UPDATE keys SET revoked = $2, revision = $3 WHERE id = $1",
                                        {id, now() + grace_seconds, revision}));
        RETORT_TRY(made, insert_key(old, revision));
        return {};
    }));
    return made;
}

Result<std::vector<Account>> Accounts::accounts() {
    RETORT_TRY(Changes all, changes_since(-1));
    return std::move(all.accounts);
}

Result<std::vector<Key>> Accounts::keys(const std::string& account) {
    RETORT_TRY(
        const auto rows,
        database_->query(fmt::format("SELECT {} FROM keys WHERE account = $1 OR $1 = '' ORDER BY created, id",
                                     key_columns),
                         {account}));
    std::vector<Key> out;
    for (const Row& row : rows) {
        RETORT_TRY(Key key, key_of(row));
        out.push_back(std::move(key));
    }
    return out;
}

Result<std::vector<Plan>> Accounts::plans() {
    RETORT_TRY(Changes all, changes_since(-1));
    return std::move(all.plans);
}

Result<std::vector<Terms>> Accounts::terms() {
    RETORT_TRY(Changes all, changes_since(-1));
    return std::move(all.terms);
}

Status Accounts::saw_identity(const std::string& account, const std::string& kind, const std::string& hash,
                              std::int64_t when) {
    return database_->execute(
        "INSERT INTO identities (account, kind, hash, first_seen, last_seen) VALUES ($1, $2, $3, $4, $4) ON "
        "CONFLICT "
        "(account, kind, hash) DO UPDATE SET last_seen = $4",
        {account, kind, hash, when});
}

Status Accounts::forget_identities(std::int64_t before) {
    RETORT_CHECK(database_->execute("DELETE FROM identities WHERE last_seen < $1", {before}));
    const std::string unseen =
        "payment <> '' AND NOT EXISTS (SELECT 1 FROM identities i WHERE i.account = accounts.id AND i.kind = "
        "'payment')";
    RETORT_TRY(const auto rows, database_->query("SELECT id FROM accounts WHERE " + unseen + " LIMIT 1", {}));
    if (rows.empty()) return {};
    return change([&](std::int64_t revision) {
        return database_->execute("UPDATE accounts SET payment = '', revision = $1 WHERE " + unseen,
                                  {revision});
    });
}

}  // namespace retort::store
