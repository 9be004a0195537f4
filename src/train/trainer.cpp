#include "train/trainer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/parallel.h"
#include "tensor/adamw.h"
#include "train/batches.h"
#include "train/compute_cost.h"
#include "train/run_steps.h"

namespace retort::train {

namespace {

std::int64_t total_steps(std::size_t rows, const TrainOptions& options) {
    if (options.max_steps > 0) return options.max_steps;
    const double wanted =
        options.epochs * static_cast<double>(rows) / static_cast<double>(options.rows_per_step);
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(wanted - 1e-9)));
}

std::int64_t head_vocab(const model::ModelConfig& student, const TrainOptions& options) {
    return options.vocab_size > 0 ? options.vocab_size : student.vocab_size;
}

std::int64_t longest_row(std::span<const data::PackedBatch> rows, const TrainOptions& options) {
    std::size_t longest = 0;
    for (const auto& row : rows) longest = std::max(longest, row.tokens.size());
    for (const auto& row : options.held_out) longest = std::max(longest, row.tokens.size());
    return static_cast<std::int64_t>(longest);
}

// Everything that decides the resulting bits, but the numbers of processes and threads.
std::string fingerprint(const model::Parameters& student, const model::Parameters* teacher,
                        std::span<const data::PackedBatch> rows, const TrainOptions& options,
                        std::int64_t steps) {
    std::string text = fmt::format(
        "v3 objective={} vocab={} cache={:016x} betas={},{} epsilon={} decay={} clip={} schedule={} lr={} "
        "warmup={} "
        "final={} steps={} rows={}x{}/{} seed={} bf16={} lora={} data={} ",
        objective_text(options.objective), options.vocab_size,
        options.cache == nullptr ? 0 : options.cache->hash(), options.optimiser.beta1,
        options.optimiser.beta2, options.optimiser.epsilon, options.optimiser.weight_decay,
        options.optimiser.clip_norm, schedule_name(options.schedule), options.learning_rate,
        options.warmup_share, options.final_share, steps, rows.size(), options.rows_per_step,
        options.rows_per_micro_batch, options.seed, options.bf16, lora_text(options.lora), options.data_hash);
    text += fmt::format("student={:016x} ", base::xxh3_64(std::as_bytes(student.values.span())));
    if (teacher != nullptr)
        text += fmt::format("teacher={:016x}", base::xxh3_64(std::as_bytes(teacher->values.span())));
    text += storage_text(options.optimiser);
    if (options.eval_every > 0) {
        std::uint64_t held_out = 0;
        for (const auto& row : options.held_out)
            held_out = base::xxh3_64(std::as_bytes(std::span(row.tokens)), held_out);
        text +=
            fmt::format(" held-out={:016x}/{} patience={}", held_out, options.eval_every, options.patience);
    }
    return base::sha256_hex(text);
}

Status check_inputs(const model::Parameters& student, const model::Parameters* teacher,
                    std::span<const data::PackedBatch> rows, const TrainOptions& options) {
    if (rows.empty())
        return fail(ErrorCode::invalid_argument, "there is nothing to train on: no packed rows");
    if (options.rows_per_step < 1 || options.rows_per_micro_batch < 1) {
        return fail(ErrorCode::invalid_argument, "rows per step and per micro-batch must be at least 1");
    }
    RETORT_CHECK(check_objective(options.objective));
    if (options.cache != nullptr) RETORT_CHECK(options.cache->check(options.objective));
    if (uses_teacher(options.objective) && teacher == nullptr && options.cache == nullptr) {
        return fail(
            ErrorCode::invalid_argument,
            "objective {} needs a teacher's weights, or a cache of its distribution; give --teacher or "
            "--cache, or use ce",
            objective_name(options.objective.kind));
    }
    const std::int64_t vocab = head_vocab(student.layout.config, options);
    if (student.layout.config.vocab_size < vocab) {
        return fail(ErrorCode::invalid_argument, "the student's head has {} rows for a vocabulary of {}",
                    student.layout.config.vocab_size, vocab);
    }
    const bool fits =
        teacher == nullptr || (options.vocab_size > 0 ? teacher->layout.config.vocab_size >= vocab
                                                      : teacher->layout.config.vocab_size == vocab);
    if (!fits) {
        return fail(
            ErrorCode::invalid_argument,
            "the teacher's vocabulary has {} tokens and the student's {}: this objective needs the same "
            "tokenizer; use ce",
            teacher->layout.config.vocab_size, vocab);
    }
    if (options.eval_every > 0 && count_tokens(options.held_out).scored == 0)
        return fail(ErrorCode::invalid_argument, "there are no held-out records to measure every {} steps",
                    options.eval_every);
    std::int64_t trained = 0;
    for (const auto& row : rows) {
        trained += row.trained_tokens;
        for (const std::int32_t token : row.tokens) {
            if (token < 0 || token >= vocab) {
                return fail(
                    ErrorCode::invalid_argument,
                    "token {} is outside the student's vocabulary of {}: another tokenizer made this data",
                    token, vocab);
            }
        }
        if (static_cast<std::int64_t>(row.tokens.size()) > student.layout.config.context_length) {
            return fail(ErrorCode::invalid_argument,
                        "rows of {} tokens do not fit the student's context of {}", row.tokens.size(),
                        student.layout.config.context_length);
        }
    }
    if (trained == 0)
        return fail(ErrorCode::invalid_argument,
                    "no token of the data is to be trained on: the loss mask is all zero");
    return {};
}

