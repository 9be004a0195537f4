// What a model costs to run: tokens a second, processor time, energy, bytes on disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "generate/engine.h"
#include "stats/estimate.h"

namespace retort::evaluate {

// Bytes of a file, or of all files below a folder.
Result<std::int64_t> size_on_disk(const std::filesystem::path& path);

// User and system time of the whole process, all threads.
double process_cpu_seconds();

// Energy counters of the processor packages, where the machine shows them (Linux powercap, Intel RAPL's
// names; usually readable by root only, and absent in most virtual machines).
class EnergyMeter {
  public:
    // None where nothing can be read.
    static std::optional<EnergyMeter> open(const std::filesystem::path& powercap = "/sys/class/powercap");
    // Since open() or the last call. A counter that wrapped is counted on once, so a call at least every few
    // minutes is needed. None once a counter cannot be read any more.
    std::optional<double> joules();

  private:
    struct Counter {
        std::filesystem::path path;
        std::uint64_t last = 0;
        std::uint64_t wraps_at = 0;
    };
    std::vector<Counter> counters_;
};

struct SpeedOptions {
    std::int64_t tokens = 64;  // generated for each prompt, whatever the model would have stopped at
    int runs = 3;              // over all prompts, after one unmeasured prompt
};
struct DecodeSpeed {
    stats::Estimate tokens_per_second;  // median, least and most of the runs; after each answer's first token
    double prompt_tokens_per_second = 0;     // up to the first token; median
    double cpu_seconds_per_1000_tokens = 0;  // of prompts and answers, per generated token; median
    std::optional<double> joules_per_1000_tokens;
};
// One answer at a time, greedy, fixed length: so that models are compared on the same work.
Result<DecodeSpeed> measure_decoding(generate::Engine& engine,
                                     std::span<const std::vector<std::int32_t>> prompts,
                                     const SpeedOptions& options = {});

}  // namespace retort::evaluate
