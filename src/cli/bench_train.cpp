// retort bench train: training steps of a model's shape on random tokens, with their share of the machine's
// GEMM rate, which is measured in the same process between the steps.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/random.h"
#include "cli/commands.h"
#include "cli/distill_options.h"
#include "cli/model_path.h"
#include "model/weights.h"
#include "tensor/gemm.h"
#include "tensor/machine_rate.h"
#include "train/trainer.h"

namespace retort::cli {

namespace {

struct BenchTrainOptions {
    std::string shape = "135m";
    std::int64_t rows = 2;
    std::int64_t row_length = 512;
    std::int64_t steps = 4;
    std::string objective = "ce";
    std::string dtype = "auto";
    bool recompute = false;
    std::int64_t lora_rank = 0;
    std::string moments = "f32";
    std::string gradients = "f32";
};

Result<model::ModelConfig> shape_config(const std::string& shape) {
    model::ModelConfig config;
    config.architecture = "llama";
    config.vocab_size = 49152;
    config.head_dim = 64;
    config.context_length = 8192;
    config.tie_embeddings = true;
    config.rope.theta = 100000;
    if (shape == "135m") {  // SmolLM2-135M
        config.hidden_size = 576;
        config.intermediate_size = 1536;
        config.layer_count = 30;
        config.head_count = 9;
        config.kv_head_count = 3;
        return config;
    }
    if (shape == "25m") {
        config.hidden_size = 288;
        config.intermediate_size = 768;
        config.layer_count = 12;
        config.head_count = 9;
        config.kv_head_count = 3;
        config.head_dim = 32;
        return config;
    }
    RETORT_TRY(const auto path, resolve_model(shape));
    RETORT_TRY(const model::Weights weights, model::load_weights(path));
    return weights.config;
}

std::vector<data::PackedBatch> random_rows(const BenchTrainOptions& options, std::int64_t vocab) {
    base::RandomStream random(1);
    std::vector<data::PackedBatch> rows(static_cast<std::size_t>(options.rows));
    for (data::PackedBatch& row : rows) {
        for (std::int64_t i = 0; i < options.row_length; ++i) {
            row.tokens.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocab))));
            row.positions.push_back(static_cast<std::int32_t>(i));
        }
        row.targets.assign(row.tokens.begin() + 1, row.tokens.end());
        row.targets.push_back(-1);
        row.sequence_starts = {0, static_cast<std::int32_t>(options.row_length)};
        row.example_indices = {0};
        row.trained_tokens = options.row_length - 1;
    }
    return rows;
}

