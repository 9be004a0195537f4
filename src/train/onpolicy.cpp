#include "train/onpolicy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>

#include "base/hash.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/random.h"
#include "tensor/adamw.h"
#include "train/batches.h"
#include "train/compute_cost.h"
#include "train/fused_head.h"
#include "train/onpolicy_batch.h"
#include "train/run_steps.h"

namespace retort::train {

namespace {

struct NamedKind {
    std::string_view name;
    OnPolicyKind kind;
};
constexpr std::array<NamedKind, 3> kinds = {
    {{"gkd", OnPolicyKind::gkd}, {"opd", OnPolicyKind::opd}, {"grpo", OnPolicyKind::grpo}}};

// Everything that decides the resulting bits, but the number of threads.
std::string on_policy_fingerprint(const model::Parameters& student, const OnPolicyInputs& inputs,
                                  const OnPolicyOptions& options) {
    const TrainOptions& train = options.train;
    std::string text = fmt::format(
        "on-policy v2 kind={} steps={}x{}x{}/{} tokens={} row={} clip={},{} kl={} format={} lambda={} "
        "beta={} "
        "betas={},{} epsilon={} decay={} norm={} schedule={} lr={} warmup={} final={} rows={}x{}/{} seed={} "
        "bf16={} lora={} data={} ",
        on_policy_name(options.kind), options.steps, options.prompts_per_step, options.samples,
        options.updates, options.max_answer_tokens, options.row_length, options.clip_low, options.clip_high,
        options.kl, options.format_reward, options.lambda, objective_text(train.objective),
        train.optimiser.beta1, train.optimiser.beta2, train.optimiser.epsilon, train.optimiser.weight_decay,
        train.optimiser.clip_norm, schedule_name(train.schedule), train.learning_rate, train.warmup_share,
        train.final_share, inputs.rows.size(), train.rows_per_step, train.rows_per_micro_batch, train.seed,
        train.bf16, model::lora_text(train.lora), train.data_hash);
    std::uint64_t prompts = 0;
    for (const TokenisedPrompt& prompt : inputs.prompts) {
        prompts = base::xxh3_64(std::as_bytes(std::span(prompt.tokens)), prompts);
        prompts = base::xxh3_64(formats::write_json(prompt.prompt.metadata), prompts);
    }
    text += fmt::format("prompts={:016x} student={:016x} ", prompts,
                        base::xxh3_64(std::as_bytes(student.values.span())));
    if (inputs.teacher != nullptr)
        text += fmt::format("teacher={:016x}", base::xxh3_64(std::as_bytes(inputs.teacher->values.span())));
    text += storage_text(train.optimiser);
    return base::sha256_hex(text);
}

Status check_on_policy(const model::Parameters& student, const OnPolicyInputs& inputs,
                       const OnPolicyOptions& options) {
    const std::string_view name = on_policy_name(options.kind);
    if (inputs.prompts.empty())
        return fail(ErrorCode::invalid_argument, "{}: there are no prompts to answer", name);
    if (options.train.eval_every > 0) {
        return fail(ErrorCode::invalid_argument,
                    "{} is measured by what it answers, not by held-out loss: leave --eval-every out", name);
    }
    if (options.kind == OnPolicyKind::grpo && inputs.verifier == nullptr) {
        return fail(ErrorCode::invalid_argument, "grpo needs a verifier: it is what answers are rewarded by");
    }
    if (options.kind == OnPolicyKind::grpo && options.samples < 2) {
        return fail(ErrorCode::invalid_argument,
                    "grpo compares the answers to one prompt: {} sample is too few, 8 are usual",
                    options.samples);
    }
    if (options.kind != OnPolicyKind::grpo && inputs.teacher == nullptr)
        return fail(ErrorCode::invalid_argument, "{} needs a teacher's weights", name);
    if (options.kind == OnPolicyKind::gkd && options.lambda < 1 && inputs.rows.empty())
        return fail(ErrorCode::invalid_argument, "gkd with lambda {} needs records beside prompts",
                    options.lambda);
    for (const TokenisedPrompt& prompt : inputs.prompts) {
        const auto length = static_cast<std::int64_t>(prompt.tokens.size()) + options.max_answer_tokens;
        if (length > std::min(options.row_length, student.layout.config.context_length)) {
            return fail(
                ErrorCode::invalid_argument,
                "prompt {} with an answer of {} tokens is {} long; rows have {} and the student's context {}",
                prompt.prompt.id, options.max_answer_tokens, length, options.row_length,
                student.layout.config.context_length);
        }
    }
    return {};
}

// A model that only scores: the teacher, or the student as it was at the start.
struct Scorer {
    const model::Parameters& parameters;
    model::Transformer transformer;
    tensor::Buffer<std::uint16_t> bf16;
    const Trainee* frozen = nullptr;  // where its weights are those below the adapters

