// A collector that is killed, or finds its disk full: what it was told is kept.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <iterator>
#include <set>

#include "base/clock.h"
#include "collect/answers.h"
#include "teacher.h"

namespace retort::collect {
namespace {

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
