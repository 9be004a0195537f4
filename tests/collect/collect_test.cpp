// Whole runs against a teacher in this process, over a real socket.
#include <atomic>

#include "base/clock.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "collect/answers.h"
#include "teacher.h"

namespace retort::collect {
namespace {

TEST(Collect, asks_all_once_and_keeps_provenance) {
    const fs::path folder = scratch("all");
    Teacher teacher(plain);
    CollectOptions options = options_for(folder, teacher.url(), 20);
    options.samples = 2;
    options.budget.completion_price = 100;
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->wanted, 40);
    EXPECT_EQ(report->asked, 40);
    EXPECT_EQ(report->missing, 0);
    EXPECT_EQ(report->stopped, "");
    EXPECT_EQ(report->spent.completion_tokens, 200);
    const fs::path records_path = options.output / "records.jsonl";
    EXPECT_TRUE(data::check_records(records_path));
    const auto records = data::read_records(records_path);
    ASSERT_TRUE(records);
    ASSERT_EQ(records->size(), 40U);
    // In the order of the work list, whatever came first.
    EXPECT_EQ((*records)[0].prompt_id, "p0");
    EXPECT_EQ((*records)[1].prompt_id, "p0");
    EXPECT_EQ((*records)[1].request.sample, 1);
    EXPECT_EQ((*records)[39].content, "About prompt 19.");
    EXPECT_EQ((*records)[39].terms_id, "CC0-1.0@2026-01-01");
    EXPECT_NEAR((*records)[39].cost, 5 * 100 / 1e6, 1e-12);
    EXPECT_TRUE(fs::exists(options.output / ("terms-" + (*records)[0].terms_sha256.substr(0, 12) + ".toml")));

    // Again: nothing to ask, the same bytes.
    const auto before = *base::read_file(records_path);
    const auto again = collect(options);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->asked, 0);
    EXPECT_EQ(again->there_before, 40);
    EXPECT_EQ(teacher.requests(), 40);
    EXPECT_EQ(*base::read_file(records_path), before);
    // More samples: only what is new is asked.
    options.samples = 3;
    EXPECT_EQ(collect(options)->asked, 20);
}

TEST(Collect, refuses_without_terms_before_any_request) {
    Teacher teacher(plain);
    CollectOptions options = options_for(scratch("terms"), teacher.url(), 2);
    options.terms.clear();
    const auto report = collect(options);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, ErrorCode::refused);
    EXPECT_EQ(teacher.requests(), 0);
}

TEST(Collect, a_storm_of_429_loses_nothing) {
    // Two in three requests are turned away, with a time to wait.
    Teacher teacher([](int count, const std::string& prompt, const formats::Json& body) -> Reply {
        if (count % 3 != 2) return {.status = 429, .headers = {{"retry-after-ms", "4"}}};
        return plain(count, prompt, body);
    });
    const CollectOptions options = options_for(scratch("storm"), teacher.url(), 60);
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->asked, 60);
    EXPECT_EQ(report->overloads, teacher.requests() - 60);
    EXPECT_GE(report->overloads, 100);
    for (const auto& [prompt, times] : teacher.asked()) EXPECT_EQ(times, 1) << prompt;
}

TEST(Collect, a_wait_that_is_too_long_ends_the_run) {
    Teacher teacher([](int, const std::string&, const formats::Json&) -> Reply {
        return {.status = 429, .headers = {{"Retry-After", "7200"}}};
    });
    const auto report = collect(options_for(scratch("wait"), teacher.url(), 5));
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().message.find("2 h"), std::string::npos) << report.error().message;
}

TEST(Collect, a_dead_teacher_is_a_clear_error) {
    std::string url;
    {
        const Teacher gone(plain);
        url = gone.url();
    }
    const double start = base::monotonic_seconds();
    const auto report = collect(options_for(scratch("dead"), url, 5));
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, ErrorCode::network);
    EXPECT_NE(report.error().message.find(url), std::string::npos) << report.error().message;
    EXPECT_NE(report.error().message.find("0 of 5 answers are kept"), std::string::npos)
        << report.error().message;
    EXPECT_LT(base::monotonic_seconds() - start, 10);
}