    Scorer(const model::Parameters& scored, std::int64_t max_tokens, bool in_bf16, const Trainee* below)
        : parameters(scored), transformer(scored.layout, max_tokens, {false, false}), frozen(below) {
        if (!in_bf16 || below != nullptr) return;
        bf16 = tensor::Buffer<std::uint16_t>(scored.layout.total);
        tensor::convert_to_bf16(scored.values.data(), bf16.data(), scored.layout.total);
    }
    [[nodiscard]] const model::ModelConfig& config() const { return parameters.layout.config; }
    HeadInput run(const model::TokenBatch& batch) {
        const model::ParameterView view =
            frozen != nullptr
                ? frozen->frozen_view()
                : model::ParameterView{parameters.values.data(), bf16.empty() ? nullptr : bf16.data()};
        return {&parameters.layout, view, transformer.forward(view, batch)};
    }
};

// The run's state besides parameters: rebuilt the same way at a start and a resume.
class OnPolicyRun {
  public:
    // start: the student before its first step, where grpo is held to it.
    OnPolicyRun(Trainee& trainee, const model::Parameters& student, const OnPolicyInputs& inputs,
                const OnPolicyOptions& options, std::optional<model::Parameters> start,
                std::int64_t max_tokens)
        : trainee_(trainee),
          inputs_(inputs),
          options_(options),
          transformer_(student.layout, max_tokens,
                       {true, options.train.recompute, options.train.bf16, trainee.adapter_rank()}),
          head_(inputs.text->tokenizer.vocab_size(), student.layout.config.hidden_size,
                inputs.teacher == nullptr ? student.layout.config.hidden_size
                                          : inputs.teacher->layout.config.hidden_size,
                max_tokens),
          d_hidden_(max_tokens * student.layout.config.hidden_size),
          start_(std::move(start)) {
        if (inputs.teacher != nullptr)
            teacher_ = std::make_unique<Scorer>(*inputs.teacher, max_tokens, options.train.bf16, nullptr);
        if (start_) {
            reference_ = std::make_unique<Scorer>(*start_, max_tokens, options.train.bf16, nullptr);
        } else if (held_to_start(options)) {
            reference_ = std::make_unique<Scorer>(student, max_tokens, options.train.bf16, &trainee_);
        }
    }

    static bool held_to_start(const OnPolicyOptions& options) {
        return options.kind == OnPolicyKind::grpo && options.kl > 0;
    }

    Result<StepRecord> step(std::int64_t index, double rate) {
        StepRecord record;
        record.learning_rate = rate;
        if (options_.kind == OnPolicyKind::gkd) {
            RETORT_CHECK(gkd_step(index, record));
        } else {
            RETORT_CHECK(policy_step(index, record));
        }
        return record;
    }

  private:
    [[nodiscard]] model::ParameterView view() const { return trainee_.view(); }

