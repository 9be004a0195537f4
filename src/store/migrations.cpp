#include "store/backends.h"

namespace retort::store {

namespace {

// Element i brings the schema from version i to i + 1. Never change one that has been released: add another.
// Both databases run the same text: INTEGER of SQLite has 64 bits, and it takes BIGINT for one.
constexpr std::string_view steps[] = {
    R"(
CREATE TABLE plans (
  name TEXT PRIMARY KEY, fields TEXT NOT NULL, revision BIGINT NOT NULL);
CREATE TABLE terms (
  version TEXT PRIMARY KEY, text_sha256 TEXT NOT NULL, created BIGINT NOT NULL, revision BIGINT NOT NULL);
CREATE TABLE accounts (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, plan TEXT NOT NULL REFERENCES plans(name), status TEXT NOT NULL,
  reason TEXT NOT NULL, created BIGINT NOT NULL, revision BIGINT NOT NULL);
CREATE INDEX accounts_revision ON accounts(revision);
CREATE TABLE acceptances (
  account TEXT NOT NULL REFERENCES accounts(id), terms TEXT NOT NULL REFERENCES terms(version),
  accepted_by TEXT NOT NULL, accepted BIGINT NOT NULL, PRIMARY KEY (account, terms));
CREATE TABLE keys (
  id TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts(id), name TEXT NOT NULL, hash TEXT NOT NULL,
  role TEXT NOT NULL, created BIGINT NOT NULL, expires BIGINT NOT NULL, revoked BIGINT NOT NULL,
  revision BIGINT NOT NULL);
CREATE INDEX keys_revision ON keys(revision);
CREATE INDEX keys_account ON keys(account);
CREATE TABLE counters (
  account TEXT NOT NULL, unit BIGINT NOT NULL, span BIGINT NOT NULL, span_start BIGINT NOT NULL,
  used BIGINT NOT NULL, leased BIGINT NOT NULL, PRIMARY KEY (account, unit, span, span_start));
CREATE INDEX counters_start ON counters(span, span_start);
CREATE TABLE servers (id TEXT PRIMARY KEY, expires BIGINT NOT NULL);
CREATE TABLE leases (
  server TEXT NOT NULL, account TEXT NOT NULL, unit BIGINT NOT NULL, span BIGINT NOT NULL,
  span_start BIGINT NOT NULL, amount BIGINT NOT NULL, PRIMARY KEY (server, account, unit, span, span_start));
CREATE TABLE identities (
  account TEXT NOT NULL, kind TEXT NOT NULL, hash TEXT NOT NULL, first_seen BIGINT NOT NULL,
  last_seen BIGINT NOT NULL, PRIMARY KEY (account, kind, hash));
CREATE INDEX identities_seen ON identities(last_seen);
)",
    // What the guard has decided (store/marks.h), and what pays for an account.
    R"(
ALTER TABLE accounts ADD COLUMN payment TEXT NOT NULL DEFAULT '';
CREATE TABLE marks (account TEXT PRIMARY KEY, fields TEXT NOT NULL, revision BIGINT NOT NULL);
CREATE INDEX marks_revision ON marks(revision);
CREATE TABLE guard_trail (
  number BIGINT PRIMARY KEY, time BIGINT NOT NULL, kind TEXT NOT NULL, verdict BIGINT NOT NULL,
  body TEXT NOT NULL, hash TEXT NOT NULL);
CREATE INDEX guard_trail_verdict ON guard_trail(verdict);
)",
    // What pays for an account is forgotten like any other identity: as if seen when the store last saw one.
    R"(
INSERT INTO identities (account, kind, hash, first_seen, last_seen)
  SELECT id, 'payment', payment, created, COALESCE((SELECT MAX(last_seen) FROM identities), created)
  FROM accounts WHERE payment <> '';
)",
};
constexpr std::int64_t program_version = std::size(steps);

}  // namespace

Status migrate(Database& database) {
    // Whoever comes second to an empty database waits here, and finds the table.
    const std::string lock = database.is_shared() ? "SELECT pg_advisory_xact_lock(7216843)" : "SELECT 1";
    return database.transaction([&]() -> Status {
        RETORT_CHECK(database.query(lock, {}));
        RETORT_CHECK(
            database.script("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, number BIGINT NOT NULL, "
                            "text TEXT NOT NULL)"));
        RETORT_TRY(const auto rows, database.query("SELECT number FROM meta WHERE name = 'schema'", {}));
        const std::int64_t version = rows.empty() ? 0 : rows[0].integer(0);
        if (version > program_version) {
            return fail(ErrorCode::unsupported,
                        "its schema is version {}, this program knows {}; use the newer program", version,
                        program_version);
        }
        if (version == program_version) return {};
        for (std::int64_t i = version; i < program_version; ++i) {
            RETORT_CHECK(database.script(std::string(steps[i])));
        }
        return database.execute(
            "INSERT INTO meta (name, number, text) VALUES ('schema', $1, '') ON CONFLICT (name) DO UPDATE "
            "SET "
            "number = $1",
            {program_version});
    });
}

}  // namespace retort::store
