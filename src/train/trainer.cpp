#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <memory>

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

// Everything that decides the resulting bits.
std::string fingerprint(const model::Parameters& student, const model::Parameters* teacher,
                        std::span<const data::PackedBatch> rows, const TrainOptions& options,
                        std::int64_t steps) {
    std::string text = fmt::format(
        "v2 objective={} vocab={} cache={:016x} betas={},{} epsilon={} decay={} clip={} schedule={} lr={} "
        "warmup={} "
        "final={} steps={} rows={}x{}/{} seed={} bf16={} threads={} data={} ",
        objective_text(options.objective), options.vocab_size,
        options.cache == nullptr ? 0 : options.cache->hash(), options.optimiser.beta1,
        options.optimiser.beta2, options.optimiser.epsilon, options.optimiser.weight_decay,
        options.optimiser.clip_norm, schedule_name(options.schedule), options.learning_rate,
        options.warmup_share, options.final_share, steps, rows.size(), options.rows_per_step,
        options.rows_per_micro_batch, options.seed, options.bf16, base::thread_count(), options.data_hash);
    text += fmt::format("student={:016x} ", base::xxh3_64(std::as_bytes(student.values.span())));
    if (teacher != nullptr)
        text += fmt::format("teacher={:016x}", base::xxh3_64(std::as_bytes(teacher->values.span())));
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
    model::Parameters& student;
    const model::Parameters* teacher;
    OptimiserState state;
    model::Transformer student_transformer;
    std::unique_ptr<model::Transformer> teacher_transformer;
    tensor::Buffer<std::uint16_t> teacher_bf16;
    FusedHead head;
    tensor::Buffer<float> d_hidden;
    data::TokenEntries cached;  // of the micro-batch, with a cache

    Run(model::Parameters& student_parameters, const model::Parameters* teacher_parameters,
        std::span<const data::PackedBatch> packed, const TrainOptions& train_options, std::int64_t max_tokens)
        : options(train_options),
          rows(packed),
          student(student_parameters),
          teacher(teacher_parameters),
          state(make_optimiser(student_parameters, train_options.bf16)),
          student_transformer(student_parameters.layout, max_tokens, {true, train_options.recompute}),
          head(head_vocab(student_parameters.layout.config, train_options),
               student_parameters.layout.config.hidden_size,
               teacher_parameters == nullptr ? 0 : teacher_parameters->layout.config.hidden_size, max_tokens),
          d_hidden(max_tokens * student_parameters.layout.config.hidden_size) {
        if (teacher == nullptr) return;
        teacher_transformer = std::make_unique<model::Transformer>(teacher->layout, max_tokens,
                                                                   model::TransformerOptions{false, false});
        if (options.bf16) {
            teacher_bf16 = tensor::Buffer<std::uint16_t>(teacher->layout.total);
            tensor::convert_to_bf16(teacher->values.data(), teacher_bf16.data(), teacher->layout.total);
        }
    }

    [[nodiscard]] model::ParameterView student_view() const {
        return {student.values.data(), state.bf16.empty() ? nullptr : state.bf16.data()};
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
        const HeadInput student_input{&student.layout, student_view(),
                                      student_transformer.forward(student_view(), tokens)};
        LossSums sums;
        if (options.cache != nullptr && uses_teacher(options.objective)) {
            const tensor::SparseTargets kept = options.cache->gather(rows, indices, cached);
            sums = head.run_sparse(student_input, kept, batch.targets, weights, d_hidden.data(),
                                   state.gradients.data());
        } else {
            sums = head.run(student_input, teacher == nullptr ? nullptr : &teacher_input, batch.targets,
                            weights, d_hidden.data(), state.gradients.data());
        }
        const std::size_t used =
            batch.tokens.size() * static_cast<std::size_t>(student.layout.config.hidden_size);
        student_transformer.backward(student_view(), tokens, {d_hidden.data(), used}, state.gradients.data());
        return sums;
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
        for (std::size_t begin = 0; begin < chosen.size();
             begin += static_cast<std::size_t>(options.rows_per_micro_batch)) {
            const std::size_t count =
                std::min(chosen.size() - begin, static_cast<std::size_t>(options.rows_per_micro_batch));
            const std::span<const std::int64_t> indices = std::span(chosen).subspan(begin, count);
            const Batch batch = join_rows(rows, indices);
            record.tokens += static_cast<std::int64_t>(batch.tokens.size());
            sums += micro_batch(indices, batch, weights);
        }
        record.gradient_norm = optimiser_step(student, state, options.optimiser, rate);
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
        std::vector<std::int64_t> indices;
        for (std::size_t i = 0; i < options.held_out.size(); ++i) {
            indices.push_back(static_cast<std::int64_t>(i));
            const bool full = static_cast<std::int64_t>(indices.size()) == options.rows_per_micro_batch;
            if (!full && i + 1 < options.held_out.size()) continue;
            const Batch batch = join_rows(options.held_out, indices);
            const model::TokenBatch tokens = batch.token_batch();
            const HeadInput teacher_input = run_teacher(tokens);
            const HeadInput student_input{&student.layout, student_view(),
                                          student_transformer.forward(student_view(), tokens)};
            sums += head.run(student_input, teacher == nullptr ? nullptr : &teacher_input, batch.targets,
                             weights, d_hidden.data(), nullptr);
            indices.clear();
        }
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
        plan.flops_per_token =
            (3 * forward_flop(student, counts) + (teacher == nullptr ? 0 : forward_flop(*teacher, counts))) /
            counts.tokens;
    }
    plan.memory_bytes =
        student.parameter_count() * 4 * 4 + (options.bf16 ? student.parameter_count() * 2 : 0) +
        model::Transformer::memory_bytes(student, max_tokens, {true, options.recompute}) +
        FusedHead::memory_bytes(head_vocab(student, options), student.hidden_size,
                                teacher == nullptr ? 0 : teacher->hidden_size, max_tokens, options.bf16) +
        max_tokens * student.hidden_size * 4;
    if (teacher != nullptr) {
        plan.memory_bytes += teacher->parameter_count() * 4 +
                             model::Transformer::memory_bytes(*teacher, max_tokens, {false, false});
    }
    if (options.machine_gflops > 0) {
        constexpr double usual_share = 0.7;
        plan.seconds = plan.flops_per_token * static_cast<double>(plan.tokens_per_step * plan.steps) /
                       (options.machine_gflops * 1e9 * usual_share);
    }
    return plan;
}

