// Threads for work of microseconds, as decoding a token is: hundreds of short products, each to be shared
// out. Items are claimed one at a time, so a thread that the system has put aside holds nobody up unless it
// is inside an item; idle threads spin for a moment and then sleep. Training, whose work is of milliseconds,
// uses base/parallel.h (OpenMP); a step uses one of the two, as their idle threads would be in each other's
// way.
#pragma once

#include <cstdint>

namespace retort::tensor {

using TeamItem = void (*)(const void* context, std::int64_t item);

// Calls item(context, i) for each i in [0, count), on as many threads as base::thread_count() says, the
// caller's among them, and returns when all are done. Inline when called from inside an item, or while
// another thread has the team.
void team_run(std::int64_t count, TeamItem item, const void* context);

template <typename Body>
void team_each(std::int64_t count, const Body& body) {
    if (count <= 1) {
        for (std::int64_t i = 0; i < count; ++i) body(i);
        return;
    }
    team_run(
        count, [](const void* context, std::int64_t i) { (*static_cast<const Body*>(context))(i); }, &body);
}

}  // namespace retort::tensor
