#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/file.h"
#include "postgres_server.h"
#include "store/accounts.h"
#include "store/database.h"
#include "store/ledger.h"

namespace retort::store {
namespace {

constexpr std::string_view secret_digits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
constexpr std::int64_t some_time = 1'700'000'000;

// The same tests on both databases.
class StoreTest : public ::testing::TestWithParam<std::string> {
  protected:
    static test::PostgresServer& postgres() {
        static test::PostgresServer server;
        return server;
    }

    void SetUp() override {
        if (GetParam() == "postgres") {
            if (!postgres().installed()) GTEST_SKIP() << "Debian's postgresql is not installed";
            ASSERT_TRUE(postgres().running());
            location_ = postgres().url();
            auto fresh = open_database(location_);
            ASSERT_TRUE(fresh) << fresh.error().message;
            ASSERT_TRUE((*fresh)->script("DROP SCHEMA public CASCADE; CREATE SCHEMA public"));
        } else {
            std::string pattern = "/tmp/retort-store-XXXXXX";
            folder_ = mkdtemp(pattern.data());
            location_ = (folder_ / "store.db").string();
        }
        database_ = open();
        auto accounts = Accounts::open(*database_, secret_);
        ASSERT_TRUE(accounts) << accounts.error().message;
        accounts_ = std::make_unique<Accounts>(std::move(*accounts));
    }
    void TearDown() override {
        accounts_.reset();
        database_.reset();
        std::error_code ignored;
        if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
    }

    std::unique_ptr<Database> open() {
        auto database = open_database(location_);
        if (!database) throw std::runtime_error(database.error().message);
        return std::move(*database);
    }

    std::string make_account() {
        Plan plan;
        plan.name = "basic";
        EXPECT_TRUE(accounts_->set_plan(plan));
        auto account = accounts_->create_account("somebody", "basic");
        EXPECT_TRUE(account) << account.error().message;
        return account ? account->id : "";
    }

    static std::int64_t lease(Ledger& ledger, const std::string& account, std::int64_t need,
                              std::int64_t limit, std::int64_t want = 0) {
        LedgerLine line{};
        line.start = some_time;
        line.need = need;
        line.want = want;
        line.limit = limit;
        std::vector<AccountExchange> all = {{account, {line}}};
        EXPECT_TRUE(ledger.exchange(all));
        return all[0].lines[0].granted;
    }
    static UsageRow counter(Ledger& ledger, const std::string& account) {
        const auto rows = ledger.usage(account, 0, 0);
        EXPECT_TRUE(rows);
        return rows && !rows->empty() ? (*rows)[0] : UsageRow{};
    }

