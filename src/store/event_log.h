// The event log: one record for each request, for the guard and the audit to read. Frames of a journal, each
// a block of records packed and compressed; identities are keyed hashes, prompts are absent unless asked for.
// The format is docs/formats/event_log.md. Knows no request and no server.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/journal.h"
#include "base/result.h"

namespace retort::store {

using ShortHash = std::array<std::uint8_t, 16>;  // of an identity; all zero: not known

struct Event {
    std::int64_t time_ms = 0;  // Unix, of the request
    std::string request_id;
    ShortHash account{};
    ShortHash key{};
    ShortHash address{};
    ShortHash user_agent{};
    std::string method;
    std::string route;
    std::string model;
    std::int64_t status = 0;
    std::string end;   // "finished", "aborted", "failed", "refused"
    std::string code;  // of a refusal
    bool stream = false;
    bool logprobs = false;
    bool logit_bias = false;
    std::int64_t prompt_tokens = 0;
    std::int64_t cached_tokens = 0;
    std::int64_t completion_tokens = 0;
    std::int64_t reasoning_tokens = 0;
    std::int64_t cost = 0;           // millionths of a dollar
    std::int64_t first_byte_us = 0;  // from the request
    std::int64_t total_us = 0;
    std::uint64_t parameters = 0;  // XXH3 of temperature, top_p, max_tokens …: equal settings, equal number
    std::int64_t messages = 0;     // of a conversation; 0: not one
    std::string body;              // of the request; only when asked for
    std::string plan;              // the account's
    ShortHash payment{};           // of whatever pays for the account
    std::string sketch;            // of the prompt, as guard/sketch.h writes it; empty: none was made
};

// Records one after another as they lie in a block before it is compressed; a block's payload of them.
struct PlainBlock {
    std::string records;
    std::size_t count = 0;
    std::int64_t last_time = 0;  // of the last record: times are written as differences
    bool bodies = false;         // some record has one
};
void add_record(PlainBlock& block, const Event& event);
std::string pack_block(const PlainBlock& block);
std::vector<Event> records_of(const PlainBlock& block);

// A block of records as a frame's payload, and back.
std::string write_block(const std::vector<Event>& events);
Result<std::vector<Event>> read_block(std::string_view payload);
// One line of JSON, with a line end. Every value is flat, so that a column store takes it as it is.
std::string event_json(const Event& event);
// The same columns as comma-separated values (RFC 4180), each of one type.
std::string event_csv_header();
std::string event_csv(const Event& event);

struct EventLogOptions {
    std::filesystem::path folder;
    double flush_seconds = 0.2;           // at most this much is lost by kill -9
    std::size_t block_events = 4096;      // of one block
    std::size_t block_bytes = 1U << 16U;  // likewise, before it is compressed
    std::size_t wake_bytes = 1U << 20U;   // of full blocks, which are written without waiting longer
    std::size_t max_waiting = 1U << 18;   // above which events are dropped and counted: requests do not wait
    std::int64_t file_bytes = std::int64_t{64} << 20U;
    // After which another file is begun: a file goes as a whole when its last record is old enough, so that a
    // record outlives the retention by at most this.
    double file_seconds = 86'400;
    std::int64_t retention_seconds = std::int64_t{90} * 86'400;
    double retention_poll_seconds = 600;
};

class EventLog {
  public:
    static Result<std::unique_ptr<EventLog>> open(EventLogOptions options);
    ~EventLog();  // writes what waits
    EventLog(const EventLog&) = delete;
    EventLog& operator=(const EventLog&) = delete;

    // Never blocks on the disk. Who fills a block compresses it: a thread that did it for all would take a
    // core for milliseconds on end, and requests would wait for that.
    void add(const Event& event);
    // Until all that was added is on the disk.
    Status flush();
    [[nodiscard]] std::uint64_t dropped() const { return dropped_.load(); }
    [[nodiscard]] std::uint64_t written() const { return written_.load(); }
    // The newest records on the disk, the newest first, without bodies: at most a thousand, from before this
    // start too.
    [[nodiscard]] std::vector<Event> recent() const;

  private:
    explicit EventLog(EventLogOptions options) : options_(std::move(options)) {}
    struct Block {
        PlainBlock plain;
        std::string packed;  // empty until it is
        bool written = false;
    };
    void run();
    // All that waits, in order; `lock` is given up.
    std::vector<std::shared_ptr<Block>> take_blocks(std::unique_lock<std::mutex>& lock);
    // The next file, where the one at hand is full or old.
    Status open_file();
    Status write(const std::vector<std::shared_ptr<Block>>& blocks);
    [[nodiscard]] bool is_full_age() const;
    void remember(PlainBlock block);
    void remember_files(const std::vector<std::filesystem::path>& files);
    void remove_old();

    EventLogOptions options_;
    std::unique_ptr<base::Journal> journal_;
    std::int64_t journal_bytes_ = 0;
    std::int64_t last_stamp_ = 0;  // in the newest file's name, milliseconds
    mutable std::mutex recent_mutex_;
    std::deque<std::shared_ptr<const PlainBlock>> recent_;  // the newest last
    std::size_t recent_count_ = 0;                          // records in them
    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable packed_;
    std::condition_variable flushed_;
    std::shared_ptr<Block> open_block_ = std::make_shared<Block>();
    std::deque<std::shared_ptr<Block>> full_;  // in order; the last of them may still be being compressed
    std::size_t full_bytes_ = 0;
    std::uint64_t added_ = 0;
    std::uint64_t settled_ = 0;  // written, or failed
    Status last_error_;
    bool stopping_ = false;
    bool asked_ = false;  // by flush()
    std::atomic<std::uint64_t> dropped_{0};
    std::atomic<std::uint64_t> written_{0};
    double last_retention_ = -1e9;
    double journal_since_ = 0;
    std::thread thread_;
};

// The files of a log, oldest first.
Result<std::vector<std::filesystem::path>> event_files(const std::filesystem::path& folder);
// Every record in order; a torn tail (of a server that was killed, or is writing) ends its file quietly.
Status read_events(const std::filesystem::path& folder, const std::function<Status(const Event&)>& on_event);

}  // namespace retort::store
