// retort bench peak: what this machine can do at most, which every other performance line states its share
// of.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/cpu.h"
#include "base/parallel.h"
#include "cli/commands.h"
#include "tensor/gemm.h"
#include "tensor/machine_rate.h"

namespace retort::cli {

namespace {

struct BenchPeakOptions {
    double seconds = 0.6;
    std::int64_t read_megabytes = 512;
};

// Square ones for the rate itself; the others are a 135M model's MLP and attention over 512 packed tokens.
constexpr tensor::GemmSize sizes[] = {
    {1024, 1024, 1024}, {2048, 2048, 2048}, {512, 1536, 576}, {512, 576, 576}};

struct GemmRate {
    tensor::GemmSize size;
    double flops_per_second;
};

Result<std::vector<GemmRate>> measure_gemm(bool bf16, double seconds) {
    std::vector<GemmRate> rates;
    for (const tensor::GemmSize& size : sizes) {
        RETORT_TRY(const double rate, tensor::gemm_rate(size, bf16, seconds));
        rates.push_back({size, rate});
    }
    return rates;
}

double best_of(const std::vector<GemmRate>& rates) {
    double best = 0;
    for (const GemmRate& rate : rates) best = std::max(best, rate.flops_per_second);
    return best;
}

void print_gemm(std::string_view name, const std::vector<GemmRate>& rates) {
    fmt::print("GEMM {:<5} {:>8.1f} GFLOP/s\n", name, best_of(rates) * 1e-9);
    for (const GemmRate& rate : rates) {
        fmt::print("  {:>5} x {:<5} by {:<5} {:>7.1f} GFLOP/s\n", rate.size.m, rate.size.n, rate.size.k,
                   rate.flops_per_second * 1e-9);
    }
}

nlohmann::json gemm_json(const std::vector<GemmRate>& rates) {
    nlohmann::json json;
    json["flops_per_second"] = best_of(rates);
    for (const GemmRate& rate : rates) {
        json["sizes"].push_back({{"m", rate.size.m},
                                 {"n", rate.size.n},
                                 {"k", rate.size.k},
                                 {"flops_per_second", rate.flops_per_second}});
    }
    return json;
}

Status run_bench_peak(const BenchPeakOptions& options, const CommonOptions& common) {
    RETORT_TRY(const auto f32, measure_gemm(false, options.seconds));
    std::vector<GemmRate> bf16;
    if (tensor::has_fast_bf16()) {
        RETORT_TRY(bf16, measure_gemm(true, options.seconds));
    }
    RETORT_TRY(const double read, tensor::memory_read_rate(options.read_megabytes << 20U, 8));

    if (common.json) {
        nlohmann::json json = {{"machine", base::cpu_description()},
                               {"isa", base::isa_name(base::active_isa())},
                               {"threads", base::thread_count()},
                               {"gemm_f32", gemm_json(f32)},
                               {"memory_read_bytes_per_second", read}};
        json["gemm_bf16"] = bf16.empty() ? nlohmann::json() : gemm_json(bf16);
        fmt::print("{}\n", json.dump(2));
        return {};
    }
    fmt::print("{}; {} threads, {}\n", base::cpu_description(), base::thread_count(),
               base::isa_name(base::active_isa()));
    print_gemm("f32", f32);
    if (bf16.empty()) {
        fmt::print("GEMM bf16      (no bf16 hardware under this instruction set)\n");
    } else {
        print_gemm("bf16", bf16);
    }
    fmt::print("memory read {:>7.1f} GB/s over {} MiB\n", read * 1e-9, options.read_megabytes);
    return {};
}

}  // namespace

void add_bench_peak(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<BenchPeakOptions>();
    CLI::App& app = commands.add_nested(
        bench, "peak",
        "the machine's own limit: GEMM rate and memory read bandwidth, the best of several tries",
        {"retort bench peak", "retort bench peak --json --threads 1", "RETORT_ISA=avx2 retort bench peak"},
        [options](const CommonOptions& common) { return run_bench_peak(*options, common); });
    app.add_option("--seconds", options->seconds, "time for each GEMM size")
        ->type_name("S")
        ->check(CLI::Range(0.01, 60.0));
    app.add_option("--read-size", options->read_megabytes,
                   "memory to read, in MiB: several times the last cache")
        ->type_name("MIB")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20U));
    commands.add_json_option(app);
}

}  // namespace retort::cli
