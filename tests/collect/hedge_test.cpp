// Second requests for slow answers: one answer is kept, both are paid.
#include <mutex>
#include <set>

#include "base/clock.h"
#include "base/journal.h"
#include "collect/answers.h"
#include "collect/hedging.h"
#include "teacher.h"

namespace retort::collect {
namespace {

TEST(Hedging, what_is_slow_is_known_by_the_answers_before) {
    Hedging hedging(0.05);
    for (int i = 1; i <= 19; ++i) hedging.answered(i);
    EXPECT_FALSE(1e9 > hedging.slow_after());  // too few yet
    hedging.answered(20);
    EXPECT_EQ(hedging.slow_after(), 19);  // one in twenty is slower
    // Of the latest 256 alone.
    for (int i = 0; i < 256; ++i) hedging.answered(0.5);
    EXPECT_EQ(hedging.slow_after(), 0.5);
    Hedging rare(0.01);
    for (int i = 1; i < 100; ++i) rare.answered(i);
    EXPECT_FALSE(1e9 > rare.slow_after());
    rare.answered(100);
    EXPECT_EQ(rare.slow_after(), 99);
}

TEST(Hedging, never_more_than_its_share_of_the_requests) {
    Hedging hedging(0.1);
    for (int i = 0; i < 9; ++i) hedging.asked();
    EXPECT_FALSE(hedging.may_hedge());
    hedging.asked();
    EXPECT_TRUE(hedging.may_hedge());
    hedging.hedged();
    EXPECT_FALSE(hedging.may_hedge());
    EXPECT_FALSE(Hedging(0).on());
}

// The first request for a few prompts hangs, a second does not.
class Hanging {
  public:
    explicit Hanging(std::set<std::string> slow, double hang = 5)
        : slow_(std::move(slow)),
          teacher_([this, hang](int, const std::string& prompt, const formats::Json&) {
              Reply reply{.content = fmt::format("answer {} to {}", ++times_[prompt], prompt)};
              if (times_[prompt] == 1 && slow_.contains(prompt)) reply.delay = hang;
              return reply;
          }) {}
    Teacher& teacher() { return teacher_; }

  private:
    std::set<std::string> slow_;
    std::map<std::string, int> times_;
    Teacher teacher_;
};

std::int64_t frames_of(const fs::path& journal, char kind) {
    std::int64_t count = 0;
    EXPECT_TRUE(base::read_journal(journal, [&](std::string_view frame) -> Status {
        count += frame.front() == kind ? 1 : 0;
        return {};
    }));
    return count;
}

TEST(Hedging, the_first_answer_wins_and_both_are_paid) {
    Hanging hanging({"prompt 50", "prompt 70"}, 2.5);
    CollectOptions options = options_for(scratch("hedge"), hanging.teacher().url(), 100);
    options.hedge_share = 0.05;
    options.budget.prompt_price = 100;
    options.budget.completion_price = 1000;
    const double start = base::monotonic_seconds();
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_LT(base::monotonic_seconds() - start, 2) << "it waited for what it had an answer to";
    EXPECT_EQ(report->asked, 100);
    EXPECT_EQ(report->missing, 0);
    EXPECT_GE(report->hedges, 2);
    EXPECT_LE(report->hedges, 5);
    EXPECT_GE(report->hedges_first, 2);
    for (const auto& [prompt, times] : hanging.teacher().asked()) EXPECT_LE(times, 2) << prompt;
    // One that was cut off may not have come so far; it is counted all the same.
    const int came = hanging.teacher().requests();
    EXPECT_GE(came, 102);
    EXPECT_LE(came, 100 + report->hedges);

    const fs::path journal = options.output / "answers.journal";
    EXPECT_EQ(frames_of(journal, 'A'), 100);
    EXPECT_EQ(frames_of(journal, 'P'), report->hedges);
    const auto records = data::read_records(options.output / "records.jsonl");
    ASSERT_EQ(records->size(), 100U);
    EXPECT_EQ((*records)[50].content, "answer 2 to prompt 50");
    EXPECT_EQ((*records)[70].content, "answer 2 to prompt 70");

    // Both count: the two that hung were cut off, and may have cost all that they could (50 tokens of
    // answer).
    EXPECT_EQ(report->spent.requests, 100 + report->hedges);
    EXPECT_EQ(report->spent.prompt_tokens, 10 * (100 + report->hedges));
    EXPECT_GE(report->spent.completion_tokens, 100 * 5 + 2 * 50);
    EXPECT_LE(report->spent.completion_tokens, 100 * 5 + 50 * report->hedges);
    EXPECT_NEAR(
        report->spent.cost,
        static_cast<double>(report->spent.prompt_tokens * 100 + report->spent.completion_tokens * 1000) / 1e6,
        1e-9);
    // And are counted when the folder is opened again, where nothing is asked a second time.
    const auto again = collect(options);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->asked, 0);
    EXPECT_EQ(again->spent.requests, report->spent.requests);
    EXPECT_EQ(again->spent.completion_tokens, report->spent.completion_tokens);
    EXPECT_NEAR(again->spent.cost, report->spent.cost, 1e-9);
    EXPECT_EQ(hanging.teacher().requests(), came);
}

TEST(Hedging, is_off_unless_asked_for) {
    Hanging hanging({"prompt 50"}, 0.4);
    const auto report = collect(options_for(scratch("unhedged"), hanging.teacher().url(), 60));
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->hedges, 0);
    EXPECT_EQ(hanging.teacher().requests(), 60);
}