    [[nodiscard]] Communicator& world() const { return trainee_.world(); }
    // Every so many, from this process's own number on.
    [[nodiscard]] std::vector<std::int64_t> own_share(std::span<const std::int64_t> all) const {
        std::vector<std::int64_t> mine;
        for (auto i = static_cast<std::size_t>(world().rank()); i < all.size();
             i += static_cast<std::size_t>(world().size()))
            mine.push_back(all[i]);
        return mine;
    }
    // Over all processes; counts below 2^53 are exact.
    template <typename... Number>
    void add_up(Number&... values) const {
        std::array<double, sizeof...(values)> sums = {static_cast<double>(values)...};
        world().sum(sums);
        std::size_t next = 0;
        ((values = static_cast<Number>(sums[next++])), ...);
    }

    // Prompts of the step that are this process's, and the answers that the student gives now.
    Result<std::vector<SampledAnswer>> sample(std::int64_t index) {
        chosen_ = own_share(prompts_of_step(inputs_, options_, index));
        prompts_.clear();
        for (const std::int64_t prompt : chosen_)
            prompts_.push_back(inputs_.prompts[static_cast<std::size_t>(prompt)].tokens);
        SamplingOptions sampling = sampling_of_step(inputs_, options_, index);
        sampling.first = static_cast<std::size_t>(world().rank());
        sampling.every = static_cast<std::size_t>(world().size());
        auto answers = sample_answers(trainee_.weights(), prompts_, sampling);
        // One that was interrupted takes the others with it: none of them takes this step.
        double interrupted = !answers && answers.error().code == ErrorCode::cancelled ? 1 : 0;
        if (!answers && interrupted == 0) return answers;
        add_up(interrupted);
        if (interrupted > 0 && answers) return fail(ErrorCode::cancelled, "another process was interrupted");
        return answers;
    }

    Result<std::vector<double>> rewards(std::span<const SampledAnswer> answers, StepRecord& record) const {
        std::vector<double> values;
        if (inputs_.verifier == nullptr) return values;
        const RewardRule rule{*inputs_.verifier, options_.format_reward};
        std::int64_t correct = 0;
        for (const SampledAnswer& answer : answers) {
            const TokenisedPrompt& prompt = inputs_.prompts[static_cast<std::size_t>(chosen_[answer.prompt])];
            RETORT_TRY(const Reward reward, reward_of(answer, prompt, *inputs_.text, rule));
            values.push_back(reward.value);
            correct += reward.correct ? 1 : 0;
        }
        auto all = static_cast<std::int64_t>(answers.size());
        add_up(correct, all);
        record.correct = static_cast<double>(correct) / static_cast<double>(std::max<std::int64_t>(1, all));
        return values;
    }

    [[nodiscard]] const model::ModelConfig& config() const { return trainee_.layout().config; }
    // A training pass in forward ones; frozen weights have no gradient to compute.
    [[nodiscard]] double passes() const { return trainee_.adapters() == nullptr ? 3 : 2; }
    // Who says what each sampled token is worth; null where only rewards do.
    [[nodiscard]] Scorer* scorer() const {
        return options_.kind == OnPolicyKind::opd ? teacher_.get() : reference_.get();
    }

    // Prompts once, answers a token at a time.
    [[nodiscard]] double sampling_flop(std::span<const SampledAnswer> answers) const {
        TokenCounts counts;
        for (const auto& prompt : prompts_)
            counts += count_continuation(0, static_cast<std::int64_t>(prompt.size()), 0);
        for (const SampledAnswer& answer : answers) {
            const auto length = static_cast<std::int64_t>(answer.tokens.size());
            counts +=
                count_continuation(static_cast<std::int64_t>(prompts_[answer.prompt].size()), length, length);
        }
        return forward_flop(config(), counts);
    }

