// How hard one endpoint may be pressed: requests in flight grow while it is healthy and are halved when it
// says it is overloaded; after failures it is left alone for a while, then probed with one request. Time is
// an argument, so all of it is tested without waiting. Knows nothing of requests.
#pragma once

#include <cstdint>

#include "base/random.h"

namespace retort::collect {

struct EndpointOptions {
    int initial_concurrency = 4;
    int max_concurrency = 32;
    double backoff_base_seconds = 0.5;
    double backoff_max_seconds = 30;
    int breaker_failures = 5;  // in a row, before it is left alone but for one probe
};

// Full jitter: uniform in [0, min(maximum, base · 2^failures)).
double full_jitter(base::RandomStream& random, int failures, double base_seconds, double max_seconds);

class EndpointHealth {
  public:
    EndpointHealth(const EndpointOptions& options, std::uint64_t seed);

    // Whether one more request may start now.
    [[nodiscard]] bool may_start(double now) const;
    // When may_start() can next become true by time alone (now, when only a finished request can).
    [[nodiscard]] double ready_at() const { return closed_until_; }

    void started() { ++in_flight_; }
    void succeeded(double now);
    // 429 or 503: it is alive but full. retry_after < 0: it named no time.
    void overloaded(double now, double started_at, double retry_after);
    // Another 5xx, a broken connection, a timeout.
    void failed(double now, double started_at, double retry_after);
    // The request ended without telling anything of the endpoint: cancelled, or a fault of the request
    // itself.
    void ended() { --in_flight_; }

    [[nodiscard]] int concurrency() const { return static_cast<int>(limit_); }
    [[nodiscard]] int in_flight() const { return in_flight_; }
    [[nodiscard]] int failures_in_a_row() const { return failures_; }
    [[nodiscard]] bool breaker_open() const { return failures_ >= options_.breaker_failures; }

  private:
    bool cut(double now, double started_at);
    void close_for(double now, int failures, double retry_after);

    EndpointOptions options_;
    base::RandomStream random_;
    double limit_;
    int in_flight_ = 0;
    int failures_ = 0;   // rounds in a row that failed, overload not counted
    int overloads_ = 0;  // the same of overload
    double last_cut_ = -1;
    double closed_until_ = 0;
};

}  // namespace retort::collect