TEST(Hedging, goes_to_another_server_where_there_is_one) {
    // The last prompt hangs wherever it is asked first.
    std::mutex mutex;
    std::vector<int> asked_at;
    const auto rule_of = [&](int server) {
        return [&, server](int count, const std::string& prompt, const formats::Json& body) {
            Reply reply = plain(count, prompt, body);
            if (prompt != "prompt 199") return reply;
            const std::lock_guard lock(mutex);
            asked_at.push_back(server);
            if (asked_at.size() == 1) reply.delay = 2.5;
            return reply;
        };
    };
    Teacher one(rule_of(1));
    Teacher other(rule_of(2));
    CollectOptions options = options_for(scratch("hedge_two"), one.url(), 200);
    options.endpoints.push_back({.url = other.url(), .api_key = ""});
    options.hedge_share = 0.05;
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->asked, 200);
    EXPECT_LT(report->seconds, 2);
    ASSERT_EQ(asked_at.size(), 2U);
    EXPECT_NE(asked_at[0], asked_at[1]);
}

TEST(Hedging, a_request_that_fails_leaves_the_other_its_chance) {
    // The second request for prompt 40 is turned away; the first is answered late and is not asked a third
    // time.
    std::map<std::string, int> times;
    Teacher teacher([&](int count, const std::string& prompt, const formats::Json& body) -> Reply {
        Reply reply = plain(count, prompt, body);
        if (prompt != "prompt 40") return reply;
        if (++times[prompt] == 2) return {.status = 500};
        reply.delay = 0.5;
        return reply;
    });
    CollectOptions options = options_for(scratch("hedge_fails"), teacher.url(), 60);
    options.hedge_share = 0.05;
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->asked, 60);
    EXPECT_EQ(report->retries, 0);
    EXPECT_EQ(times["prompt 40"], 2);
    const auto records = data::read_records(options.output / "records.jsonl");
    EXPECT_EQ((*records)[40].attempts, 2);
    EXPECT_GE(report->spent.requests, teacher.requests());
}

TEST(Hedging, never_passes_the_budget) {
    Hanging hanging({"prompt 50", "prompt 99"}, 0.3);
    CollectOptions options = options_for(scratch("hedge_budget"), hanging.teacher().url(), 100);
    options.hedge_share = 0.05;
    options.budget.max_requests = 101;  // a second one for prompt 50, none for prompt 99
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_LE(hanging.teacher().requests(), 101);
    EXPECT_LE(report->spent.requests, 101);
    EXPECT_EQ(report->asked + report->hedges, report->spent.requests);
}

TEST(Hedging, a_share_that_makes_no_sense_is_refused) {
    for (const double share : {-0.1, 0.001, 0.7}) {
        CollectOptions options = options_for(scratch("hedge_share"), "http://127.0.0.1:1/v1", 1);
        options.hedge_share = share;
        const auto report = collect(options);
        ASSERT_FALSE(report) << share;
        EXPECT_EQ(report.error().code, ErrorCode::invalid_argument);
        EXPECT_NE(report.error().message.find("--hedge"), std::string::npos) << report.error().message;
    }
}

}  // namespace
}  // namespace retort::collect