Result<TrainReport> train(model::Parameters& student, const model::Parameters* teacher,
                          std::span<const data::PackedBatch> rows, const TrainOptions& options) {
    if (!uses_teacher(options.objective) || options.cache != nullptr) teacher = nullptr;
    RETORT_CHECK(check_inputs(student, teacher, rows, options));
    const TrainPlan plan = plan_training(
        student.layout.config, teacher == nullptr ? nullptr : &teacher->layout.config, rows, options);
    Run run(student, teacher, rows, options, longest_row(rows, options) * options.rows_per_micro_batch);
    StepLoop loop{options,    fingerprint(student, teacher, rows, options, plan.steps),
                  plan.steps, student,
                  run.state,  {},
                  {},         {}};
    loop.step = [&](std::int64_t index, double rate) -> Result<StepRecord> {
        StepRecord record = run.step(index, rate);
        record.flop = static_cast<double>(record.tokens) * plan.flops_per_token;
        return record;
    };
    if (!options.held_out.empty()) loop.held_out_loss = [&run] { return run.held_out_loss(); };
    loop.note = [](const StepRecord& record) {
        return fmt::format("{:.0f} tokens/s", static_cast<double>(record.tokens) / record.seconds);
    };
    return run_steps(loop);
}

}  // namespace retort::train