    Status policy_step(std::int64_t index, StepRecord& record) {
        RETORT_TRY(const std::vector<SampledAnswer> answers, sample(index));
        RETORT_TRY(const std::vector<double> earned, rewards(answers, record));
        std::vector<float> advantages(answers.size(), 1.0F);
        const bool grpo = options_.kind == OnPolicyKind::grpo;
        if (grpo) advantages = group_advantages(earned, options_.samples);
        std::int64_t sampled = 0;
        for (const SampledAnswer& answer : answers)
            sampled += static_cast<std::int64_t>(answer.tokens.size());
        add_up(sampled);
        record.sampled_tokens = sampled;
        record.flop += sampling_flop(answers);
        RETORT_TRY(PolicyBatch batch, make_policy_batch(answers, prompts_, advantages,
                                                        grpo && options_.kl == 0, options_.row_length));
        score(batch);
        const TokenCounts counts = count_tokens(batch.rows);
        record.flop += passes() * static_cast<double>(options_.updates) * forward_flop(config(), counts);
        if (const Scorer* scored_by = scorer()) record.flop += forward_flop(scored_by->config(), counts);
        PolicySums sums;
        auto rows = static_cast<std::int64_t>(batch.rows.size());
        add_up(rows);
        for (std::int64_t update = 0; update < options_.updates && rows > 0; ++update) {
            sums = {};
            // Those left out count as well: their loss is 0.
            for_rows(batch, [&](const Batch& joined, std::span<const tensor::PolicyToken> tokens) {
                sums += micro_batch(joined, tokens, 1.0F / static_cast<float>(sampled));
            });
            record.gradient_norm = trainee_.step(options_.train.optimiser, record.learning_rate);
        }
        for (const data::PackedBatch& row : batch.rows)
            record.tokens += static_cast<std::int64_t>(row.tokens.size()) * options_.updates;
        add_up(sums.loss, sums.kl, sums.entropy, sums.tokens, record.tokens, record.flop);
        const double all = static_cast<double>(std::max<std::int64_t>(1, sampled));
        const double seen = static_cast<double>(std::max<std::int64_t>(1, sums.tokens));
        record.trained_tokens = sums.tokens;
        record.loss = grpo ? sums.loss / all : divergence_;
        record.divergence = grpo ? sums.kl / seen : divergence_;
        record.entropy = sums.entropy / seen;
        return {};
    }

    // Own answers, or rows of the data: which, is drawn from the seed.
    Status gkd_step(std::int64_t index, StepRecord& record) {
        constexpr std::uint64_t choice_stream = 0x474b44ULL;
        base::RandomStream choice(options_.train.seed ^ (choice_stream << 32U),
                                  static_cast<std::uint64_t>(index));
        if (choice.uniform() >= options_.lambda) {
            const auto rows =
                own_share(rows_of_step(static_cast<std::int64_t>(inputs_.rows.size()),
                                       options_.train.rows_per_step, options_.train.seed, index));
            divergence_update(inputs_.rows, rows, record);
            add_up(record.tokens, record.flop);
            return {};
        }
        RETORT_TRY(const std::vector<SampledAnswer> answers, sample(index));
        RETORT_CHECK(rewards(answers, record));
        for (const SampledAnswer& answer : answers)
            record.sampled_tokens += static_cast<std::int64_t>(answer.tokens.size());
        record.flop += sampling_flop(answers);
        const std::vector<float> advantages(answers.size(), 1.0F);
        RETORT_TRY(const PolicyBatch batch,
                   make_policy_batch(answers, prompts_, advantages, false, options_.row_length));
        std::vector<std::int64_t> rows(batch.rows.size());
        std::iota(rows.begin(), rows.end(), 0);
        for (std::int64_t update = 0; update < options_.updates; ++update)
            divergence_update(batch.rows, rows, record);
        add_up(record.sampled_tokens, record.tokens, record.flop);
        return {};
    }

