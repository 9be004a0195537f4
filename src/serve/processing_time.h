// What every answer says of its own time. Knows no route.
#pragma once

#include <fmt/format.h>

#include "base/clock.h"
#include "http/headers.h"

namespace retort::serve {

// `start`: of the request, base::monotonic_seconds().
inline void tell_processing_time(http::Headers& headers, double start) {
    headers.set("openai-processing-ms", fmt::format("{:.0f}", (base::monotonic_seconds() - start) * 1000));
}

}  // namespace retort::serve