Status run_bench_train(const BenchTrainOptions& options, const CommonOptions& common) {
    RETORT_TRY(const model::ModelConfig config, shape_config(options.shape));
    RETORT_TRY(const train::ObjectiveKind objective, train::objective_from_name(options.objective));
    const bool bf16 = options.dtype == "bf16" || (options.dtype == "auto" && tensor::has_fast_bf16());
    tensor::GemmProbe probe({}, bf16 && tensor::has_fast_bf16());
    for (int i = 0; i < 4; ++i) probe.measure();
    model::Parameters student = model::random_parameters(config, 1);
    model::Parameters teacher;
    if (objective != train::ObjectiveKind::ce) teacher = model::random_parameters(config, 2);
    const auto rows = random_rows(options, config.vocab_size);
    train::TrainOptions train_options;
    train_options.objective.kind = objective;
    train_options.rows_per_step = options.rows;
    train_options.rows_per_micro_batch = options.rows;
    train_options.max_steps = options.steps + 1;
    train_options.bf16 = bf16;
    train_options.recompute = options.recompute;
    train_options.lora.rank = options.lora_rank;
    RETORT_TRY(train_options.optimiser.moments, storage_type("moments", options.moments));
    RETORT_TRY(train_options.optimiser.gradients, storage_type("gradients", options.gradients));
    train_options.quiet = true;
    train_options.on_step = [&probe](const train::StepRecord&) {
        for (int i = 0; i < 4; ++i) probe.measure();
    };
    const model::Parameters* used = objective == train::ObjectiveKind::ce ? nullptr : &teacher;
    const train::TrainPlan plan =
        train::plan_training(config, used == nullptr ? nullptr : &teacher.layout.config, rows, train_options);
    RETORT_TRY(const train::TrainReport report, train::train(student, used, rows, train_options));
    // The first step touches memory for the first time; the median of the others is what a long run sees.
    std::vector<double> seconds;
    for (std::size_t i = 1; i < report.curve.size(); ++i) seconds.push_back(report.curve[i].seconds);
    std::sort(seconds.begin(), seconds.end());
    const double step = seconds[seconds.size() / 2];
    const double tokens = static_cast<double>(report.curve.back().tokens) / step;
    const double rate = tokens * plan.flops_per_token;
    const double peak = probe.best();
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const double peak_bytes =
        static_cast<double>(usage.ru_maxrss) * 1024 - static_cast<double>(probe.bytes());
    if (common.json) {
        fmt::print("{}\n", nlohmann::json{{"machine", base::cpu_description()},
                                          {"shape", options.shape},
                                          {"parameters", config.parameter_count()},
                                          {"objective", options.objective},
                                          {"dtype", bf16 ? "bf16" : "f32"},
                                          {"tokens_per_second", tokens},
                                          {"flops_per_second", rate},
                                          {"gemm_flops_per_second", peak},
                                          {"share", rate / peak},
                                          {"step_seconds", step},
                                          {"peak_bytes", peak_bytes},
                                          {"lora_rank", options.lora_rank},
                                          {"recompute", options.recompute},
                                          {"moments", options.moments},
                                          {"gradients", options.gradients},
                                          {"planned_bytes", plan.memory_bytes},
                                          {"plan", train::memory_text(plan)}}
                               .dump());
        return {};
    }
    fmt::print("{}\n", base::cpu_description());
    fmt::print("{} ({:.1f}M parameters), {} x {} tokens, {}, {}\n", options.shape,
               static_cast<double>(config.parameter_count()) / 1e6, options.rows, options.row_length,
               options.objective, bf16 ? "bf16" : "f32");
    fmt::print("  {:8.1f} tokens/s   {:.3f} s a step\n", tokens, step);
    fmt::print("  {:8.1f} GFLOP/s of {:.1f} (GEMM, between the steps): {:.0f} % of the machine\n",
               rate * 1e-9, peak * 1e-9, 100 * rate / peak);
    fmt::print("  {} peak memory; planned {}\n", base::bytes_text(peak_bytes), train::memory_text(plan));
    return {};
}

}  // namespace

void add_bench_train(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<BenchTrainOptions>();
    CLI::App& command = commands.add_nested(
        bench, "train", "training steps on random tokens, and their share of the GEMM rate",
        {"retort bench train", "retort bench train --shape 25m --rows 4 --objective fkl"},
        [options](const CommonOptions& common) { return run_bench_train(*options, common); });
    command.add_option("--shape", options->shape, "135m (SmolLM2's), 25m, or a model whose shape is taken")
        ->capture_default_str();
    command.add_option("--rows", options->rows, "packed rows a step")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--row-length", options->row_length, "tokens a row")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--steps", options->steps, "counted steps, after one that is not")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--objective", options->objective, "ce or fkl (with a teacher of the same shape)")
        ->capture_default_str();
    command.add_option("--dtype", options->dtype, "auto, f32 or bf16")->capture_default_str();
    command.add_flag("--recompute", options->recompute, "compute activations twice to save memory");
    command.add_option("--lora-rank", options->lora_rank, "train adapters of this rank (0: all weights)")
        ->capture_default_str();
    command.add_option("--moments", options->moments, "AdamW's, kept in f32 or bf16")->capture_default_str();
    command.add_option("--gradients", options->gradients, "of the layers' matrices, kept in f32 or bf16")
        ->capture_default_str();
    commands.add_json_option(command);
}

}  // namespace retort::cli
