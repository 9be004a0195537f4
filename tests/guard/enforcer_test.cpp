// Policies, and verdicts carried out on accounts of a real store.
#include "guard/enforcer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

namespace retort::guard {
namespace {

constexpr std::string_view policy_text = R"(
dry_run = false
exempt_plans = ["licensed"]
[review]
review = true
[throttle]
review = true
requests_per_minute = 6
logprobs = false
reasoning = "withheld"
watermark = true
twins = 4
[suspend]
suspend = true
watermark = true
)";

Policy policy(bool dry_run = false) {
    auto parsed = parse_policy(policy_text, "policy.toml");
    EXPECT_TRUE(parsed) << parsed.error().message;
    parsed->dry_run = dry_run;
    return *parsed;
}

TEST(Policy, ReadsAndRefuses) {
    EXPECT_TRUE(parse_policy("", "p")->dry_run);  // nothing is done unless somebody says so
    EXPECT_FALSE(policy().dry_run);
    EXPECT_TRUE(policy().at[2].no_logprobs);
    for (const auto& [text, word] : std::vector<std::pair<std::string, std::string>>{
             {"[throttle]\nsuspend = true\n", "independent"},
             {"[throttle]\nrequest_per_minute = 1\n", "request_per_minute"},
             {"[throttle]\nreasoning = \"some\"\n", "reasoning"},
             {"dry_run = 1\n", "dry_run"},
             {"[throttle\n", "p"}}) {
        const auto parsed = parse_policy(text, "p");
        ASSERT_FALSE(parsed) << text;
        EXPECT_NE(parsed.error().message.find(word), std::string::npos) << parsed.error().message;
    }
}

TEST(Policy, AWeakerVerdictGivesNothingBack) {
    const store::Mark throttled = mark_after(policy(), Level::throttle, 1, 10, "why", {});
    EXPECT_EQ(throttled.requests_per_minute, 6);
    EXPECT_EQ(throttled.twins, 4);
    const store::Mark later = mark_after(policy(), Level::review, 2, 20, "again", throttled);
    EXPECT_EQ(later.requests_per_minute, 6);
    EXPECT_TRUE(later.no_logprobs && later.watermark && later.review);
    EXPECT_EQ(later.reasoning, "withheld");
    store::Mark allowed;
    allowed.allowed = "appeal";
    EXPECT_EQ(mark_after(policy(), Level::suspend, 3, 30, "no", allowed), allowed);
}

class EnforcerTest : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string pattern = "/tmp/retort-guard-XXXXXX";
        folder_ = mkdtemp(pattern.data());
        secret_ = std::make_unique<store::Secret>(*store::Secret::load_or_create(folder_ / "secret"));
        database_ = std::move(*store::open_database((folder_ / "s.db").string()));
        accounts_ = std::make_unique<store::Accounts>(*store::Accounts::open(*database_, *secret_));
        for (const char* name : {"basic", "licensed"}) {
            store::Plan plan;
            plan.name = name;
            ASSERT_TRUE(accounts_->set_plan(plan));
        }
        for (int i = 0; i < 3; ++i)
            ids_.push_back(accounts_->create_account("a", i < 2 ? "basic" : "licensed")->id);
    }
    void TearDown() override {
        accounts_.reset();
        database_.reset();
        std::filesystem::remove_all(folder_);
    }
    void begin_anew() {
        TearDown();
        ids_.clear();
        SetUp();
    }
    Enforcer enforcer(Policy with) {
        Enforcer out(*database_, *secret_, *accounts_, std::move(with));
        EXPECT_TRUE(out.open());
        return out;
    }
    Verdict verdict(std::uint64_t number, Level level) {
        Verdict out;
        out.sequence = number;
        out.time_ms = 1'700'000'000'000;
        out.level = level;
        out.p = 1e-6;
        out.cluster_size = 3;
        for (const std::string& id : ids_) {
            const store::IdentityHash whole = secret_->hash("account", id);
            store::ShortHash hash{};
            std::copy_n(whole.begin(), hash.size(), hash.begin());
            out.accounts.push_back(hash);
        }
        return out;
    }
    store::Mark mark(std::size_t account) { return *store::Marks(*database_, *secret_).mark(ids_[account]); }
    std::string status(std::size_t account) {
        const auto all = accounts_->accounts();
        for (const auto& each : *all)
            if (each.id == ids_[account]) return each.status;
        return "";
    }

    std::filesystem::path folder_;
    std::unique_ptr<store::Secret> secret_;
    std::unique_ptr<store::Database> database_;
    std::unique_ptr<store::Accounts> accounts_;
    std::vector<std::string> ids_;
};