    // One optimiser step on the divergence to the teacher over these rows and those of the other processes.
    void divergence_update(std::span<const data::PackedBatch> rows, std::span<const std::int64_t> chosen,
                           StepRecord& record) {
        std::int64_t trained = 0;
        for (const std::int64_t row : chosen) trained += rows[static_cast<std::size_t>(row)].trained_tokens;
        add_up(trained);
        tensor::TokenLossWeights weights = loss_weights(options_.train.objective);
        weights.scale = trained > 0 ? 1.0F / static_cast<float>(trained) : 0.0F;
        LossSums sums;
        TokenCounts counts;
        const auto most = static_cast<std::size_t>(options_.train.rows_per_micro_batch);
        for (std::size_t begin = 0; begin < chosen.size(); begin += most) {
            const auto some = chosen.subspan(begin, std::min(most, chosen.size() - begin));
            for (const std::int64_t row : some)
                counts += count_tokens(rows.subspan(static_cast<std::size_t>(row), 1));
            const Batch batch = join_rows(rows, some);
            record.tokens += static_cast<std::int64_t>(batch.tokens.size());
            const model::TokenBatch token_batch = batch.token_batch();
            const HeadInput teacher = teacher_->run(token_batch);
            const HeadInput input{&trainee_.layout(), view(), transformer_.forward(view(), token_batch)};
            sums += head_.run(input, &teacher, batch.targets, weights, d_hidden_.data(),
                              trainee_.head_gradients());
            backward(batch);
        }
        record.gradient_norm = trainee_.step(options_.train.optimiser, record.learning_rate);
        add_up(sums.ce, sums.divergence, sums.agreements, sums.tokens);
        const double n = static_cast<double>(std::max<std::int64_t>(1, sums.tokens));
        record.flop += passes() * forward_flop(config(), counts) + forward_flop(teacher_->config(), counts);
        record.trained_tokens += sums.tokens;
        record.loss = sums.value(options_.train.objective);
        record.ce = sums.ce / n;
        record.divergence = sums.divergence / n;
        record.agreement = static_cast<double>(sums.agreements) / n;
    }

    void backward(const Batch& batch) {
        const auto used = batch.tokens.size() * static_cast<std::size_t>(config().hidden_size);
        transformer_.backward(view(), batch.token_batch(), {d_hidden_.data(), used}, trainee_.gradients(),
                              trainee_.on_layer());
    }

    // Calls use(joined rows, their tokens) for each micro-batch.
    template <typename Use>
    void for_rows(const PolicyBatch& batch, const Use& use) {
        const auto most = static_cast<std::size_t>(options_.train.rows_per_micro_batch);
        for (std::size_t begin = 0; begin < batch.rows.size(); begin += most) {
            const std::size_t count = std::min(most, batch.rows.size() - begin);
            std::vector<std::int64_t> indices;
            std::vector<tensor::PolicyToken> tokens;
            for (std::size_t r = begin; r < begin + count; ++r) {
                indices.push_back(static_cast<std::int64_t>(r));
                tokens.insert(tokens.end(), batch.tokens[r].begin(), batch.tokens[r].end());
            }
            use(join_rows(batch.rows, indices), tokens);
        }
    }

    // What the teacher, or the student at the start, thinks of each token.
    void score(PolicyBatch& batch) {
        divergence_ = 0;
        if (scorer() == nullptr) return;
        std::vector<float> logprobs;
        for_rows(batch, [&](const Batch& joined, std::span<const tensor::PolicyToken>) {
            const auto some = head_.logprobs(scorer()->run(joined.token_batch()), joined.targets, 1.0F);
            logprobs.insert(logprobs.end(), some.begin(), some.end());
        });
        std::size_t next = 0;
        double sum = 0;
        for (auto& row : batch.tokens) {
            for (tensor::PolicyToken& token : row) {
                const float logprob = logprobs[next++];
                token.reference_logprob = logprob;
                if (options_.kind != OnPolicyKind::opd) continue;
                token.advantage = tensor::opd_advantage(token.old_logprob, logprob);
                sum -= static_cast<double>(token.advantage);
            }
        }
        add_up(sum, next);
        divergence_ = sum / static_cast<double>(std::max<std::size_t>(1, next));
    }

    PolicySums micro_batch(const Batch& batch, std::span<const tensor::PolicyToken> tokens, float scale) {
        tensor::PolicyWeights weights;
        weights.scale = scale;
        if (options_.kind == OnPolicyKind::grpo) {
            weights.clip_low = static_cast<float>(options_.clip_low);
            weights.clip_high = static_cast<float>(options_.clip_high);
            weights.kl = static_cast<float>(options_.kl);
        }
        const model::TokenBatch token_batch = batch.token_batch();
        const HeadInput input{&trainee_.layout(), view(), transformer_.forward(view(), token_batch)};
        const PolicySums sums = head_.run_policy(input, tokens, batch.targets, weights, d_hidden_.data(),
                                                 trainee_.head_gradients());
        backward(batch);
        return sums;
    }