TEST(Collect, a_teacher_that_dies_leaves_what_it_answered) {
    const fs::path folder = scratch("dies");
    std::atomic<bool> broken{true};
    Teacher teacher([&](int count, const std::string& prompt, const formats::Json& body) -> Reply {
        if (broken && count >= 10) return {.status = 500};
        return plain(count, prompt, body);
    });
    const CollectOptions options = options_for(folder, teacher.url(), 30);
    const auto first = collect(options);
    ASSERT_FALSE(first);
    EXPECT_NE(first.error().message.find("10 of 30"), std::string::npos) << first.error().message;
    broken = false;
    const auto second = collect(options);
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ(second->there_before, 10);
    EXPECT_EQ(second->asked, 20);
    for (const auto& [prompt, times] : teacher.asked()) EXPECT_EQ(times, 1) << prompt;
}

TEST(Collect, two_endpoints_share_the_work_and_one_may_be_dead) {
    Teacher one(plain);
    Teacher other([](int, const std::string&, const formats::Json&) -> Reply { return {.status = 502}; });
    CollectOptions options = options_for(scratch("two"), one.url(), 40);
    options.endpoints.push_back({.url = other.url(), .api_key = ""});
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->asked, 40);
    EXPECT_EQ(one.asked().size(), 40U);
}

TEST(Collect, faults_of_single_prompts_do_not_end_the_run) {
    const fs::path folder = scratch("single");
    Teacher teacher([](int count, const std::string& prompt, const formats::Json& body) -> Reply {
        if (prompt == "prompt 3") return {.status = 400, .error_code = "context_length_exceeded"};
        if (prompt == "prompt 4") return {.status = 422, .error_code = "invalid_value"};
        if (prompt == "prompt 5") return {.status = 500};
        if (prompt == "prompt 6") return {.content = "cut", .finish_reason = "length"};
        return plain(count, prompt, body);
    });
    CollectOptions options = options_for(folder, teacher.url(), 30);
    options.max_attempts = 3;
    auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->asked, 27);
    EXPECT_EQ(report->too_long, 1);
    EXPECT_EQ(report->rejected, 1);
    EXPECT_EQ(report->gave_up, 1);
    EXPECT_EQ(report->truncated, 1);
    EXPECT_EQ(report->missing, 0);
    const auto failed = *base::read_file(options.output / "failed.jsonl");
    for (const char* what : {"too_long", "rejected", "gave_up", "context_length_exceeded"}) {
        EXPECT_NE(failed.find(what), std::string::npos) << what;
    }
    // Next time: what may go better is tried again, a prompt that is too long is not; a higher max_tokens
    // asks again only for the answer that was cut.
    const int before = teacher.requests();
    options.max_tokens = 80;
    report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->asked, 1);
    EXPECT_EQ(teacher.asked()["prompt 6"], 2);
    EXPECT_EQ(teacher.requests() - before, 1 + 1 + 3);
}

TEST(Collect, a_run_of_failures_alone_is_an_error_and_resumes) {
    const fs::path folder = scratch("all_given_up");
    bool mended = false;
    Teacher teacher([&mended](int count, const std::string& prompt, const formats::Json& body) -> Reply {
        if (!mended) return {.status = 500};
        return plain(count, prompt, body);
    });
    CollectOptions options = options_for(folder, teacher.url(), 3);
    options.max_attempts = 2;
    options.dead_after = 1000;
    auto report = collect(options);
    ASSERT_FALSE(report);
    for (const char* what : {"none of 3 requests", "3 given up after 2 tries", "500", "failed.jsonl"}) {
        EXPECT_NE(report.error().message.find(what), std::string::npos) << report.error().message;
    }
    EXPECT_TRUE(fs::exists(options.output / "report.json"));
    mended = true;
    report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->asked, 3);
    // Answers that are there stay; a run that adds none to them and gives up still says so.
    mended = false;
    options.prompts.push_back(options.prompts.front());
    options.prompts.back().id = "another";
    options.prompts.back().messages.back().content = "another";
    report = collect(options);
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().message.find("none of 1 requests"), std::string::npos);
    EXPECT_EQ(data::read_records(options.output / "records.jsonl")->size(), 3U);
}