TEST_F(EnforcerTest, CarriesOutOnceAndLeavesExemptPlansAlone) {
    Enforcer one = enforcer(policy());
    EXPECT_TRUE(*one.carry_out(verdict(0, Level::throttle)));
    EXPECT_FALSE(*one.carry_out(verdict(0, Level::throttle)));
    EXPECT_EQ(mark(0).level, "throttle");
    EXPECT_EQ(mark(1).requests_per_minute, 6);
    EXPECT_EQ(mark(2), store::Mark{});
    // Another process, begun later, knows it too.
    Enforcer two = enforcer(policy());
    EXPECT_FALSE(*two.carry_out(verdict(0, Level::throttle)));
    EXPECT_EQ(two.marks().head()->entries, 1);
    EXPECT_TRUE(*two.carry_out(verdict(1, Level::suspend)));
    EXPECT_EQ(status(0), "suspended");
    EXPECT_EQ(status(2), "active");
    EXPECT_TRUE(two.marks().verify({}));
}

TEST_F(EnforcerTest, ADryRunWritesTheTrailAlone) {
    Enforcer dry = enforcer(policy(true));
    EXPECT_TRUE(*dry.carry_out(verdict(0, Level::suspend)));
    EXPECT_EQ(mark(0), store::Mark{});
    EXPECT_EQ(status(0), "active");
    EXPECT_EQ(dry.marks().head()->entries, 1);
    // The policy goes live: what stands is put on the accounts, and taken off again by a dry one.
    Enforcer live = enforcer(policy());
    EXPECT_EQ(*live.apply_again(1), 2U);
    EXPECT_TRUE(mark(0).watermark);
    EXPECT_EQ(*live.apply_again(1), 0U);
    EXPECT_EQ(*enforcer(policy(true)).apply_again(2), 2U);
    EXPECT_EQ(mark(0), store::Mark{});
}

TEST_F(EnforcerTest, AnotherPolicyReachesEveryAccountOfALargeCluster) {
    while (ids_.size() < 230) ids_.push_back(accounts_->create_account("a", "basic")->id);
    Enforcer live = enforcer(policy());
    ASSERT_TRUE(*live.carry_out(verdict(0, Level::throttle)));
    ASSERT_TRUE(live.apply_again(1));
    EXPECT_EQ(mark(229).requests_per_minute, 6);
    EXPECT_EQ(*enforcer(policy(true)).apply_again(2), 229U);  // all but the licensed one
    EXPECT_EQ(*live.apply_again(3), 229U);
}