    Secret secret_ = *Secret::from_hex(secret_digits);
    std::filesystem::path folder_;
    std::string location_;
    std::unique_ptr<Database> database_;
    std::unique_ptr<Accounts> accounts_;
};

TEST_P(StoreTest, ValuesComeBackAsTheyWent) {
    ASSERT_TRUE(database_->script("CREATE TABLE t (n BIGINT, s TEXT)"));
    const std::string text = "'; DROP TABLE t; -- \u00e9\n";
    ASSERT_TRUE(database_->execute("INSERT INTO t (n, s) VALUES ($1, $2)", {std::int64_t{INT64_MIN}, text}));
    ASSERT_TRUE(database_->execute("INSERT INTO t (n, s) VALUES ($1, $2)", {Value(), Value()}));
    const auto rows = database_->query("SELECT n, s FROM t ORDER BY s IS NULL", {});
    ASSERT_TRUE(rows) << rows.error().message;
    ASSERT_EQ(rows->size(), 2U);
    EXPECT_EQ((*rows)[0].integer(0), INT64_MIN);
    EXPECT_EQ((*rows)[0].text(1), text);
    EXPECT_TRUE((*rows)[1].is_null(0) && (*rows)[1].is_null(1));
    EXPECT_FALSE(database_->query("SELECT nothing FROM nowhere", {}));
}

TEST_P(StoreTest, AnErrorUndoesItsTransaction) {
    ASSERT_TRUE(database_->script("CREATE TABLE t (n BIGINT)"));
    const Status failed = database_->transaction([&]() -> Status {
        RETORT_CHECK(database_->execute("INSERT INTO t (n) VALUES ($1)", {std::int64_t{1}}));
        return fail(ErrorCode::internal, "no");
    });
    EXPECT_FALSE(failed);
    EXPECT_TRUE(database_->query("SELECT n FROM t", {})->empty());
}

TEST_P(StoreTest, TheSchemaOfANewerProgramIsRefused) {
    ASSERT_TRUE(open_database(location_));  // a second time: nothing to do
    const auto known = database_->query("SELECT number FROM meta WHERE name = 'schema'", {});
    ASSERT_TRUE(known);
    const std::int64_t version = (*known)[0].integer(0);
    ASSERT_TRUE(database_->execute("UPDATE meta SET number = 999 WHERE name = 'schema'", {}));
    const auto newer = open_database(location_);
    ASSERT_FALSE(newer);
    EXPECT_NE(newer.error().message.find("999"), std::string::npos);
    ASSERT_TRUE(database_->execute("UPDATE meta SET number = $1 WHERE name = 'schema'", {version}));
}

TEST_P(StoreTest, AnotherSecretIsNoticed) {
    const Secret other = *Secret::from_hex(std::string(64, '7'));
    const auto opened = Accounts::open(*database_, other);
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().message.find("another secret"), std::string::npos);
}

TEST_P(StoreTest, AnAccountItsTermsAndItsKeys) {
    const std::string id = make_account();
    ASSERT_TRUE(accounts_->publish_terms("2026-11", "be good"));
    EXPECT_FALSE(accounts_->publish_terms("2026-11", "be better"));
    ASSERT_TRUE(accounts_->accept_terms(id, "2026-11", "a person"));
    ASSERT_TRUE(accounts_->accept_terms(id, "2026-11", "another"));
    EXPECT_FALSE(accounts_->accept_terms(id, "2025-01", "a person"));
    EXPECT_FALSE(accounts_->accept_terms("acct_0", "2026-11", "a person"));
    const auto all = accounts_->accounts();
    ASSERT_TRUE(all) << all.error().message;
    ASSERT_EQ(all->size(), 1U);
    ASSERT_EQ((*all)[0].acceptances.size(), 1U);
    EXPECT_EQ((*all)[0].acceptances[0].accepted_by, "a person");

    const auto key = accounts_->create_key(id, "laptop", "user", 0);
    ASSERT_TRUE(key) << key.error().message;
    EXPECT_EQ(key_id(key->text), key->id);
    auto keys = accounts_->keys(id);
    ASSERT_EQ(keys->size(), 1U);
    EXPECT_TRUE(is_same_hash((*keys)[0].hash, secret_.hash("key", key->text)));
    // What is stored is not the key.
    const auto rows = database_->query("SELECT hash FROM keys", {});
    EXPECT_EQ((*rows)[0].text(0).find(key->text.substr(20)), std::string::npos);

    const auto rotated = accounts_->rotate_key(key->id, 60);
    ASSERT_TRUE(rotated) << rotated.error().message;
    EXPECT_NE(rotated->id, key->id);
    EXPECT_FALSE(accounts_->rotate_key(key->id, 60));
    ASSERT_TRUE(accounts_->revoke_key(rotated->id));
    EXPECT_FALSE(accounts_->revoke_key("0123456789abcdef"));
    keys = accounts_->keys(id);
    ASSERT_EQ(keys->size(), 2U);
    for (const Key& each : *keys) EXPECT_GT(each.revoked, 0);
    EXPECT_FALSE(accounts_->create_account("x", "no such plan"));
    EXPECT_FALSE(accounts_->create_account("line\nbreak", "basic"));
    EXPECT_FALSE(accounts_->create_key(id, "k", "root", 0));
}

TEST_P(StoreTest, ChangesAreOnlyWhatIsNew) {
    const std::string id = make_account();
    const auto first = accounts_->changes_since(0);
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_EQ(first->plans.size(), 1U);
    EXPECT_EQ(first->accounts.size(), 1U);
    auto second = accounts_->changes_since(first->revision);
    EXPECT_EQ(second->revision, first->revision);
    EXPECT_TRUE(second->accounts.empty() && second->plans.empty() && second->keys.empty());
    ASSERT_TRUE(accounts_->suspend(id, "an appeal is open"));
    second = accounts_->changes_since(first->revision);
    EXPECT_GT(second->revision, first->revision);
    ASSERT_EQ(second->accounts.size(), 1U);
    EXPECT_EQ(second->accounts[0].status, "suspended");
    EXPECT_TRUE(second->plans.empty());
}

TEST_P(StoreTest, LeasesNeverExceedTheLimitAndComeBack) {
    const std::string account = make_account();
    Ledger one(*database_, "one");
    const auto connection = open();
    Ledger two(*connection, "two");
    ASSERT_TRUE(one.heartbeat(some_time, 10));
    ASSERT_TRUE(two.heartbeat(some_time, 10));
    EXPECT_EQ(lease(one, account, 60, 100), 60);
    EXPECT_EQ(lease(two, account, 41, 100), 0);  // all or nothing
    EXPECT_EQ(lease(two, account, 40, 100), 40);
    EXPECT_EQ(lease(one, account, 1, 100), 0);
    // One uses 10 of its 60 and returns 50; 7 more were used than reserved.
    LedgerLine line{};
    line.start = some_time;
    line.used = 10;
    line.used_beyond = 7;
    line.give_back = 50;
    line.limit = 100;
    std::vector<AccountExchange> settle = {{account, {line}}};
    ASSERT_TRUE(one.exchange(settle));
    EXPECT_EQ(settle[0].lines[0].left, 43);
    const UsageRow row = counter(one, account);
    EXPECT_EQ(row.used, 17);
    EXPECT_EQ(row.leased, 40);
    // Ahead of need only a share of what is left.
    EXPECT_EQ(lease(two, account, 3, 100, 1000), 3 + 40 / 8);
}

TEST_P(StoreTest, ADeadServersLeasesCountAsUsed) {
    const std::string account = make_account();
    Ledger dead(*database_, "dead");
    const auto connection = open();
    Ledger living(*connection, "living");
    ASSERT_TRUE(dead.heartbeat(some_time, 5));
    ASSERT_TRUE(living.heartbeat(some_time, 50));
    EXPECT_EQ(lease(dead, account, 30, 100), 30);
    EXPECT_EQ(*living.reap(some_time + 4), 0);
    EXPECT_EQ(*living.reap(some_time + 6), 1);
    UsageRow row = counter(living, account);
    EXPECT_EQ(row.used, 30);
    EXPECT_EQ(row.leased, 0);
    // It was only slow: it learns of it, and what it then settles was charged already.
    LedgerLine line{};
    line.start = some_time;
    line.used = 20;
    line.give_back = 10;
    std::vector<AccountExchange> late = {{account, {line}}};
    ASSERT_TRUE(dead.exchange(late));
    row = counter(living, account);
    EXPECT_EQ(row.used, 30);
    EXPECT_EQ(row.leased, 0);
    EXPECT_FALSE(*dead.heartbeat(some_time + 7, 5));
    EXPECT_TRUE(*dead.heartbeat(some_time + 8, 5));
    EXPECT_EQ(lease(dead, account, 30, 100), 30);
    ASSERT_TRUE(dead.leave());
    EXPECT_EQ(counter(living, account).used, 60);
}

TEST_P(StoreTest, ServersThatRaceShareOneBudget) {
    const std::string account = make_account();
    constexpr std::int64_t limit = 100;
    std::atomic<std::int64_t> granted{0};
    std::vector<std::thread> threads;
    for (int server = 0; server < 4; ++server) {
        threads.emplace_back([&, server] {
            const auto connection = open();
            Ledger ledger(*connection, "server" + std::to_string(server));
            for (int i = 0; i < 15; ++i) granted += lease(ledger, account, 3, limit);
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(granted.load(), 99);
    Ledger reader(*database_, "reader");
    EXPECT_EQ(counter(reader, account).leased, 99);
}

TEST_P(StoreTest, IdentitiesAreForgottenInTime) {
    const std::string account = make_account();
    const std::string hash = secret_.short_hash("address", "192.0.2.1");
    ASSERT_TRUE(accounts_->saw_identity(account, "address", hash, some_time));
    ASSERT_TRUE(accounts_->saw_identity(account, "address", hash, some_time + 50));
    ASSERT_TRUE(accounts_->forget_identities(some_time + 50));
    const auto count = [&] { return database_->query("SELECT hash FROM identities", {})->size(); };
    EXPECT_EQ(count(), 1U);
    ASSERT_TRUE(accounts_->forget_identities(some_time + 51));
    EXPECT_EQ(count(), 0U);
}

TEST_P(StoreTest, APaymentIsForgottenLikeAnyIdentity) {
    const std::string id = make_account();
    const auto payment = [&] { return accounts_->accounts()->at(0).payment; };
    ASSERT_TRUE(accounts_->set_payment(id, "customer 4711"));
    const std::string hash = payment();
    EXPECT_EQ(hash, secret_.short_hash("payment", "customer 4711"));
    ASSERT_TRUE(accounts_->saw_identity(id, "payment", hash, some_time));
    ASSERT_TRUE(accounts_->forget_identities(some_time));
    EXPECT_EQ(payment(), hash);
    const std::int64_t before = *accounts_->revision();
    ASSERT_TRUE(accounts_->forget_identities(some_time + 1));
    EXPECT_EQ(payment(), "");
    // Servers learn of it.
    const auto changes = accounts_->changes_since(before);
    ASSERT_EQ(changes->accounts.size(), 1U);
    EXPECT_EQ(changes->accounts[0].payment, "");
    // A store of an older program has payments that nobody has seen: they are as old as what it saw last.
    ASSERT_TRUE(accounts_->set_payment(id, "customer 4711"));
    ASSERT_TRUE(database_->execute("DELETE FROM identities", {}));
    ASSERT_TRUE(accounts_->saw_identity(id, "address", hash, some_time + 70));
    ASSERT_TRUE(database_->execute("UPDATE meta SET number = 2 WHERE name = 'schema'", {}));
    ASSERT_TRUE(open_database(location_));
    const auto rows = database_->query("SELECT last_seen FROM identities WHERE kind = 'payment'", {});
    ASSERT_EQ(rows->size(), 1U);
    EXPECT_EQ((*rows)[0].integer(0), some_time + 70);
    ASSERT_TRUE(accounts_->set_payment(id, ""));
    EXPECT_TRUE(database_->query("SELECT hash FROM identities WHERE kind = 'payment'", {})->empty());
}

TEST_P(StoreTest, MarksComeWithTheChangesAndLeaveATrail) {
    const std::string id = make_account();
    Marks marks(*database_, secret_);
    const std::int64_t before = accounts_->changes_since(-1)->revision;
    EXPECT_EQ(*marks.mark(id), Mark{});
    EXPECT_EQ(*marks.last_verdict(), -1);
    Mark mark;
    mark.level = "throttle";
    mark.requests_per_minute = 6;
    mark.no_logprobs = mark.watermark = true;
    mark.twins = 8;
    mark.reasoning = "withheld";
    mark.reason = "\u00e9 \"one template\"";
    ASSERT_TRUE(marks.change({0, some_time, "verdict", 41, R"({"a":1})", ""}, {{id, mark}}));
    const auto changes = accounts_->changes_since(before);
    ASSERT_TRUE(changes);
    ASSERT_EQ(changes->marks.size(), 1U);
    EXPECT_EQ(changes->marks[0].account, id);
    EXPECT_EQ(changes->marks[0].mark, mark);
    EXPECT_EQ(*marks.last_verdict(), 41);
    EXPECT_TRUE(accounts_->changes_since(changes->revision)->marks.empty());
}

TEST_P(StoreTest, ATrailThatWasTouchedIsNoticed) {
    const std::string id = make_account();
    Marks marks(*database_, secret_);
    for (std::int64_t i = 0; i < 5; ++i)
        ASSERT_TRUE(marks.change({0, some_time + i, "verdict", i, "{}", ""}, {}));
    const auto head = marks.verify({});
    ASSERT_TRUE(head) << head.error().message;
    EXPECT_EQ(head->entries, 5);
    ASSERT_TRUE(marks.verify(*head));
    const auto noticed = [&](const std::string& change, const std::string& undo, std::string_view why) {
        ASSERT_TRUE(database_->script(change)) << change;
        const auto found = marks.verify(*head);
        ASSERT_FALSE(found) << change;
        EXPECT_NE(found.error().message.find(why), std::string::npos) << found.error().message;
        ASSERT_TRUE(database_->script(undo));
    };
    noticed("UPDATE guard_trail SET body = '{\"x\":1}' WHERE number = 2",
            "UPDATE guard_trail SET body = '{}' WHERE number = 2", "entry 2");
    noticed("UPDATE guard_trail SET time = time + 1 WHERE number = 0",
            "UPDATE guard_trail SET time = time - 1 WHERE number = 0", "entry 0");
    noticed("UPDATE guard_trail SET kind = 'allow' WHERE number = 4",
            "UPDATE guard_trail SET kind = 'verdict' WHERE number = 4", "entry 4");
    noticed("UPDATE guard_trail SET number = 9 WHERE number = 3",
            "UPDATE guard_trail SET number = 3 WHERE number = 9", "no entry 3");
    // With the secret the chain could be written anew; without it, entries can only be cut off the end, which
    // the noted head shows.
    const auto last = marks.trail(4, 1);
    ASSERT_TRUE(database_->script("DELETE FROM guard_trail WHERE number = 4"));
    EXPECT_TRUE(marks.verify({}));
    EXPECT_FALSE(marks.verify(*head));
    ASSERT_TRUE(marks.change({0, some_time, "clear", -1, "{}", ""}, {}));
    EXPECT_FALSE(marks.verify(*head));
}

INSTANTIATE_TEST_SUITE_P(Both, StoreTest, ::testing::Values("sqlite", "postgres"),
                         [](const auto& each) { return each.param; });

TEST(Sqlite, ABackupIsAWholeStoreWhileOthersWrite) {
    std::string pattern = "/tmp/retort-store-XXXXXX";
    const std::filesystem::path folder = mkdtemp(pattern.data());
    const auto database = open_database((folder / "a.db").string());
    ASSERT_TRUE(database) << database.error().message;
    ASSERT_TRUE((*database)->script("CREATE TABLE t (n BIGINT)"));
    std::atomic<bool> stop{false};
    std::thread writer([&] {
        const auto other = open_database((folder / "a.db").string());
        for (std::int64_t i = 0; !stop; ++i) {
            (void)(*other)->transaction([&]() -> Status {
                RETORT_CHECK((*other)->execute("INSERT INTO t (n) VALUES ($1)", {i}));
                return (*other)->execute("INSERT INTO t (n) VALUES ($1)", {i});
            });
        }
    });
    const Status copied = (*database)->backup(folder / "b.db");
    stop = true;
    writer.join();
    ASSERT_TRUE(copied) << copied.error().message;
    const auto copy = open_database((folder / "b.db").string());
    ASSERT_TRUE(copy) << copy.error().message;
    // Both rows of a transaction, or none.
    EXPECT_EQ((*copy)->query("SELECT COUNT(*) FROM t", {})->at(0).integer(0) % 2, 0);
    EXPECT_FALSE(std::filesystem::exists(folder / "b.db.partial"));
    std::filesystem::remove_all(folder);
}

TEST(Sqlite, WhatIsNoStoreIsNamed) {
    std::string pattern = "/tmp/retort-store-XXXXXX";
    const std::filesystem::path folder = mkdtemp(pattern.data());
    ASSERT_TRUE(base::write_file_atomic(folder / "x.db", std::string(5000, 'x')));
    const auto opened = open_database((folder / "x.db").string());
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().message.find("x.db"), std::string::npos) << opened.error().message;
    EXPECT_FALSE(open_database("postgres:///nothing?host=/nonexistent"));
    std::filesystem::remove_all(folder);
}

TEST(Locations, APasswordIsNotShown) {
    EXPECT_EQ(shown_location("postgres://u:secret@h/d"), "postgres://u:…@h/d");
    EXPECT_EQ(shown_location("postgres://u@h:5432/d"), "postgres://u@h:5432/d");
    EXPECT_EQ(shown_location("postgres://h/d?password=secret&x=1"), "postgres://h/d?password=…&x=1");
    EXPECT_EQ(shown_location("a:b@c.db"), "a:b@c.db");
}

TEST(Spans, BeginAndEndWithTheCalendar) {
    constexpr std::int64_t time = 1'709'210'096;  // 2024-02-29T12:34:56Z
    EXPECT_EQ(span_start(0, time), 1'709'210'040);
    EXPECT_EQ(span_end(0, time), 1'709'210'100);
    EXPECT_EQ(span_start(1, time), 1'709'164'800);
    EXPECT_EQ(span_end(1, time), 1'709'251'200);
    EXPECT_EQ(span_start(2, time), 1'706'745'600);    // 2024-02-01
    EXPECT_EQ(span_end(2, time), 1'709'251'200);      // 2024-03-01
    constexpr std::int64_t december = 1'735'600'000;  // 2024-12-30
    EXPECT_EQ(span_end(2, december), 1'735'689'600);  // 2025-01-01
}

TEST(Secrets, AreMadeOnceAndKeptFromOthers) {
    std::string pattern = "/tmp/retort-store-XXXXXX";
    const std::filesystem::path folder = mkdtemp(pattern.data());
    const auto made = Secret::load_or_create(folder / "s");
    ASSERT_TRUE(made) << made.error().message;
    const auto again = Secret::load_or_create(folder / "s");
    ASSERT_TRUE(again);
    EXPECT_EQ(made->short_hash("a", "b"), again->short_hash("a", "b"));
    EXPECT_NE(made->short_hash("a", "b"), made->short_hash("ab", ""));
    std::filesystem::permissions(folder / "s", std::filesystem::perms(0644));
    EXPECT_FALSE(Secret::load_or_create(folder / "s"));
    std::filesystem::remove_all(folder);
}

TEST(Plans, ReadBackAsWritten) {
    Plan plan;
    plan.name = "research";
    plan.models = {"a", "b"};
    plan.limits[1][2] = 12;
    const auto back = plan_from_json(nlohmann::json::parse(to_json(plan).dump()), Plan{});
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(to_json(*back), to_json(plan));
    for (const char* bad : {R"({"colour":1})", R"({"limits":{"tokens_per_year":1}})", R"({"logprobs":"yes"})",
                            R"({"reasoning":"some"})", R"({"limits":{"tokens_per_day":-1}})", "[]"}) {
        EXPECT_FALSE(plan_from_json(nlohmann::json::parse(bad), Plan{})) << bad;
    }
}

}  // namespace
}  // namespace retort::store
