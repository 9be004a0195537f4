// Time: a monotonic clock for durations, and UTC text for records.
#pragma once

#include <cstdint>
#include <string>

namespace retort::base {

double monotonic_seconds();
// Processor time of all this process's threads so far.
double process_cpu_seconds();
std::int64_t unix_milliseconds();
// "2026-11-24T06:03:52Z" for a Unix time in seconds; now when none is given.
std::string utc_text(std::int64_t unix_seconds);
std::string utc_now();
// "3 h 02 min", "4 min 05 s", "12 s"
std::string duration_text(double seconds);
// "1.2 GB", "34.5 MB" (powers of ten)
std::string bytes_text(double bytes);

}  // namespace retort::base