TEST_F(EnforcerTest, AnAppealIsNotedAndAnAllowanceGivesBack) {
    Enforcer one = enforcer(policy());
    ASSERT_TRUE(*one.carry_out(verdict(0, Level::suspend)));
    ASSERT_TRUE(one.appeal(ids_[0], "we are a class", 5));
    EXPECT_EQ(mark(0).appeal, "we are a class");
    EXPECT_EQ(status(0), "suspended");
    EXPECT_FALSE(one.allow(ids_[0], "", "me", 6));
    EXPECT_FALSE(one.allow("acct_none", "why", "me", 6));
    ASSERT_TRUE(one.allow(ids_[0], "seen", "me", 6));
    EXPECT_EQ(status(0), "active");
    EXPECT_EQ(mark(0).level, "");
    EXPECT_EQ(one.allowed()->size(), 1U);
    ASSERT_TRUE(*one.carry_out(verdict(1, Level::suspend)));
    EXPECT_EQ(status(0), "active");
    EXPECT_EQ(mark(0).allowed, "seen");
    // Suspended by a person: not the guard's to lift.
    ASSERT_TRUE(accounts_->suspend(ids_[1], "unpaid"));
    ASSERT_TRUE(one.allow(ids_[1], "seen", "me", 7));
    EXPECT_EQ(status(1), "suspended");
    EXPECT_EQ(*one.apply_again(8), 0U);
    ASSERT_TRUE(one.disallow(ids_[0], "me", 9));
    EXPECT_FALSE(one.disallow(ids_[0], "me", 9));
    EXPECT_TRUE(one.marks().verify({}));
}

TEST_F(EnforcerTest, AnUnreadableEntryIsNamedAndNothingIsChanged) {
    for (const auto& [kind, body, word] : std::vector<std::array<std::string, 3>>{
             {"verdict", "", "entry"},
             {"verdict", "{\"level\":", "entry"},
             {"verdict", "\xff\xfe", "entry"},
             {"verdict", "[\"level\"]", "array"},
             {"verdict", "null", "null"},
             {"verdict", R"({"accounts":[]})", "level is missing"},
             {"verdict", R"({"level":3,"accounts":[]})", "level is a number"},
             {"verdict", R"({"level":"none","accounts":[]})", "\"none\""},
             {"verdict", R"({"level":"review"})", "accounts is missing"},
             {"verdict", R"({"level":"review","accounts":"acct_1"})", "accounts is a string"},
             {"verdict", R"({"level":"review","accounts":{"a":1}})", "accounts is an object"},
             {"verdict", R"({"level":"review","accounts":["acct_1",7]})", "accounts[1] is a number"},
             {"verdict", std::string(1000, '[') + std::string(1000, ']'), "nested"},
             {"allow", "true", "boolean"},
             {"allow", R"({"account":[]})", "account is an array"},
             {"disallow", R"({"by":"me"})", "account is missing"}}) {
        begin_anew();
        Enforcer again = enforcer(policy(true));
        ASSERT_TRUE(*again.carry_out(verdict(0, Level::throttle)));
        ASSERT_TRUE(again.marks().change({0, 1, kind, kind == "verdict" ? 1 : -1, body, ""}, {}));
        const auto done = enforcer(policy()).apply_again(9);
        ASSERT_FALSE(done) << kind << " " << body;
        EXPECT_NE(done.error().message.find("entry 1 of the guard's trail (" + kind + ")"), std::string::npos)
            << done.error().message;
        EXPECT_NE(done.error().message.find(word), std::string::npos) << done.error().message;
        EXPECT_EQ(mark(0), store::Mark{});
        EXPECT_EQ(again.marks().head()->entries, 2);
    }
    // What nobody acts on may be odd.
    begin_anew();
    Enforcer last = enforcer(policy(true));
    ASSERT_TRUE(*last.carry_out(verdict(0, Level::throttle)));
    for (const char* kind : {"policy", "another"})
        ASSERT_TRUE(last.marks().change({0, 1, kind, -1, "[", ""}, {}));
    EXPECT_EQ(*enforcer(policy()).apply_again(9), 2U);
}

TEST_F(EnforcerTest, WordsThatAreNoUtf8AreWrittenAllTheSame) {
    Enforcer one = enforcer(policy());
    ASSERT_TRUE(one.appeal(ids_[0], "caf\xe9", 1));
    ASSERT_TRUE(one.allow(ids_[0], "caf\xe9", "m\xe9", 2));
    ASSERT_TRUE(one.disallow(ids_[0], "m\xe9", 3));
    EXPECT_TRUE(one.marks().verify({}));
    EXPECT_TRUE(one.apply_again(4));
}

}  // namespace
}  // namespace retort::guard