    Trainee& trainee_;
    const OnPolicyInputs& inputs_;
    const OnPolicyOptions& options_;
    model::Transformer transformer_;
    FusedHead head_;
    tensor::Buffer<float> d_hidden_;
    std::unique_ptr<Scorer> teacher_;
    std::optional<model::Parameters> start_;
    std::unique_ptr<Scorer> reference_;
    std::vector<std::int64_t> chosen_;                // prompts of the step
    std::vector<std::vector<std::int32_t>> prompts_;  // the same, as tokens
    double divergence_ = 0;                           // opd: mean of log q_old(y) − log p(y)
};

}  // namespace

std::optional<OnPolicyKind> on_policy_from_name(std::string_view name) {
    const auto found =
        std::find_if(kinds.begin(), kinds.end(), [&](const NamedKind& kind) { return kind.name == name; });
    if (found == kinds.end()) return std::nullopt;
    return found->kind;
}

std::string_view on_policy_name(OnPolicyKind kind) {
    return std::find_if(kinds.begin(), kinds.end(), [&](const NamedKind& one) { return one.kind == kind; })
        ->name;
}

std::vector<std::int64_t> prompts_of_step(const OnPolicyInputs& inputs, const OnPolicyOptions& options,
                                          std::int64_t index) {
    return rows_of_step(static_cast<std::int64_t>(inputs.prompts.size()), options.prompts_per_step,
                        options.train.seed, index);
}

SamplingOptions sampling_of_step(const OnPolicyInputs& inputs, const OnPolicyOptions& options,
                                 std::int64_t index) {
    SamplingOptions sampling;
    sampling.samples = options.samples;
    sampling.max_tokens = options.max_answer_tokens;
    sampling.vocab_size = inputs.text->tokenizer.vocab_size();
    sampling.end_tokens = inputs.text->end_of_turn_tokens;
    constexpr std::uint64_t sampling_stream = 0x5a4d504cULL;  // apart from the streams that order rows
    sampling.seed =
        base::RandomStream(options.train.seed ^ (sampling_stream << 32U), static_cast<std::uint64_t>(index))
            .next_u64();
    return sampling;
}

Result<TrainReport> train_on_policy(model::Parameters& student, const OnPolicyInputs& inputs,
                                    const OnPolicyOptions& options) {
    RETORT_CHECK(check_on_policy(student, inputs, options));
    const TrainOptions& train = options.train;
    const std::string print = on_policy_fingerprint(student, inputs, options);
    std::optional<model::Parameters> start;  // adapters leave it where it is
    if (OnPolicyRun::held_to_start(options) && train.lora.rank == 0) {
        start = model::make_parameters(student.layout.config);
        std::copy_n(student.values.data(), student.layout.total, start->values.data());
    }
    RETORT_TRY(const std::unique_ptr<Trainee> trainee, Trainee::make(student, trainee_options(train)));
    std::optional<OnPolicyRun> run(std::in_place, *trainee, student, inputs, options, std::move(start),
                                   options.row_length * train.rows_per_micro_batch);
    StepLoop loop{train, print, options.steps, *trainee, {}, {}, {}};
    loop.step = [&run](std::int64_t index, double rate) { return run->step(index, rate); };
    loop.note = [](const StepRecord& record) {
        return fmt::format("correct {:.0f} %  {:.0f} tokens sampled/s", 100 * record.correct,
                           static_cast<double>(record.sampled_tokens) / record.seconds);
    };
    auto report = run_steps(loop);
    run.reset();
    RETORT_CHECK(finish_training(*trainee, train, report.has_value()));
    return report;
}

}  // namespace retort::train
