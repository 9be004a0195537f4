#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "base/clock.h"

namespace retort::base {

void install_logging() {
    auto logger = spdlog::stderr_color_mt("retort");
    logger->set_pattern("%H:%M:%S %^%l%$ %v");
    const char* level = std::getenv("RETORT_LOG");
    logger->set_level(level != nullptr ? spdlog::level::from_str(level) : spdlog::level::info);
    spdlog::set_default_logger(logger);
}

Progress::Progress(std::string label, std::uint64_t total, std::string unit, bool quiet)
    : label_(std::move(label)),
      total_(total),
      unit_(std::move(unit)),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(monotonic_seconds()) {}

Progress::~Progress() {
    if (!finished_ && terminal_ && last_print_ >= 0) std::fputc('\n', stderr);
}

void Progress::update(std::uint64_t done, std::string_view note) {
    done_ = done;
    const double now = monotonic_seconds();
    const double interval = terminal_ ? 0.1 : 5.0;
    if (quiet_ || now - (last_print_ < 0 ? start_ : last_print_) < interval) return;
    last_print_ = now;
    print(note, false);
}

void Progress::finish(std::string_view note) {
    if (finished_) return;
    finished_ = true;
    if (!quiet_) print(note, true);
}

void Progress::print(std::string_view note, bool last) {
    const double elapsed = monotonic_seconds() - start_;
    const double rate = elapsed > 0 ? static_cast<double>(done_ - std::min(done_, resumed_)) / elapsed : 0;
    std::string line = label_;
    if (total_ > 0) {
        line += fmt::format("  {:3.0f}%  {}/{} {}",
                            100.0 * static_cast<double>(done_) / static_cast<double>(total_), done_, total_,
                            unit_);
    } else {
        line += fmt::format("  {} {}", done_, unit_);
    }
    line += fmt::format("  {:.3g} {}/s", rate, unit_);
    if (last) {
        line += fmt::format("  took {}", duration_text(elapsed));
    } else if (total_ > 0 && rate > 0) {
        line += fmt::format("  {} left",
                            duration_text(static_cast<double>(total_ - std::min(done_, total_)) / rate));
    }
    if (!note.empty()) line += fmt::format("  {}", note);
    if (terminal_) {
        fmt::print(stderr, "\r\033[K{}{}", line, last ? "\n" : "");
    } else {
        fmt::print(stderr, "{}\n", line);
    }
    std::fflush(stderr);
}

}  // namespace retort::base