TEST(Collect, a_bad_key_ends_the_run_at_once) {
    Teacher teacher([](int, const std::string&, const formats::Json&) -> Reply {
        return {.status = 401, .error_code = "invalid_api_key"};
    });
    const auto report = collect(options_for(scratch("key"), teacher.url(), 50));
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().message.find("invalid_api_key"), std::string::npos) << report.error().message;
    EXPECT_LE(teacher.requests(), 8);

    Teacher picky([](int, const std::string&, const formats::Json&) -> Reply { return {.status = 400}; });
    const auto all = collect(options_for(scratch("picky"), picky.url(), 50));
    ASSERT_FALSE(all);
    EXPECT_NE(all.error().message.find("rejects every request"), std::string::npos) << all.error().message;
    EXPECT_LE(picky.requests(), 20);
}

TEST(Collect, the_budget_stops_it_cleanly_and_is_never_passed) {
    const fs::path folder = scratch("budget");
    Teacher teacher(plain);
    CollectOptions options = options_for(folder, teacher.url(), 30);
    options.budget.max_requests = 12;
    auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->asked, 12);
    EXPECT_EQ(report->missing, 18);
    EXPECT_NE(report->stopped.find("12 of 12 requests"), std::string::npos) << report->stopped;
    EXPECT_EQ(data::read_records(options.output / "records.jsonl")->size(), 12U);
    // It is a budget of the folder: the same again asks nothing.
    EXPECT_EQ(collect(options)->asked, 0);
    EXPECT_EQ(teacher.requests(), 12);

    options.budget = {.max_tokens = 15 * 12 + 200};
    report = collect(options);
    ASSERT_TRUE(report);
    EXPECT_NE(report->stopped.find("tokens"), std::string::npos) << report->stopped;
    EXPECT_LE(report->spent.prompt_tokens + report->spent.completion_tokens, 15 * 12 + 200);
    EXPECT_GT(report->asked, 2);

    options.budget = {.max_cost = 0.001, .prompt_price = 1, .completion_price = 2};
    report = collect(options);
    ASSERT_TRUE(report);
    EXPECT_LE(report->spent.cost, 0.001);

    options.budget = {.max_cost = 1};
    EXPECT_EQ(collect(options).error().code, ErrorCode::invalid_argument);
}

TEST(Collect, time_is_a_budget_too) {
    Teacher teacher([](int, const std::string&, const formats::Json&) -> Reply { return {.delay = 0.05}; });
    CollectOptions options = options_for(scratch("time"), teacher.url(), 500);
    options.budget.max_seconds = 0.3;
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_NE(report->stopped.find("time"), std::string::npos);
    EXPECT_GT(report->asked, 0);
    EXPECT_LT(report->asked, 500);
    EXPECT_LT(report->seconds, 1.5);
}

TEST(Collect, concurrency_grows_to_its_limit_and_not_past_it) {
    Teacher teacher([](int, const std::string&, const formats::Json&) -> Reply { return {.delay = 0.01}; });
    CollectOptions options = options_for(scratch("grow"), teacher.url(), 80);
    options.pressure.initial_concurrency = 1;
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->peak_in_flight, 8);
    EXPECT_LE(teacher.most_in_flight(), 8);
}

TEST(Collect, ctrl_c_keeps_what_there_is) {
    const fs::path folder = scratch("interrupt");
    Teacher teacher([](int count, const std::string& prompt, const formats::Json& body) -> Reply {
        if (count == 20) base::set_interrupted(true);
        Reply reply = plain(count, prompt, body);
        reply.delay = 0.01;
        return reply;
    });
    const CollectOptions options = options_for(folder, teacher.url(), 100);
    const auto report = collect(options);
    base::set_interrupted(false);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, ErrorCode::cancelled);
    const auto again = collect(options);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_GE(again->there_before, 20);
    EXPECT_EQ(again->asked + again->there_before, 100);
    for (const auto& [prompt, times] : teacher.asked()) EXPECT_EQ(times, 1) << prompt;
}

TEST(Collect, two_runs_in_one_folder_are_kept_apart) {
    const fs::path folder = scratch("lock");
    Teacher teacher(plain);
    const CollectOptions options = options_for(folder, teacher.url(), 2);
    fs::create_directories(options.output);
    const auto lock = base::FileLock::acquire(options.output / ".lock");
    ASSERT_TRUE(lock);
    EXPECT_FALSE(collect(options));
    EXPECT_EQ(teacher.requests(), 0);
}

}  // namespace
}  // namespace retort::collect
