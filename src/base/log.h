// What a person reads on standard error: messages, and progress of long jobs.
#pragma once

#include <spdlog/spdlog.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace retort::base {

// Messages go to standard error as "HH:MM:SS level text"; RETORT_LOG=debug|info|warn|error sets the level.
void install_logging();

// One line that is redrawn on a terminal; plain lines, at most one every five seconds, elsewhere.
// "distill  64%  320/500 steps  2.1 steps/s  1 min 26 s left  loss 2.31"
class Progress {
  public:
    Progress(std::string label, std::uint64_t total, std::string unit, bool quiet = false);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    // done counts from the start of the job, resumed work included.
    void update(std::uint64_t done, std::string_view note = {});
    void finish(std::string_view note = {});
    // Work already there when the job (re)started: not counted into the rate.
    void set_resumed(std::uint64_t done) { resumed_ = done; }

  private:
    void print(std::string_view note, bool last);
    std::string label_;
    std::uint64_t total_;
    std::string unit_;
    bool quiet_;
    bool terminal_;
    bool finished_ = false;
    std::uint64_t done_ = 0;
    std::uint64_t resumed_ = 0;
    double start_;
    double last_print_ = -1;
};

}  // namespace retort::base
