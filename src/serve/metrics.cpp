#include "serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace retort::serve {

namespace {

constexpr std::array<double, 14> short_bounds = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08,
                                                 0.1,   0.25,  0.5,  0.75, 1,    2.5,  5};
constexpr std::array<double, 14> long_bounds = {0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 20, 40, 60, 120};

void write_value(std::string& out, std::string_view name, std::string_view kind, std::string_view help,
                 double value) {
    out += fmt::format("# HELP retort:{0} {2}\n# TYPE retort:{0} {1}\nretort:{0} {3}\n", name, kind, help,
                       value);
}

}  // namespace

void Histogram::observe(double value) {
    const std::lock_guard lock(mutex_);
    const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
    ++counts_[static_cast<std::size_t>(bucket)];
    sum_ += value;
}

void Histogram::write(std::string& out, std::string_view name, std::string_view help) const {
    const std::lock_guard lock(mutex_);
    out += fmt::format("# HELP retort:{0} {1}\n# TYPE retort:{0} histogram\n", name, help);
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
        total += counts_[i];
        const std::string bound = i < bounds_.size() ? fmt::format("{}", bounds_[i]) : "+Inf";
        out += fmt::format("retort:{}_bucket{{le=\"{}\"}} {}\n", name, bound, total);
    }
    out += fmt::format("retort:{0}_sum {1}\nretort:{0}_count {2}\n", name, sum_, total);
}

Metrics::Metrics()
    : time_to_first_token(short_bounds),
      inter_token_latency(short_bounds),
      request_latency(long_bounds),
      queue_time(long_bounds) {}

std::string Metrics::text(const generate::EngineStatistics* statistics) const {
    const generate::EngineStatistics none;
    const generate::EngineStatistics& now = statistics != nullptr ? *statistics : none;
    std::string out;
    write_value(out, "num_requests_running", "gauge", "Requests being generated.",
                static_cast<double>(now.running));
    write_value(out, "num_requests_waiting", "gauge", "Requests that wait for a slot.",
                static_cast<double>(now.waiting));
    write_value(out, "kv_cache_usage_perc", "gauge", "Share of the KV cache in use, 1 is all.",
                now.kv_cache_usage);
    write_value(out, "prefix_cache_hits_total", "counter", "Prompt tokens found in the KV cache.",
                static_cast<double>(now.prefix_cache_hits));
    write_value(out, "prompt_tokens_total", "counter", "Prompt tokens of all requests.",
                static_cast<double>(now.prompt_tokens));
    write_value(out, "generation_tokens_total", "counter", "Tokens generated.",
                static_cast<double>(now.generated_tokens));
    out +=
        "# HELP retort:request_success_total Requests that ended, by how.\n"
        "# TYPE retort:request_success_total counter\n";
    constexpr std::array<std::string_view, 6> names = {"stop",           "length", "tool_calls",
                                                       "content_filter", "abort",  "error"};
    for (std::size_t i = 0; i < names.size(); ++i) {
        out += fmt::format("retort:request_success_total{{finished_reason=\"{}\"}} {}\n", names[i],
                           outcomes_[i].load());
    }
    time_to_first_token.write(out, "time_to_first_token_seconds", "From the request to its first token.");
    inter_token_latency.write(out, "inter_token_latency_seconds", "From one token of an answer to the next.");
    request_latency.write(out, "e2e_request_latency_seconds", "From the request to the end of its answer.");
    queue_time.write(out, "request_queue_time_seconds", "From the request to a slot of the engine.");
    return out;
}

}  // namespace retort::serve
