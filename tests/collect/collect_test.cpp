// Whole runs against a teacher in this process, over a real socket.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "base/clock.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "collect/answers.h"
#include "collect/collect.h"
#include "http/server.h"

namespace retort::collect {
namespace {

namespace fs = std::filesystem;

fs::path scratch(const std::string& name) {
    const fs::path path = fs::path(::testing::TempDir()) / ("retort_collect_" + name);
    fs::remove_all(path);
    fs::create_directories(path);
    return path;
}

struct Reply {
    int status = 200;
    std::string content = "Yes.";
    std::string finish_reason = "stop";
    http::Headers headers;
    std::string error_code;
    double delay = 0;
};

// Answers by a rule of (how many requests came before, the prompt, the body); counts what was asked.
class Teacher {
  public:
    using Rule = std::function<Reply(int, const std::string&, const formats::Json&)>;

    explicit Teacher(Rule rule) : rule_(std::move(rule)) {
        auto server = http::Server::start(
            {}, [this](http::ServerRequest request, auto writer) { answer(request, std::move(writer)); });
        EXPECT_TRUE(server) << server.error().message;
        server_ = std::move(*server);
    }
    ~Teacher() {
        server_->stop();
        server_->join();
        for (std::thread& thread : delayed_) thread.join();
    }
    Teacher(const Teacher&) = delete;
    Teacher& operator=(const Teacher&) = delete;

    [[nodiscard]] std::string url() const { return fmt::format("http://127.0.0.1:{}/v1", server_->port()); }
    std::map<std::string, int> asked() {
        const std::lock_guard lock(mutex_);
        return asked_;
    }
    int requests() {
        const std::lock_guard lock(mutex_);
        return count_;
    }
    int most_in_flight() {
        const std::lock_guard lock(mutex_);
        return most_in_flight_;
    }

  private:
    void answer(const http::ServerRequest& request, std::shared_ptr<http::ResponseWriter> writer) {
        const auto body = formats::parse_json(request.body, "request");
        ASSERT_TRUE(body);
        const std::string prompt = (*body)["messages"].back()["content"];
        Reply reply;
        {
            const std::lock_guard lock(mutex_);
            reply = rule_(count_++, prompt, *body);
            if (reply.status == 200) ++asked_[prompt];
            most_in_flight_ = std::max(most_in_flight_, ++in_flight_);
        }
        const auto send = [this, reply, writer] {
            {
                const std::lock_guard lock(mutex_);
                --in_flight_;
            }
            formats::Json json;
            if (reply.status == 200) {
                json = {{"id", "c"},
                        {"object", "chat.completion"},
                        {"created", 1},
                        {"model", "teacher"},
                        {"choices",
                         {{{"index", 0},
                           {"finish_reason", reply.finish_reason},
                           {"message", {{"role", "assistant"}, {"content", reply.content}}}}}},
                        {"usage", {{"prompt_tokens", 10}, {"completion_tokens", 5}, {"total_tokens", 15}}}};
            } else {
                json = {{"error",
                         {{"message", "no"},
                          {"type", "t"},
                          {"param", nullptr},
                          {"code",
                           reply.error_code.empty() ? formats::Json() : formats::Json(reply.error_code)}}}};
            }
            writer->send(reply.status, reply.headers, formats::write_json(json));
        };
        if (reply.delay <= 0) return send();
        const std::lock_guard lock(mutex_);
        delayed_.emplace_back([send, delay = reply.delay] {
            std::this_thread::sleep_for(std::chrono::duration<double>(delay));
            send();
        });
    }

    Rule rule_;
    std::mutex mutex_;
    std::map<std::string, int> asked_;
    int count_ = 0;
    int in_flight_ = 0;
    int most_in_flight_ = 0;
    std::vector<std::thread> delayed_;
    std::unique_ptr<http::Server> server_;
};

Reply plain(int, const std::string& prompt, const formats::Json&) {
    return {.content = "About " + prompt + "."};
}

CollectOptions options_for(const fs::path& folder, const std::string& url, int prompts) {
    CollectOptions options;
    options.output = folder / "answers";
    std::string text;
    for (int i = 0; i < prompts; ++i)
        text += fmt::format("{{\"prompt\":\"prompt {}\",\"id\":\"p{}\"}}\n", i, i);
    options.prompts = *data::parse_prompts(text, data::PromptFormat::json_lines, "prompts");
    options.endpoints = {{.url = url, .api_key = ""}};
    options.model = "teacher";
    options.max_tokens = 50;
    options.terms = folder / "terms.toml";
    std::ofstream(options.terms)
        << "permitted_by = \"me\"\nlicence = \"CC0-1.0\"\nallows_training_on_outputs = "
           "true\nscope = \"all\"\ndate = \"2026-01-01\"\n";
    options.pressure = {.initial_concurrency = 4,
                        .max_concurrency = 8,
                        .backoff_base_seconds = 0.005,
                        .backoff_max_seconds = 0.05};
    options.jitter_seed = 1;
    options.quiet = true;
    return options;
}

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

// The teacher lives in a process of its own, so that a collector can be killed beside it.
class TeacherProcess {
  public:
    explicit TeacherProcess(const fs::path& log) {
        std::array<int, 2> pipe{};
        EXPECT_EQ(::pipe(pipe.data()), 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            std::ofstream out(log, std::ios::app);
            std::mutex mutex;
            Teacher teacher([&](int count, const std::string& prompt, const formats::Json& body) {
                Reply reply = plain(count, prompt, body);
                reply.delay = 0.002;
                const std::lock_guard lock(mutex);
                out << prompt << std::endl;  // NOLINT(performance-avoid-endl): another process reads it
                return reply;
            });
            const std::string url = teacher.url() + "\n";
            [[maybe_unused]] const auto wrote = ::write(pipe[1], url.data(), url.size());
            for (;;) ::pause();
        }
        std::array<char, 128> buffer{};
        const auto count = ::read(pipe[0], buffer.data(), buffer.size());
        url_ = std::string(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 1)) - 1);
        ::close(pipe[0]);
        ::close(pipe[1]);
    }
    ~TeacherProcess() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    TeacherProcess(const TeacherProcess&) = delete;
    TeacherProcess& operator=(const TeacherProcess&) = delete;
    [[nodiscard]] const std::string& url() const { return url_; }

