#include "cli/distill_options.h"

namespace retort::cli {

Status DistillSettings::finish() {
    RETORT_TRY(options.train.objective.kind, train::objective_from_name(objective));
    RETORT_CHECK(train::check_objective(options.train.objective));
    RETORT_TRY(options.train.schedule, train::schedule_from_name(schedule));
    if (dtype != "auto" && dtype != "f32" && dtype != "bf16") {
        return fail(ErrorCode::invalid_argument, "dtype \"{}\" is not known; use auto, f32 or bf16", dtype);
    }
    options.auto_dtype = dtype == "auto";
    options.train.bf16 = dtype == "bf16";
    return {};
}

void add_distill_options(CLI::App& command, DistillSettings& settings) {
    train::TrainOptions& train = settings.options.train;
    train::StudentStart& start = settings.options.start;
    command.add_option("--keep-layers", start.keep_layers,
                       "start the student with only so many layers (0: all)");
    command.add_option("--layer-choice", start.method, "which layers to keep: influence or even")
        ->capture_default_str();
    command.add_option("--layers", start.layers, "keep exactly these layers, as 0,1,2,29")->delimiter(',');
    command
        .add_option("--objective", settings.objective,
                    "ce (the text alone), or against the teacher's distribution: fkl, rkl, jsd, skew-fkl, "
                    "skew-rkl, tvd")
        ->capture_default_str();
    command
        .add_option("--beta", train.objective.beta,
                    "of jsd: 0 is fkl, 1 is rkl, between them a mixture of both sides")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    command
        .add_option("--alpha", train.objective.alpha,
                    "of skew-fkl and skew-rkl: the other side's share, 0 to 1")
        ->check(CLI::Range(0.0, 0.9999))
        ->capture_default_str();
    command
        .add_option("--temperature", train.objective.temperature,
                    "of both distributions; the divergence is multiplied by its square")
        ->capture_default_str();
    command.add_option("--ce-mix", train.objective.ce_mix, "share of ce mixed into the objective, 0 to 1")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    command.add_option("--epochs", train.epochs, "passes over the data")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--max-steps", train.max_steps, "stop after so many steps (0: as epochs say)");
    command.add_option("--learning-rate", train.learning_rate, "peak")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--schedule", settings.schedule, "constant, cosine or wsd")->capture_default_str();
    command.add_option("--warmup", train.warmup_share, "share of the steps")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    command.add_option("--weight-decay", train.optimiser.weight_decay, "of matrices")->capture_default_str();
    command.add_option("--clip", train.optimiser.clip_norm, "limit of the gradient's norm (0: none)")
        ->capture_default_str();
    command.add_option("--row-length", settings.options.row_length, "tokens a packed row")
        ->check(CLI::Range(16, 131072))
        ->capture_default_str();
    command.add_option("--rows-per-step", train.rows_per_step, "packed rows an optimiser step")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--rows-per-micro-batch", train.rows_per_micro_batch, "packed rows in memory at once")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--seed", train.seed, "of the order of the rows")->capture_default_str();
    command.add_option("--dtype", settings.dtype, "of products: auto, f32 or bf16")->capture_default_str();
    command.add_flag("--recompute", train.recompute,
                     "compute activations twice to save memory; the same bits");
    command.add_option("--checkpoint-steps", train.checkpoint_steps,
                       "save also every so many steps (0: by time only)");
    command.add_option("--checkpoint-seconds", train.checkpoint_seconds, "save at least so often")
        ->capture_default_str();
}

Status read_student_table(const formats::TomlTable& table, DistillSettings& settings) {
    train::StudentStart& start = settings.options.start;
    RETORT_TRY(const std::string model, table.string_or("model", start.model.string()));
    start.model = model;
    RETORT_TRY(start.keep_layers, table.integer_or("keep_layers", start.keep_layers, 0, 10000));
    RETORT_TRY(start.method, table.choice_or("layer_choice", start.method, {"influence", "even"}));
    RETORT_TRY(const std::vector<double> layers, table.has("layers")
                                                     ? table.numbers("layers")
                                                     : Result<std::vector<double>>(std::vector<double>{}));
    for (const double layer : layers) start.layers.push_back(static_cast<std::int64_t>(layer));
    return {};
}

Status read_distill_table(const formats::TomlTable& table, DistillSettings& settings) {
    train::TrainOptions& train = settings.options.train;
    RETORT_TRY(settings.objective, table.string_or("objective", settings.objective));
    RETORT_TRY(train.objective.temperature,
               table.number_or("temperature", train.objective.temperature, 1e-3, 1e3));
    RETORT_TRY(train.objective.ce_mix, table.number_or("ce_mix", train.objective.ce_mix, 0, 1));
    RETORT_TRY(train.objective.beta, table.number_or("beta", train.objective.beta, 0, 1));
    RETORT_TRY(train.objective.alpha, table.number_or("alpha", train.objective.alpha, 0, 0.9999));
    RETORT_TRY(train.epochs, table.number_or("epochs", train.epochs, 1e-6, 1e6));
    RETORT_TRY(train.max_steps, table.integer_or("max_steps", train.max_steps, 0));
    RETORT_TRY(train.learning_rate, table.number_or("learning_rate", train.learning_rate, 0, 10));
    RETORT_TRY(settings.schedule, table.string_or("schedule", settings.schedule));
    RETORT_TRY(train.warmup_share, table.number_or("warmup", train.warmup_share, 0, 1));
    RETORT_TRY(train.optimiser.weight_decay,
               table.number_or("weight_decay", train.optimiser.weight_decay, 0, 10));
    RETORT_TRY(train.optimiser.clip_norm, table.number_or("clip", train.optimiser.clip_norm, 0));
    RETORT_TRY(settings.options.row_length,
               table.integer_or("row_length", settings.options.row_length, 16, 131072));
    RETORT_TRY(train.rows_per_step, table.integer_or("rows_per_step", train.rows_per_step, 1, 100000));
    RETORT_TRY(train.rows_per_micro_batch,
               table.integer_or("rows_per_micro_batch", train.rows_per_micro_batch, 1, 100000));
    RETORT_TRY(const std::int64_t seed, table.integer_or("seed", static_cast<std::int64_t>(train.seed), 0));
    train.seed = static_cast<std::uint64_t>(seed);
    RETORT_TRY(settings.dtype, table.choice_or("dtype", settings.dtype, {"auto", "f32", "bf16"}));
    RETORT_TRY(train.recompute, table.boolean_or("recompute", train.recompute));
    RETORT_TRY(train.checkpoint_steps, table.integer_or("checkpoint_steps", train.checkpoint_steps, 0));
    RETORT_TRY(train.checkpoint_seconds, table.number_or("checkpoint_seconds", train.checkpoint_seconds, 0));
    return settings.finish();
}

}  // namespace retort::cli