// The run's state besides parameters: rebuilt the same way at a start and a resume.
struct Run {
    const TrainOptions& options;
    std::span<const data::PackedBatch> rows;
    const model::Parameters* teacher;
    Trainee& trainee;
    model::Transformer student_transformer;
    std::unique_ptr<model::Transformer> teacher_transformer;
    tensor::Buffer<std::uint16_t> teacher_bf16;
    FusedHead head;
    tensor::Buffer<float> d_hidden;
    data::TokenEntries cached;  // of the micro-batch, with a cache

    Run(Trainee& student, const model::Parameters* teacher_parameters,
        std::span<const data::PackedBatch> packed, const TrainOptions& train_options, std::int64_t max_tokens)
        : options(train_options),
          rows(packed),
          teacher(teacher_parameters),
          trainee(student),
          student_transformer(student.layout(), max_tokens,
                              {true, train_options.recompute, train_options.bf16, student.adapter_rank()}),
          head(head_vocab(student.layout().config, train_options), student.layout().config.hidden_size,
               teacher_parameters == nullptr ? 0 : teacher_parameters->layout.config.hidden_size, max_tokens),
          d_hidden(max_tokens * student.layout().config.hidden_size) {
        if (teacher == nullptr) return;
        teacher_transformer = std::make_unique<model::Transformer>(
            teacher->layout, max_tokens, model::TransformerOptions{false, false, options.bf16});
        if (options.bf16) {
            teacher_bf16 = tensor::Buffer<std::uint16_t>(teacher->layout.total);
            tensor::convert_to_bf16(teacher->values.data(), teacher_bf16.data(), teacher->layout.total);
        }
    }

    HeadInput run_teacher(const model::TokenBatch& tokens) {
        if (teacher == nullptr) return {};
        const model::ParameterView view{teacher->values.data(),
                                        teacher_bf16.empty() ? nullptr : teacher_bf16.data()};
        return {&teacher->layout, view, teacher_transformer->forward(view, tokens)};
    }

    LossSums micro_batch(std::span<const std::int64_t> indices, const Batch& batch,
                         const tensor::TokenLossWeights& weights) {
        const model::TokenBatch tokens = batch.token_batch();
        const HeadInput teacher_input = run_teacher(tokens);
        const HeadInput student_input{&trainee.layout(), trainee.view(),
                                      student_transformer.forward(trainee.view(), tokens)};
        LossSums sums;
        if (options.cache != nullptr && uses_teacher(options.objective)) {
            const tensor::SparseTargets kept = options.cache->gather(rows, indices, cached);
            sums = head.run_sparse(student_input, kept, batch.targets, weights, d_hidden.data(),
                                   trainee.head_gradients());
        } else {
            sums = head.run(student_input, teacher == nullptr ? nullptr : &teacher_input, batch.targets,
                            weights, d_hidden.data(), trainee.head_gradients());
        }
        const std::size_t used =
            batch.tokens.size() * static_cast<std::size_t>(trainee.layout().config.hidden_size);
        student_transformer.backward(trainee.view(), tokens, {d_hidden.data(), used}, trainee.gradients(),
                                     trainee.on_layer());
        return sums;
    }

