// Counters and histograms of the server, and their Prometheus text. Knows no request.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generate/engine.h"

namespace retort::serve {

class Histogram {
  public:
    explicit Histogram(std::span<const double> bounds)
        : bounds_(bounds.begin(), bounds.end()), counts_(bounds.size() + 1) {}
    void observe(double value);
    void write(std::string& out, std::string_view name, std::string_view help) const;

  private:
    mutable std::mutex mutex_;
    std::vector<double> bounds_;
    std::vector<std::uint64_t> counts_;  // one more than bounds: above the last
    double sum_ = 0;
};

// How a request ended, as the label finished_reason.
enum class Outcome { stop, length, tool_calls, content_filter, abort, error };

class Metrics {
  public:
    Metrics();
    void count(Outcome outcome) { outcomes_[static_cast<std::size_t>(outcome)].fetch_add(1); }

    Histogram time_to_first_token;
    Histogram inter_token_latency;
    Histogram request_latency;
    Histogram queue_time;

    // Prometheus' text format; `statistics` is null while no model is loaded.
    [[nodiscard]] std::string text(const generate::EngineStatistics* statistics) const;

  private:
    std::array<std::atomic<std::uint64_t>, 6> outcomes_{};
};

}  // namespace retort::serve
