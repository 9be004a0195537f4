#include "cli/distill_options.h"

namespace retort::cli {

Status DistillSettings::finish() {
    const auto own_answers = train::on_policy_from_name(objective);
    is_on_policy = own_answers.has_value();
    if (is_on_policy) {
        on_policy.kind = *own_answers;
        options.train.objective.kind =
            on_policy.kind == train::OnPolicyKind::gkd ? train::ObjectiveKind::jsd : train::ObjectiveKind::ce;
    } else {
        RETORT_TRY(options.train.objective.kind, train::objective_from_name(objective));
    }
    RETORT_CHECK(train::check_objective(options.train.objective));
    RETORT_TRY(options.train.schedule, train::schedule_from_name(schedule));
    if (dtype != "auto" && dtype != "f32" && dtype != "bf16") {
        return fail(ErrorCode::invalid_argument, "dtype \"{}\" is not known; use auto, f32 or bf16", dtype);
    }
    options.auto_dtype = dtype == "auto";
    options.train.bf16 = dtype == "bf16";
    RETORT_TRY(options.train.optimiser.moments, storage_type("moments", moments));
    RETORT_TRY(options.train.optimiser.gradients, storage_type("gradients", gradients));
    return {};
}

Result<tensor::DType> storage_type(std::string_view what, std::string_view name) {
    for (const tensor::DType type : {tensor::DType::f32, tensor::DType::bf16}) {
        if (tensor::dtype_info(type).name == name) return type;
    }
    return fail(ErrorCode::invalid_argument, "{} \"{}\" are not known; use f32 or bf16", what, name);
}

namespace {

void add_on_policy_options(CLI::App& command, train::OnPolicyOptions& on_policy) {
    constexpr auto group = "On the student's own answers (gkd, opd, grpo)";
    command.add_option("--steps", on_policy.steps, "batches of own answers")
        ->check(CLI::PositiveNumber)
        ->group(group)
        ->capture_default_str();
    command.add_option("--prompts-per-step", on_policy.prompts_per_step, "prompts a batch")
        ->check(CLI::PositiveNumber)
        ->group(group)
        ->capture_default_str();
    command.add_option("--samples", on_policy.samples, "answers a prompt")
        ->check(CLI::PositiveNumber)
        ->group(group)
        ->capture_default_str();
    command.add_option("--updates", on_policy.updates, "optimiser steps a batch")
        ->check(CLI::PositiveNumber)
        ->group(group)
        ->capture_default_str();
    command.add_option("--max-answer-tokens", on_policy.max_answer_tokens, "of an own answer")
        ->check(CLI::PositiveNumber)
        ->group(group)
        ->capture_default_str();
    command.add_option("--clip-low", on_policy.clip_low, "grpo: ratios are clipped below 1 by so much")
        ->group(group)
        ->capture_default_str();
    command.add_option("--clip-high", on_policy.clip_high, "grpo: and above 1")
        ->group(group)
        ->capture_default_str();
    command.add_option("--kl", on_policy.kl, "grpo: weight of KL to the student at the start")
        ->group(group)
        ->capture_default_str();
    command
        .add_option("--format-reward", on_policy.format_reward,
                    "grpo: for closed reasoning and an answer after it")
        ->group(group)
        ->capture_default_str();
    command.add_option("--lambda", on_policy.lambda, "gkd: share of batches that are own answers")
        ->check(CLI::Range(0.0, 1.0))
        ->group(group)
        ->capture_default_str();
}

Status read_on_policy_keys(const formats::TomlTable& table, train::OnPolicyOptions& on_policy) {
    RETORT_TRY(on_policy.steps, table.integer_or("steps", on_policy.steps, 1));
    RETORT_TRY(on_policy.prompts_per_step,
               table.integer_or("prompts_per_step", on_policy.prompts_per_step, 1, 100000));
    RETORT_TRY(on_policy.samples, table.integer_or("samples", on_policy.samples, 1, 10000));
    RETORT_TRY(on_policy.updates, table.integer_or("updates", on_policy.updates, 1, 1000));
    RETORT_TRY(on_policy.max_answer_tokens,
               table.integer_or("max_answer_tokens", on_policy.max_answer_tokens, 1, 131072));
    RETORT_TRY(on_policy.clip_low, table.number_or("clip_low", on_policy.clip_low, 0));
    RETORT_TRY(on_policy.clip_high, table.number_or("clip_high", on_policy.clip_high, 0));
    RETORT_TRY(on_policy.kl, table.number_or("kl", on_policy.kl, 0));
    RETORT_TRY(on_policy.format_reward, table.number_or("format_reward", on_policy.format_reward, 0));
    RETORT_TRY(on_policy.lambda, table.number_or("lambda", on_policy.lambda, 0, 1));
    return {};
}

}  // namespace

train::OnPolicyJob on_policy_job(const DistillSettings& settings) {
    const train::DistillOptions& options = settings.options;
    train::OnPolicyJob job;
    job.student = options.start.model;
    job.teacher = options.teacher;
    job.records = options.records;
    job.auto_dtype = options.auto_dtype;
    job.output = options.output;
    job.options = settings.on_policy;
    job.options.row_length = options.row_length;
    job.options.train = options.train;
    return job;
}

void add_distill_options(CLI::App& command, DistillSettings& settings) {
    add_on_policy_options(command, settings.on_policy);
    train::TrainOptions& train = settings.options.train;
    train::StudentStart& start = settings.options.start;
    command.add_option("--keep-layers", start.keep_layers,
                       "start the student with only so many layers (0: all)");
    command
        .add_option("--layer-choice", start.method,
                    "which layers to keep: influence, contiguous (all but a run of them) or even")
        ->capture_default_str();
    command.add_option("--layers", start.layers, "keep exactly these layers, as 0,1,2,29")->delimiter(',');
    command.add_option("--keep-channels", start.width.intermediate,
                       "of each MLP, so many channels, those that do most (0: all)");
    command.add_option("--keep-heads", start.width.heads,
                       "of each layer's attention, so many heads, in whole groups (0: all)");
    command.add_option("--keep-hidden", start.width.hidden,
                       "so many channels of the residual stream (0: all)");
    command
        .add_option("--importance-samples", start.importance_samples,
                    "conversations of the records that channels and heads are judged on")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command
        .add_option("--objective", settings.objective,
                    "ce (the text alone), or against the teacher's distribution: fkl, rkl, jsd, skew-fkl, "
                    "skew-rkl, tvd; on the student's own answers: gkd, opd, grpo")
        ->capture_default_str();
    command
        .add_option("--beta", train.objective.beta,
                    "of jsd and gkd: 0 is fkl, 1 is rkl, between them a mixture of both sides")
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
    command.add_option(
        "--eval-every", train.eval_every,
        "measure the loss of --held-out every so many steps and keep the best weights (0: never)");
    command
        .add_option("--patience", train.patience,
                    "end after so many measurements without a better one (0: never)")
        ->capture_default_str();
    command.add_option("--held-out", settings.options.held_out, "records to measure, never trained on");
    command.add_option("--seed", train.seed, "of the order of the rows")->capture_default_str();
    command.add_option("--dtype", settings.dtype, "of products: auto, f32 or bf16")->capture_default_str();
    command
        .add_option("--moments", settings.moments,
                    "AdamW's, kept in f32, or in bf16 (rounded stochastically): 4 bytes a parameter less")
        ->capture_default_str();
    command
        .add_option("--gradients", settings.gradients,
                    "of the layers' matrices, kept in f32, or in bf16 (the same): 2 bytes a parameter less")
        ->capture_default_str();
    command.add_flag("--recompute", train.recompute,
                     "compute activations twice to save memory; the same bits");
    constexpr auto lora = "Low-rank adapters in place of all weights (LoRA)";
    command
        .add_option("--lora-rank", train.lora.rank, "of the adapters that are trained (0: all weights are)")
        ->check(CLI::NonNegativeNumber)
        ->group(lora)
        ->capture_default_str();
    command.add_option("--lora-alpha", train.lora.alpha, "they are multiplied by alpha/rank")
        ->check(CLI::PositiveNumber)
        ->group(lora)
        ->capture_default_str();
    command
        .add_option("--lora-targets", train.lora.targets,
                    "layers that have one, as q_proj,v_proj (default: all linear layers)")
        ->delimiter(',')
        ->group(lora);
    command.add_option("--checkpoint-steps", train.checkpoint_steps,
                       "save also every so many steps (0: by time only)");
    command.add_option("--checkpoint-seconds", train.checkpoint_seconds, "save at least so often")
        ->capture_default_str();
}

Status read_student_table(const formats::TomlTable& table, DistillSettings& settings) {
    train::StudentStart& start = settings.options.start;
    RETORT_TRY(const std::string model, table.string_or("model", start.model.string()));
    start.model = model;
    RETORT_TRY(const std::string fresh, table.string_or("fresh", start.fresh.string()));
    start.fresh = fresh;
    RETORT_TRY(const std::int64_t seed, table.integer_or("seed", static_cast<std::int64_t>(start.seed), 0));
    start.seed = static_cast<std::uint64_t>(seed);
    RETORT_TRY(start.keep_layers, table.integer_or("keep_layers", start.keep_layers, 0, 10000));
    RETORT_TRY(start.width.intermediate, table.integer_or("keep_channels", start.width.intermediate, 0));
    RETORT_TRY(start.width.heads, table.integer_or("keep_heads", start.width.heads, 0));
    RETORT_TRY(start.width.hidden, table.integer_or("keep_hidden", start.width.hidden, 0));
    RETORT_TRY(start.importance_samples, table.integer_or("importance_samples", start.importance_samples, 1));
    RETORT_TRY(start.method,
               table.choice_or("layer_choice", start.method, {"influence", "contiguous", "even"}));
    RETORT_TRY(const std::vector<double> layers, table.has("layers")
                                                     ? table.numbers("layers")
                                                     : Result<std::vector<double>>(std::vector<double>{}));
    for (const double layer : layers) start.layers.push_back(static_cast<std::int64_t>(layer));
    return {};
}

Status read_distill_table(const formats::TomlTable& table, DistillSettings& settings) {
    RETORT_CHECK(read_on_policy_keys(table, settings.on_policy));
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
    RETORT_TRY(train.eval_every, table.integer_or("eval_every", train.eval_every, 0));
    RETORT_TRY(train.patience, table.integer_or("patience", train.patience, 0));
    RETORT_TRY(settings.dtype, table.choice_or("dtype", settings.dtype, {"auto", "f32", "bf16"}));
    RETORT_TRY(settings.moments, table.choice_or("moments", settings.moments, {"f32", "bf16"}));
    RETORT_TRY(settings.gradients, table.choice_or("gradients", settings.gradients, {"f32", "bf16"}));
    RETORT_TRY(train.recompute, table.boolean_or("recompute", train.recompute));
    RETORT_TRY(train.lora.rank, table.integer_or("lora_rank", train.lora.rank, 0, 100000));
    RETORT_TRY(train.lora.alpha, table.number_or("lora_alpha", train.lora.alpha, 0));
    if (table.has("lora_targets")) {
        RETORT_TRY(train.lora.targets, table.strings("lora_targets"));
    }
    RETORT_TRY(train.checkpoint_steps, table.integer_or("checkpoint_steps", train.checkpoint_steps, 0));
    RETORT_TRY(train.checkpoint_seconds, table.number_or("checkpoint_seconds", train.checkpoint_seconds, 0));
    return settings.finish();
}

}  // namespace retort::cli