    // Every so many rows, from its own number on.
    [[nodiscard]] std::vector<std::int64_t> rows_of_rank(std::span<const std::int64_t> all) const {
        std::vector<std::int64_t> mine;
        const auto ranks = static_cast<std::size_t>(trainee.world().size());
        for (auto r = static_cast<std::size_t>(trainee.world().rank()); r < all.size(); r += ranks)
            mine.push_back(all[r]);
        return mine;
    }

    // Over the processes. Counts below 2^53 are exact in a double.
    void add_up(LossSums& sums, std::int64_t& tokens) const {
        std::array<double, 5> values = {sums.ce, sums.divergence, static_cast<double>(sums.agreements),
                                        static_cast<double>(sums.tokens), static_cast<double>(tokens)};
        trainee.world().sum(values);
        sums = {values[0], values[1], static_cast<std::int64_t>(values[2]),
                static_cast<std::int64_t>(values[3])};
        tokens = static_cast<std::int64_t>(values[4]);
    }

    StepRecord step(std::int64_t index, double rate) {
        const auto chosen =
            rows_of_step(static_cast<std::int64_t>(rows.size()), options.rows_per_step, options.seed, index);
        StepRecord record;
        std::int64_t trained = 0;
        for (const std::int64_t row : chosen) trained += rows[static_cast<std::size_t>(row)].trained_tokens;
        tensor::TokenLossWeights weights = loss_weights(options.objective);
        weights.scale = trained > 0 ? 1.0F / static_cast<float>(trained) : 0.0F;
        LossSums sums;
        const std::vector<std::int64_t> mine = rows_of_rank(chosen);
        for (std::size_t begin = 0; begin < mine.size();
             begin += static_cast<std::size_t>(options.rows_per_micro_batch)) {
            const std::size_t count =
                std::min(mine.size() - begin, static_cast<std::size_t>(options.rows_per_micro_batch));
            const std::span<const std::int64_t> indices = std::span(mine).subspan(begin, count);
            const Batch batch = join_rows(rows, indices);
            record.tokens += static_cast<std::int64_t>(batch.tokens.size());
            sums += micro_batch(indices, batch, weights);
        }
        add_up(sums, record.tokens);
        record.gradient_norm = trainee.step(options.optimiser, rate);
        record.trained_tokens = sums.tokens;
        record.loss = sums.value(options.objective);
        const double n = static_cast<double>(std::max<std::int64_t>(1, sums.tokens));
        record.ce = sums.ce / n;
        record.divergence = sums.divergence / n;
        record.agreement = static_cast<double>(sums.agreements) / n;
        return record;
    }

    // The objective's, with a live teacher; cross-entropy from a cache, which holds none of these tokens.
    double held_out_loss() {
        Objective objective = options.objective;
        if (options.cache != nullptr) objective = Objective{};
        const tensor::TokenLossWeights weights = loss_weights(objective);
        LossSums sums;
        std::vector<std::int64_t> all(options.held_out.size());
        std::iota(all.begin(), all.end(), 0);
        const std::vector<std::int64_t> mine = rows_of_rank(all);
        std::vector<std::int64_t> indices;
        for (std::size_t i = 0; i < mine.size(); ++i) {
            indices.push_back(mine[i]);
            const bool full = static_cast<std::int64_t>(indices.size()) == options.rows_per_micro_batch;
            if (!full && i + 1 < mine.size()) continue;
            const Batch batch = join_rows(options.held_out, indices);
            const model::TokenBatch tokens = batch.token_batch();
            const HeadInput teacher_input = run_teacher(tokens);
            const HeadInput student_input{&trainee.layout(), trainee.view(),
                                          student_transformer.forward(trainee.view(), tokens)};
            sums += head.run(student_input, teacher == nullptr ? nullptr : &teacher_input, batch.targets,
                             weights, nullptr, nullptr);
            indices.clear();
        }
        std::int64_t no_tokens = 0;
        add_up(sums, no_tokens);
        return sums.value(objective);
    }
};

}  // namespace