  private:
    pid_t pid_ = -1;
    std::string url_;
};

TEST(Collect, killed_at_any_instant_asks_nothing_twice_but_what_was_in_flight) {
    const fs::path folder = scratch("kill");
    const fs::path log = folder / "asked.log";
    const TeacherProcess teacher(log);
    const CollectOptions options = options_for(folder, teacher.url(), 150);
    const auto lines = [&log] {
        std::ifstream in(log);
        return std::count(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>(), '\n');
    };
    int kills = 0;
    for (int attempt = 0; attempt < 4; ++attempt) {
        const auto wanted = lines() + 7 + 11 * attempt;
        const pid_t child = ::fork();
        if (child == 0) ::_exit(collect(options) ? 0 : 1);
        const double patience = base::monotonic_seconds() + 10;
        while (lines() < wanted && base::monotonic_seconds() < patience) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        ::kill(child, SIGKILL);
        int status = 0;
        ::waitpid(child, &status, 0);
        kills += WIFSIGNALED(status) ? 1 : 0;
    }
    ASSERT_EQ(kills, 4);
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->there_before + report->asked, 150);
    EXPECT_GT(report->there_before, 0);
    EXPECT_TRUE(data::check_records(options.output / "records.jsonl"));
    std::map<std::string, int> times;
    std::ifstream in(log);
    for (std::string line; std::getline(in, line);) ++times[line];
    EXPECT_EQ(times.size(), 150U);
    int doubled = 0;
    for (const auto& [prompt, count] : times) doubled += count - 1;
    EXPECT_LE(doubled, kills * options.pressure.max_concurrency);
}

TEST(Collect, a_full_disk_is_a_clear_error_and_loses_nothing) {
    const fs::path folder = scratch("full");
    const fs::path log = folder / "asked.log";
    const TeacherProcess teacher(log);
    const CollectOptions options = options_for(folder, teacher.url(), 60);
    const pid_t child = ::fork();
    if (child == 0) {
        // No file of this process may grow past 16 kB: a write then fails as on a full disk.
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{16'000, 16'000};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        const auto report = collect(options);
        ::_exit(!report && report.error().code == ErrorCode::io &&
                        report.error().message.find("answers.journal") != std::string::npos
                    ? 7
                    : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 7);
    const auto report = collect(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_GT(report->there_before, 10);
    EXPECT_EQ(report->there_before + report->asked, 60);
    EXPECT_EQ(report->torn_bytes, 0U);
}

TEST(Answers, survive_a_torn_tail) {
    const fs::path path = scratch("torn") / "answers.journal";
    data::Record record;
    record.request.messages = {{.role = "user", .content = "hi"}};
    record.request.model = "m";
    record.content = "x";
    record.usage.completion_tokens = 3;
    std::set<std::string> ids;
    {
        auto store = AnswerStore::open(path);
        ASSERT_TRUE(store);
        for (int i = 0; i < 5; ++i) {
            record.request.sample = i;
            data::seal(record);
            ids.insert(record.id);
            ASSERT_TRUE(store->add(record));
        }
        ASSERT_TRUE(store->add(Failure{.id = "f", .kind = "rejected", .reason = "r", .attempts = 2}));
        ASSERT_TRUE(store->sync_if_due(0, true));
    }
    const auto whole = fs::file_size(path);
    fs::resize_file(path, whole - 3);
    auto store = AnswerStore::open(path);
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_GT(store->torn_bytes(), 0U);
    for (const std::string& id : ids) EXPECT_NE(store->find(id), nullptr);
    EXPECT_EQ(store->find_failure("f"), nullptr);
    EXPECT_EQ(store->spent().completion_tokens, 15);
    EXPECT_EQ(ids.size(), 5U);
}

}  // namespace
}  // namespace retort::collect
