#include "evaluate/cost.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>

#include "base/clock.h"
#include "base/interrupt.h"
#include "stats/summary.h"

namespace retort::evaluate {

namespace fs = std::filesystem;

Result<std::int64_t> size_on_disk(const fs::path& path) {
    std::error_code error;
    if (fs::is_directory(path, error)) {
        std::int64_t total = 0;
        for (auto entry = fs::recursive_directory_iterator(path, error);
             !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
            std::error_code entry_error;
            if (!entry->is_regular_file(entry_error) || entry_error) continue;
            const auto bytes = entry->file_size(entry_error);
            if (!entry_error) total += static_cast<std::int64_t>(bytes);
        }
        if (error) return fail(ErrorCode::io, "{}: {}", path.string(), error.message());
        return total;
    }
    const auto bytes = fs::file_size(path, error);
    if (error) return fail(ErrorCode::not_found, "{}: {}", path.string(), error.message());
    return static_cast<std::int64_t>(bytes);
}

double process_cpu_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

namespace {

// Not by base::read_file(): what sysfs shows cannot be mapped.
std::optional<std::uint64_t> read_counter(const fs::path& path) {
    std::ifstream in(path);
    std::uint64_t value = 0;
    if (!(in >> value)) return std::nullopt;
    return value;
}

}  // namespace

std::optional<EnergyMeter> EnergyMeter::open(const fs::path& powercap) {
    EnergyMeter meter;
    std::error_code error;
    for (auto entry = fs::directory_iterator(powercap, error); !error && entry != fs::directory_iterator();
         entry.increment(error)) {
        // "intel-rapl:0" is a package; "intel-rapl:0:1" a part of it, and "intel-rapl-mmio:0" the same again.
        const std::string name = entry->path().filename().string();
        if (!name.starts_with("intel-rapl:") || std::count(name.begin(), name.end(), ':') != 1) continue;
        Counter counter;
        counter.path = entry->path() / "energy_uj";
        const auto now = read_counter(counter.path);
        if (!now) continue;
        counter.last = *now;
        counter.wraps_at = read_counter(entry->path() / "max_energy_range_uj").value_or(0);
        meter.counters_.push_back(counter);
    }
    if (meter.counters_.empty()) return std::nullopt;
    return meter;
}

std::optional<double> EnergyMeter::joules() {
    double total = 0;
    for (Counter& counter : counters_) {
        const auto now = read_counter(counter.path);
        if (!now) return std::nullopt;
        const std::uint64_t used =
            *now >= counter.last ? *now - counter.last : counter.wraps_at - counter.last + *now;
        total += 1e-6 * static_cast<double>(used);
        counter.last = *now;
    }
    return total;
}

namespace {

struct RunTotals {
    double prompt_seconds = 0;
    double decode_seconds = 0;
    std::int64_t prompt_tokens = 0;
    std::int64_t decoded_tokens = 0;  // after each answer's first
    std::int64_t generated_tokens = 0;
};

Status run_prompt(generate::Engine& engine, const std::vector<std::int32_t>& prompt, std::int64_t tokens,
                  RunTotals& totals) {
    generate::Request request;
    request.prompt = prompt;
    request.sampling.temperature = 0;
    request.max_tokens = tokens;
    std::int64_t count = 0;
    double first = 0;
    double last = 0;
    const double start = base::monotonic_seconds();
    RETORT_CHECK(engine.generate(std::move(request), [&](const generate::TokenEvent&) {
        last = base::monotonic_seconds();
        if (count++ == 0) first = last;
        return !base::interrupted();
    }));
    if (base::interrupted()) return fail(ErrorCode::cancelled, "measuring speed was interrupted");
    if (count == 0) return {};
    totals.prompt_seconds += first - start;
    totals.decode_seconds += last - first;
    totals.prompt_tokens += static_cast<std::int64_t>(prompt.size());
    totals.decoded_tokens += count - 1;
    totals.generated_tokens += count;
    return {};
}

double rate(std::int64_t count, double seconds) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

}  // namespace

Result<DecodeSpeed> measure_decoding(generate::Engine& engine,
                                     std::span<const std::vector<std::int32_t>> prompts,
                                     const SpeedOptions& options) {
    if (prompts.empty() || options.tokens < 2 || options.runs < 1) {
        return fail(
            ErrorCode::invalid_argument,
            "speed needs a prompt, at least 2 tokens and a run; it got {} prompts, {} tokens and {} runs",
            prompts.size(), options.tokens, options.runs);
    }
    RunTotals warm_up;
    RETORT_CHECK(run_prompt(engine, prompts[0], options.tokens, warm_up));
    std::optional<EnergyMeter> energy = EnergyMeter::open();
    std::vector<double> decode_rates;
    std::vector<double> prompt_rates;
    std::vector<double> cpu_seconds;
    std::vector<double> joules;
    for (int run = 0; run < options.runs; ++run) {
        RunTotals totals;
        const double cpu_start = process_cpu_seconds();
        if (energy) energy->joules();
        for (const std::vector<std::int32_t>& prompt : prompts) {
            RETORT_CHECK(run_prompt(engine, prompt, options.tokens, totals));
        }
        const double cpu = process_cpu_seconds() - cpu_start;
        if (totals.decoded_tokens == 0) {
            return fail(ErrorCode::internal, "the model generated no second token to time");
        }
        const double thousands = static_cast<double>(totals.generated_tokens) / 1000;
        decode_rates.push_back(rate(totals.decoded_tokens, totals.decode_seconds));
        prompt_rates.push_back(rate(totals.prompt_tokens, totals.prompt_seconds));
        cpu_seconds.push_back(cpu / thousands);
        if (energy) {
            if (const auto used = energy->joules()) joules.push_back(*used / thousands);
        }
    }
    DecodeSpeed speed;
    const auto [least, most] = std::minmax_element(decode_rates.begin(), decode_rates.end());
    speed.tokens_per_second = {stats::median(decode_rates), *least, *most};
    speed.prompt_tokens_per_second = stats::median(prompt_rates);
    speed.cpu_seconds_per_1000_tokens = stats::median(cpu_seconds);
    if (!joules.empty()) speed.joules_per_1000_tokens = stats::median(joules);
    return speed;
}

}  // namespace retort::evaluate