TrainPlan plan_training(const model::ModelConfig& student, const model::ModelConfig* teacher,
                        std::span<const data::PackedBatch> rows, const TrainOptions& options) {
    TrainPlan plan;
    plan.steps = total_steps(rows.size(), options);
    const std::int64_t max_tokens = longest_row(rows, options) * options.rows_per_micro_batch;
    const TokenCounts counts = count_tokens(rows);
    plan.tokens_per_step = rows.empty()
                               ? 0
                               : static_cast<std::int64_t>(counts.tokens / static_cast<double>(rows.size()) *
                                                           static_cast<double>(options.rows_per_step));
    if (counts.tokens > 0) {
        const double passes = options.lora.rank == 0 ? 3 : 2;  // frozen weights have no gradient to compute
        plan.flops_per_token = (passes * forward_flop(student, counts) +
                                (teacher == nullptr ? 0 : forward_flop(*teacher, counts))) /
                               counts.tokens;
    }
    const TraineeOptions kept = trainee_options(options);
    plan.memory.student = Trainee::memory(student, kept);
    plan.memory.activations =
        model::Transformer::memory_bytes(student, max_tokens,
                                         {true, options.recompute, options.bf16, kept.lora.rank}) +
        max_tokens * student.hidden_size * 4;
    plan.memory.head =
        FusedHead::memory_bytes(head_vocab(student, options), student.hidden_size,
                                teacher == nullptr ? 0 : teacher->hidden_size, max_tokens, options.bf16);
    if (teacher != nullptr) {
        plan.memory.teacher =
            teacher->parameter_count() * (options.bf16 ? 6 : 4) +
            model::Transformer::memory_bytes(*teacher, max_tokens, {false, false, options.bf16});
    }
    const TrainPlan::Memory& memory = plan.memory;
    plan.memory_bytes = memory.student.weights + memory.student.gradients + memory.student.moments +
                        memory.activations + memory.head + memory.teacher;
    if (options.machine_gflops > 0) {
        constexpr double usual_share = 0.7;
        plan.seconds = plan.flops_per_token * static_cast<double>(plan.tokens_per_step * plan.steps) /
                       (options.machine_gflops * 1e9 * usual_share);
    }
    return plan;
}

std::string memory_text(const TrainPlan& plan) {
    const auto text = [](std::int64_t bytes) { return base::bytes_text(static_cast<double>(bytes)); };
    const TrainPlan::Memory& memory = plan.memory;
    std::string parts =
        fmt::format("{}: weights {}, gradients {}, moments {}, activations {}, head {}",
                    text(plan.memory_bytes), text(memory.student.weights), text(memory.student.gradients),
                    text(memory.student.moments), text(memory.activations), text(memory.head));
    if (memory.teacher > 0) parts += fmt::format(", teacher {}", text(memory.teacher));
    return parts;
}

TraineeOptions trainee_options(const TrainOptions& options) {
    return {options.bf16,
            options.lora,
            options.seed,
            options.world,
            options.optimiser.moments,
            options.optimiser.gradients};
}

Result<TrainReport> train(model::Parameters& student, const model::Parameters* teacher,
                          std::span<const data::PackedBatch> rows, const TrainOptions& options) {
    if (!uses_teacher(options.objective) || options.cache != nullptr) teacher = nullptr;
    RETORT_CHECK(check_inputs(student, teacher, rows, options));
    const TrainPlan plan = plan_training(
        student.layout.config, teacher == nullptr ? nullptr : &teacher->layout.config, rows, options);
    const std::string print = fingerprint(student, teacher, rows, options, plan.steps);
    RETORT_TRY(const std::unique_ptr<Trainee> trainee, Trainee::make(student, trainee_options(options)));
    std::optional<Run> run(std::in_place, *trainee, teacher, rows, options,
                           longest_row(rows, options) * options.rows_per_micro_batch);
    StepLoop loop{options, print, plan.steps, *trainee, {}, {}, {}};
    loop.step = [&](std::int64_t index, double rate) -> Result<StepRecord> {
        StepRecord record = run->step(index, rate);
        record.flop = static_cast<double>(record.tokens) * plan.flops_per_token;
        return record;
    };
    if (!options.held_out.empty()) loop.held_out_loss = [&run] { return run->held_out_loss(); };
    loop.note = [](const StepRecord& record) {
        return fmt::format("{:.0f} tokens/s", static_cast<double>(record.tokens) / record.seconds);
    };
    auto report = run_steps(loop);
    run.reset();
    RETORT_CHECK(finish_training(*trainee, options, report.has_value()));
    return report;
}

Status finish_training(Trainee& trainee, const TrainOptions& options, bool whole) {
    if (whole && trainee.adapters() != nullptr && !options.folder.empty() && trainee.world().is_first())
        RETORT_CHECK(trainee.save_adapters(options.folder / "adapters", options.start_name));
    trainee.give_back();
    return {};
}

}  // namespace retort::train
