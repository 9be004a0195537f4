// A program run where it can do no harm: no network, its own processes only, every file system read-only but
// a small one of its own that is gone afterwards, limits on time, memory, files and processes. Linux's own
// means (namespaces, resource limits); where the machine allows none, it refuses and says so. What the user
// may read, the program may read. Knows nothing of what it is run for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace retort::base {

struct SandboxLimits {
    double seconds = 10;                                   // of wall time and of each process's CPU time
    std::int64_t memory_bytes = std::int64_t{512} << 20U;  // of address space, each process
    std::int64_t file_bytes = std::int64_t{16} << 20U;     // of the file system that it may write to
    std::int64_t processes = 16;
    std::int64_t output_bytes = std::int64_t{1}
                                << 16U;  // what is kept of its output; the rest is read and dropped
};

struct SandboxOutcome {
    int exit_status = 0;  // or minus the signal that ended it
    bool timed_out = false;
    std::string output;  // standard output
    std::string errors;  // standard error
};

// program: found on PATH. It starts in an empty folder that it may write to, /tmp, with `input` on standard
// input and PATH, HOME and LANG alone in its environment.
Result<SandboxOutcome> run_in_sandbox(const std::vector<std::string>& program, std::string_view input,
                                      const SandboxLimits& limits);

}  // namespace retort::base
