// An event log followed as it grows, so that what the guard has seen survives any end of the process: a
// checkpoint of the guard with the places reached in each file, and a journal of what was read since, in its
// order, which is read again in that order. Verdicts then come again as they came, with the same numbers, and
// whoever keeps them drops those it has. Knows no store.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/journal.h"
#include "base/result.h"
#include "guard/guard.h"

namespace retort::guard {

struct FollowerOptions {
    std::filesystem::path events;
    std::filesystem::path state;  // a folder of its own
    double checkpoint_seconds = 60;
};

class Follower {
  public:
    using OnVerdict = std::function<Status(const Verdict&)>;
    // Reads again what the last process had read since its checkpoint.
    static Result<std::unique_ptr<Follower>> open(FollowerOptions options, GuardOptions guard,
                                                  const OnVerdict& on_verdict);
    ~Follower();
    Follower(const Follower&) = delete;
    Follower& operator=(const Follower&) = delete;

    // Everything that is whole in the log and has not been read; returns how many events.
    Result<std::uint64_t> poll(const OnVerdict& on_verdict);
    // Which accounts no verdict may touch, from the next event on.
    Status set_allowed(const std::set<store::ShortHash>& allowed);
    Status checkpoint();
    [[nodiscard]] Guard& guard() { return guard_; }

  private:
    Follower(FollowerOptions options, GuardOptions guard)
        : options_(std::move(options)), guard_(std::move(guard)) {}
    Status load();
    Status read_range(const std::string& file, std::uint64_t from, std::uint64_t to,
                      const OnVerdict& on_verdict, std::uint64_t& events);

    FollowerOptions options_;
    Guard guard_;
    std::map<std::string, std::uint64_t> places_;  // by file: bytes read
    std::set<store::ShortHash> allowed_;
    std::uint64_t number_ = 0;  // of the checkpoint
    std::unique_ptr<base::Journal> journal_;
    double last_checkpoint_ = 0;
    int lock_ = -1;
};

}  // namespace retort::guard
