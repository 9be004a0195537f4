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
    RETORT_CHECK(log->open_file());
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

void EventLog::add(const Event& event) {
    std::shared_ptr<Block> mine;
    {
        const std::lock_guard lock(mutex_);
        if (added_ - settled_ >= options_.max_waiting) {
            dropped_.fetch_add(1);
            return;
        }
        PlainBlock& plain = open_block_->plain;
        if (plain.count == 0) plain.records.reserve(options_.block_bytes + 1024);
        add_record(plain, event);
        ++added_;
        if (plain.count < options_.block_events && plain.records.size() < options_.block_bytes) return;
        // Its place is taken before it is compressed: blocks stay in order.
        mine = std::exchange(open_block_, std::make_shared<Block>());
        full_.push_back(mine);
    }
    std::string packed = pack_block(mine->plain);
    const std::lock_guard lock(mutex_);
    mine->packed = std::move(packed);
    const bool woken = full_bytes_ >= options_.wake_bytes;
    full_bytes_ += mine->packed.size();
    packed_.notify_one();
    if (!woken && full_bytes_ >= options_.wake_bytes) wake_.notify_one();
}

Status EventLog::flush() {
    std::unique_lock lock(mutex_);
    const std::uint64_t goal = added_;
    asked_ = true;
    wake_.notify_one();
    flushed_.wait(lock, [&] { return settled_ >= goal; });
    return last_error_;
}

void EventLog::run() {
    bool last = false;
    while (!last) {
        std::vector<std::shared_ptr<Block>> blocks;
        {
            std::unique_lock lock(mutex_);
            wake_.wait_for(lock, std::chrono::duration<double>(options_.flush_seconds),
                           [this] { return stopping_ || asked_ || full_bytes_ >= options_.wake_bytes; });
            last = stopping_;
            asked_ = false;
            blocks = take_blocks(lock);
        }
        const Status done = write(blocks);
        std::uint64_t count = 0;
        for (const auto& block : blocks) {
            count += block->plain.count;
            if (block->written) remember(std::move(block->plain));
        }
        remove_old();
        const std::lock_guard lock(mutex_);
        settled_ += count;
        last_error_ = done;
        flushed_.notify_all();
    }
}

std::vector<std::shared_ptr<EventLog::Block>> EventLog::take_blocks(std::unique_lock<std::mutex>& lock) {
    const std::size_t count = full_.size();
    std::shared_ptr<Block> rest;
    if (open_block_->plain.count > 0) rest = std::exchange(open_block_, std::make_shared<Block>());
    // What was added after it comes behind it, in the next round.
    packed_.wait(lock, [&] {
        return std::all_of(full_.begin(), full_.begin() + static_cast<std::ptrdiff_t>(count),
                           [](const auto& block) { return !block->packed.empty(); });
    });
    std::vector<std::shared_ptr<Block>> blocks;
    for (std::size_t i = 0; i < count; ++i) {
        full_bytes_ -= full_.front()->packed.size();
        blocks.push_back(std::move(full_.front()));
        full_.pop_front();
    }
    lock.unlock();
    if (rest) {
        rest->packed = pack_block(rest->plain);
        blocks.push_back(std::move(rest));
    }
    return blocks;
}

// The first error; what could not be written is lost, and counted.
Status EventLog::write(const std::vector<std::shared_ptr<Block>>& blocks) {
    Status result;
    bool any = false;
    for (const auto& block : blocks) {
        Status done = open_file();
        if (done) done = journal_->append(block->packed);
        block->written = done.has_value();
        if (!done && result) result = done;
        if (!done) continue;
        any = true;
        journal_bytes_ += static_cast<std::int64_t>(block->packed.size());
    }
    if (any) {
        if (Status synced = journal_->sync(); !synced) {
            for (const auto& block : blocks) block->written = false;
            result = std::move(synced);
        }
    }
    std::uint64_t lost = 0;
    for (const auto& block : blocks) {
        (block->written ? written_ : dropped_).fetch_add(block->plain.count);
        lost += block->written ? 0 : block->plain.count;
    }
    if (lost > 0) spdlog::error("{} events are lost: {}", lost, result.error().message);
    return result;
}

Status EventLog::open_file() {
    if (journal_ && journal_bytes_ <= options_.file_bytes && !is_full_age()) return {};
    // Names sort as their times, two files of one millisecond too; the end tells servers of one folder
    // apart.
    if (journal_) RETORT_CHECK(journal_->sync());
    last_stamp_ = std::max<std::int64_t>(base::unix_milliseconds(), last_stamp_ + 1);
    const fs::path path =
        options_.folder / fmt::format("{:015d}-{}{}", last_stamp_, random_name(""), extension);
    RETORT_TRY(base::Journal journal, base::Journal::open(path, [](std::string_view) { return Status(); }));
    journal_ = std::make_unique<base::Journal>(std::move(journal));
    journal_bytes_ = 0;
    journal_since_ = base::monotonic_seconds();
    return {};
}

bool EventLog::is_full_age() const {
    return base::monotonic_seconds() - journal_since_ > options_.file_seconds;
}

void EventLog::remember(PlainBlock block) {
    if (block.bodies) {  // which may be megabytes each
        PlainBlock bare;
        for (Event& event : records_of(block)) {
            event.body.clear();
            add_record(bare, event);
        }
        block = std::move(bare);
    }
    block.records.shrink_to_fit();  // a server with little to do has a block for each record
    const std::lock_guard lock(recent_mutex_);
    recent_count_ += block.count;
    recent_.push_back(std::make_shared<const PlainBlock>(std::move(block)));
    while (recent_count_ - recent_.front()->count >= max_recent) {
        recent_count_ -= recent_.front()->count;
        recent_.pop_front();
    }
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
            PlainBlock block;
            for (const Event& event : events) add_record(block, event);
            remember(std::move(block));
            return {};
        });
    }
}

std::vector<Event> EventLog::recent() const {
    std::vector<std::shared_ptr<const PlainBlock>> blocks;
    {
        const std::lock_guard lock(recent_mutex_);
        blocks.assign(recent_.rbegin(), recent_.rend());
    }
    std::vector<Event> out;
    for (const auto& block : blocks) {
        std::vector<Event> events = records_of(*block);
        std::move(events.rbegin(), events.rend(), std::back_inserter(out));
    }
    if (out.size() > max_recent) out.resize(max_recent);
    return out;
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
