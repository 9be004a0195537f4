#include "store/event_log.h"

#include <algorithm>
#include <cstdlib>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "store/identity.h"

namespace retort::store {

namespace fs = std::filesystem;

namespace {
constexpr std::string_view extension = ".events";
constexpr std::size_t max_recent = 1000;
constexpr std::uintmax_t recent_read_bytes = std::uintmax_t{8} << 20U;  // of old files, at the start
}  // namespace

Result<std::unique_ptr<EventLog>> EventLog::open(EventLogOptions options) {
    RETORT_CHECK(base::make_folders(options.folder));
    std::unique_ptr<EventLog> log(new EventLog(std::move(options)));
    RETORT_TRY(const std::vector<fs::path> files, event_files(log->options_.folder));
    if (!files.empty()) log->last_stamp_ = std::strtoll(files.back().filename().c_str(), nullptr, 10);
    log->remember_files(files);
    // Whether the folder can be written is known now, not with the first request.
    RETORT_CHECK(log->write({}));
    log->thread_ = std::thread([raw = log.get()] { raw->run(); });
    return log;
}

EventLog::~EventLog() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        wake_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
}

void EventLog::add(Event event) {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() >= options_.max_waiting) {
        dropped_.fetch_add(1);
        return;
    }
    waiting_.push_back(std::move(event));
    ++added_;
    if (waiting_.size() == options_.block_events) wake_.notify_one();
}

Status EventLog::flush() {
    std::unique_lock lock(mutex_);
    const std::uint64_t goal = added_;
    wake_.notify_one();
    flushed_.wait(lock, [&] { return settled_ >= goal; });
    return last_error_;
}

void EventLog::run() {
    bool last = false;
    while (!last) {
        std::vector<Event> events;
        {
            std::unique_lock lock(mutex_);
            wake_.wait_for(lock, std::chrono::duration<double>(options_.flush_seconds),
                           [this] { return stopping_ || waiting_.size() >= options_.block_events; });
            last = stopping_;
            events.swap(waiting_);
        }
        const Status done = events.empty() ? Status() : write(events);
        if (done) {
            written_.fetch_add(events.size());
            remember(events);
        } else {
            dropped_.fetch_add(events.size());
            spdlog::error("{} events are lost: {}", events.size(), done.error().message);
        }
        remove_old();
        const std::lock_guard lock(mutex_);
        settled_ += events.size();
        last_error_ = done;
        flushed_.notify_all();
    }
}

Status EventLog::write(const std::vector<Event>& events) {
    if (!journal_ || journal_bytes_ > options_.file_bytes || is_full_age()) {
        // Names sort as their times, two files of one millisecond too; the end tells servers of one folder
        // apart.
        last_stamp_ = std::max<std::int64_t>(base::unix_milliseconds(), last_stamp_ + 1);
        const fs::path path =
            options_.folder / fmt::format("{:015d}-{}{}", last_stamp_, random_name(""), extension);
        RETORT_TRY(base::Journal journal,
                   base::Journal::open(path, [](std::string_view) { return Status(); }));
        journal_ = std::make_unique<base::Journal>(std::move(journal));
        journal_bytes_ = 0;
        journal_since_ = base::monotonic_seconds();
    }
    if (events.empty()) return {};
    const std::string block = write_block(events);
    RETORT_CHECK(journal_->append(block));
    journal_bytes_ += static_cast<std::int64_t>(block.size());
    return journal_->sync();
}

bool EventLog::is_full_age() const {
    return base::monotonic_seconds() - journal_since_ > options_.file_seconds;
}

void EventLog::remember(const std::vector<Event>& events) {
    const std::lock_guard lock(recent_mutex_);
    const std::size_t skipped = events.size() > max_recent ? events.size() - max_recent : 0;
    for (std::size_t i = skipped; i < events.size(); ++i) {
        Event& kept = recent_.emplace_back(events[i]);
        kept.body.clear();
    }
    while (recent_.size() > max_recent) recent_.pop_front();
}

void EventLog::remember_files(const std::vector<fs::path>& files) {
    std::size_t first = files.size();
    std::uintmax_t bytes = 0;
    while (first > 0) {
        std::error_code ignored;
        bytes += fs::file_size(files[first - 1], ignored);
        if (bytes > recent_read_bytes || ignored) break;
        --first;
    }
    for (std::size_t i = first; i < files.size(); ++i) {
        // A damaged file is told of by whoever reads the log; a page of recent requests can do without.
        (void)base::read_journal(files[i], [this](std::string_view frame) -> Status {
            RETORT_TRY(const auto events, read_block(frame));
            remember(events);
            return {};
        });
    }
}

std::vector<Event> EventLog::recent() const {
    const std::lock_guard lock(recent_mutex_);
    return {recent_.rbegin(), recent_.rend()};
}

void EventLog::remove_old() {
    if (options_.retention_seconds <= 0 ||
        base::monotonic_seconds() - last_retention_ < options_.retention_poll_seconds)
        return;
    last_retention_ = base::monotonic_seconds();
    // The file of a server without requests ages too: it must not go while it is written to.
    if (is_full_age()) journal_.reset();
    const auto files = event_files(options_.folder);
    if (!files) return;
    const auto oldest = fs::file_time_type::clock::now() - std::chrono::seconds(options_.retention_seconds);
    for (const fs::path& file : *files) {
        std::error_code ignored;
        // By its last write: then every record in it is older.
        if (fs::last_write_time(file, ignored) < oldest && !ignored) fs::remove(file, ignored);
    }
}

Result<std::vector<fs::path>> event_files(const fs::path& folder) {
    std::error_code error;
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        if (entry.path().extension() == extension) files.push_back(entry.path());
    }
    if (error) return fail(ErrorCode::io, "{}: {}", folder.string(), error.message());
    std::sort(files.begin(), files.end());
    return files;
}

Status read_events(const fs::path& folder, const std::function<Status(const Event&)>& on_event) {
    RETORT_TRY(const auto files, event_files(folder));
    for (const fs::path& file : files) {
        RETORT_CHECK(base::read_journal(file, [&](std::string_view frame) -> Status {
            RETORT_TRY(const auto events, read_block(frame));
            for (const Event& event : events) RETORT_CHECK(on_event(event));
            return {};
        }));
    }
    return {};
}

}  // namespace retort::store
