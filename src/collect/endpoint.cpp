#include "collect/endpoint.h"

#include <algorithm>
#include <cmath>

namespace retort::collect {

double full_jitter(base::RandomStream& random, int failures, double base_seconds, double max_seconds) {
    return random.uniform() * std::min(max_seconds, base_seconds * std::pow(2.0, std::min(failures, 30)));
}

EndpointHealth::EndpointHealth(const EndpointOptions& options, std::uint64_t seed)
    : options_(options),
      random_(seed, 0x656e64706f696e74),
      limit_(std::clamp(options.initial_concurrency, 1, std::max(1, options.max_concurrency))) {}

bool EndpointHealth::may_start(double now) const {
    if (now < closed_until_) return false;
    const int allowed = breaker_open() ? 1 : concurrency();
    return in_flight_ < allowed;
}

void EndpointHealth::succeeded(double now) {
    --in_flight_;
    failures_ = 0;
    overloads_ = 0;
    if (now >= closed_until_) closed_until_ = 0;
    // One more in flight for each round of `limit_` answers.
    limit_ = std::min<double>(options_.max_concurrency, limit_ + 1.0 / std::floor(limit_));
}

void EndpointHealth::overloaded(double now, double started_at, double retry_after) {
    --in_flight_;
    if (cut(now, started_at)) ++overloads_;
    close_for(now, overloads_, retry_after);
}

void EndpointHealth::failed(double now, double started_at, double retry_after) {
    --in_flight_;
    const bool first_of_its_round = cut(now, started_at);
    if (!first_of_its_round) return;
    ++failures_;
    close_for(now, failures_, retry_after);
}

// Requests that were in flight together fail together: the first to end is the signal, the others add
// nothing.
bool EndpointHealth::cut(double now, double started_at) {
    if (started_at < last_cut_) return false;
    limit_ = std::max(1.0, std::floor(limit_ / 2));
    last_cut_ = now;
    return true;
}

void EndpointHealth::close_for(double now, int failures, double retry_after) {
    double wait = full_jitter(random_, failures, options_.backoff_base_seconds, options_.backoff_max_seconds);
    // The server's own time is a floor; a little above it keeps several clients from coming back as one.
    if (retry_after >= 0) wait = retry_after + std::min(0.1 * retry_after, 1.0) * random_.uniform();
    closed_until_ = std::max(closed_until_, now + wait);
}

}  // namespace retort::collect
