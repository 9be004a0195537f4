// Training on the student's own answers: samples against the trainer's own forward pass, advantages and
// rewards by hand, the direction of a run, and resuming to the same bits.
#include "train/onpolicy.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <thread>

#include "base/interrupt.h"
#include "base/parallel.h"
#include "data/problems.h"
#include "model/fresh.h"
#include "thread_ranks.h"
#include "train/batches.h"
#include "train/fused_head.h"
#include "train/onpolicy_batch.h"

namespace retort::train {
namespace {

namespace fs = std::filesystem;

struct Setting {
    text::TextModel text = text::load_text_model(RETORT_SOURCE_DIR "/recipes/reasoning/tokenizer").value();
    std::vector<TokenisedPrompt> prompts;
    data::Verifier verifier = data::Verifier::from_spec({{"type", "regex"}, {"pattern", "[0-4]"}}).value();

    Setting() {
        data::ProblemOptions options;
        options.count = 12;
        std::vector<data::Prompt> asked;
        const std::vector<data::Problem> problems = data::make_problems(options).value();
        for (const data::Problem& problem : problems) {
            data::Prompt prompt;
            prompt.id = std::to_string(asked.size());
            prompt.messages = {{.role = "user", .content = problem.question, .reasoning = ""}};
            prompt.metadata = {{"answer", problem.answer}};
            asked.push_back(std::move(prompt));
        }
        prompts = tokenise_prompts(asked, text).value();
    }
    [[nodiscard]] model::Parameters model(std::uint64_t seed) const {
        const auto config = model::parse_fresh_config(
            "hidden_size = 32\nnum_hidden_layers = 2\nnum_attention_heads = 2\nmax_position_embeddings = "
            "128\n",
            "shape", {text.tokenizer.vocab_size(), -1, text.tokenizer.eos_id()});
        model::Parameters parameters = model::random_parameters(config.value(), seed);
        for (float& value : parameters.values.span()) value *= 4;  // far from uniform
        return parameters;
    }
    [[nodiscard]] OnPolicyOptions options(OnPolicyKind kind) const {
        OnPolicyOptions options;
        options.kind = kind;
        options.steps = 6;
        options.prompts_per_step = 4;
        options.samples = 4;
        options.max_answer_tokens = 16;
        options.row_length = 96;
        options.train.learning_rate = 3e-3;
        options.train.quiet = true;
        if (kind == OnPolicyKind::gkd) options.train.objective.kind = ObjectiveKind::jsd;
        return options;
    }
    [[nodiscard]] OnPolicyInputs inputs(const model::Parameters* teacher) const {
        OnPolicyInputs inputs;
        inputs.prompts = prompts;
        inputs.text = &text;
        inputs.teacher = teacher;
        inputs.verifier = &verifier;
        return inputs;
    }
};

std::vector<std::vector<std::int32_t>> tokens_of(const Setting& setting) {
    std::vector<std::vector<std::int32_t>> prompts;
    for (const TokenisedPrompt& prompt : setting.prompts) prompts.push_back(prompt.tokens);
    return prompts;
}

TEST(OnPolicy, samples_have_the_logprobs_that_training_computes) {
    const Setting setting;
    const model::Parameters student = setting.model(1);
    const auto prompts = tokens_of(setting);
    SamplingOptions sampling;
    sampling.samples = 3;
    sampling.max_tokens = 24;
    sampling.seed = 7;
    sampling.end_tokens = setting.text.end_of_turn_tokens;
    const auto answers = sample_answers(model::weights_view(student), prompts, sampling).value();
    ASSERT_EQ(answers.size(), prompts.size() * 3);
    EXPECT_NE(answers[0].tokens, answers[1].tokens);
    const std::vector<float> advantages(answers.size(), 1.0F);
    const PolicyBatch batch = make_policy_batch(answers, prompts, advantages, false, 96).value();
    model::Transformer transformer(student.layout, 96, {false, false});
    FusedHead head(setting.text.tokenizer.vocab_size(), 32, 0, 96);
    std::int64_t checked = 0;
    for (std::size_t r = 0; r < batch.rows.size(); ++r) {
        const Batch joined = join_rows(batch.rows, std::vector<std::int64_t>{static_cast<std::int64_t>(r)});
        const model::ParameterView view{student.values.data(), nullptr};
        const HeadInput input{&student.layout, view, transformer.forward(view, joined.token_batch())};
        const auto logprobs = head.logprobs(input, joined.targets, 1.0F);
        ASSERT_EQ(logprobs.size(), batch.tokens[r].size());
        // f32 on both sides, in other orders of summation: some hundred roundings of 6e-8 on logits below 30.
        for (std::size_t t = 0; t < logprobs.size(); ++t, ++checked)
            EXPECT_NEAR(logprobs[t], batch.tokens[r][t].old_logprob, 2e-4);
    }
    EXPECT_EQ(checked, batch.trained_tokens);
    // One prompt alone: the same answers.
    const auto alone =
        sample_answers(model::weights_view(student), std::span(prompts).first(1), sampling).value();
    EXPECT_EQ(alone[2].tokens, answers[2].tokens);
    sampling.seed = 8;
    EXPECT_NE(sample_answers(model::weights_view(student), prompts, sampling).value()[0].tokens,
              answers[0].tokens);
}

TEST(OnPolicy, advantages_are_normalised_within_their_group) {
    const std::vector<double> rewards = {1, 0, 0, 1, 0.1, 0.1, 0.1, 0.1, 1.1, 0, 0, 0};
    const auto advantages = group_advantages(rewards, 4);
    EXPECT_NEAR(advantages[0], 0.5 / (0.5 + 1e-4), 1e-6);
    EXPECT_NEAR(advantages[1], -0.5 / (0.5 + 1e-4), 1e-6);
    for (std::size_t i = 4; i < 8; ++i) EXPECT_EQ(advantages[i], 0.0F);
    EXPECT_NEAR(advantages[8], std::sqrt(3.0), 1e-3);
    EXPECT_NEAR(advantages[9], -1 / std::sqrt(3.0), 1e-3);
}

TEST(OnPolicy, rewards_are_for_answers_that_end) {
    const Setting setting;
    const auto verifier = data::Verifier::from_spec({{"type", "numeric"}, {"expected", "{answer}"}}).value();
    const RewardRule rule{verifier, 0.25};
    TokenisedPrompt prompt;
    prompt.prompt.metadata = {{"answer", "42"}};
    const auto reward = [&](const std::string& text) {
        SampledAnswer answer;
        answer.tokens =
            setting.text.tokenizer.encode(text, {.add_special_tokens = false, .parse_special = true});
        answer.ended = answer.tokens.back() == setting.text.tokenizer.eos_id();
        return reward_of(answer, prompt, setting.text, rule).value();
    };
    EXPECT_DOUBLE_EQ(reward("<think>40+2=42</think>42<|end|>").value, 1.25);
    EXPECT_DOUBLE_EQ(reward("<think>40+2=43</think>43<|end|>").value, 0.25);
    EXPECT_DOUBLE_EQ(reward("42<|end|>").value, 1.0);  // right, without reasoning
    EXPECT_DOUBLE_EQ(reward("<think>40+2=42<|end|>").value, 0.0);
    EXPECT_DOUBLE_EQ(reward("<think>40+2=42</think><|end|>").value, 0.0);
    EXPECT_DOUBLE_EQ(reward("<think>40+2=42</think>42").value, 0.0);  // cut
    EXPECT_TRUE(reward("<think>40+2=42</think>42<|end|>").correct);
    prompt.starts_in_reasoning = true;
    EXPECT_DOUBLE_EQ(reward("40+2=42</think>42<|end|>").value, 1.25);
}

TEST(OnPolicy, opd_and_gkd_bring_the_student_to_its_teacher) {
    const Setting setting;
    const model::Parameters teacher = setting.model(2);
    for (const OnPolicyKind kind : {OnPolicyKind::opd, OnPolicyKind::gkd}) {
        model::Parameters student = setting.model(1);
        OnPolicyOptions options = setting.options(kind);
        options.steps = 40;
        options.train.learning_rate = 1e-2;
        const auto report = train_on_policy(student, setting.inputs(&teacher), options);
        ASSERT_TRUE(report) << report.error().message;
        EXPECT_LT(report->curve.back().loss, 0.8 * report->curve.front().loss) << on_policy_name(kind);
    }
}

// A student that ends at once now and then, and a verifier that some of its answers pass: there is something
// to reward.
Setting easy_setting() {
    Setting easy;
    easy.text.end_of_turn_tokens.clear();
    for (std::int32_t token = 0; token < 200; ++token) easy.text.end_of_turn_tokens.push_back(token);
    easy.verifier = data::Verifier::from_spec({{"type", "regex"}, {"pattern", "[a-m]"}}).value();
    return easy;
}

TEST(OnPolicy, grpo_earns_more) {
    const Setting setting;
    model::Parameters student = setting.model(1);
    OnPolicyOptions options = setting.options(OnPolicyKind::grpo);
    options.steps = 40;
    options.samples = 8;
    options.max_answer_tokens = 3;
    options.train.learning_rate = 1e-2;
    const Setting easy = easy_setting();
    const auto report = train_on_policy(student, easy.inputs(nullptr), options);
    ASSERT_TRUE(report) << report.error().message;
    const auto mean = [&](std::size_t from) {
        double sum = 0;
        for (std::size_t i = from; i < from + 8; ++i) sum += report->curve[i].correct;
        return sum / 8;
    };
    EXPECT_GT(mean(32), mean(0) + 0.2);
}

TEST(OnPolicy, stopped_anywhere_it_ends_at_the_same_bits) {
    const Setting setting;
    const model::Parameters teacher = setting.model(2);
    const struct {
        OnPolicyKind kind;
        std::int64_t lora_rank;
    } cases[] = {
        {OnPolicyKind::opd, 0}, {OnPolicyKind::gkd, 0}, {OnPolicyKind::grpo, 0}, {OnPolicyKind::grpo, 4}};
    for (const auto& [kind, lora_rank] : cases) {
        OnPolicyOptions options = setting.options(kind);
        options.updates = 2;
        options.train.lora.rank = lora_rank;
        if (lora_rank > 0) options.kl = 0.1;
        model::Parameters whole = setting.model(1);
        ASSERT_TRUE(train_on_policy(whole, setting.inputs(&teacher), options));
        options.train.folder = fs::path(::testing::TempDir()) / "retort_onpolicy";
        options.train.checkpoint_steps = 1;
        fs::remove_all(options.train.folder);
        fs::create_directories(options.train.folder);
        model::Parameters pieces = setting.model(1);
        std::atomic<bool> running = true;
        std::thread interrupter([&] {
            while (running && !fs::exists(options.train.folder / "checkpoint.bin")) std::this_thread::yield();
            base::set_interrupted(true);
        });
        const auto first = train_on_policy(pieces, setting.inputs(&teacher), options);
        running = false;
        interrupter.join();
        base::set_interrupted(false);
        if (!first) {
            EXPECT_EQ(first.error().code, ErrorCode::cancelled) << first.error().message;
            pieces = setting.model(1);
            const auto rest = train_on_policy(pieces, setting.inputs(&teacher), options);
            ASSERT_TRUE(rest) << rest.error().message;
            EXPECT_GT(rest->resumed_from, 0);
        }
        EXPECT_TRUE(std::equal(pieces.values.span().begin(), pieces.values.span().end(), whole.values.data()))
            << on_policy_name(kind);
        fs::remove_all(options.train.folder);
    }
}

TEST(OnPolicy, several_processes_draw_the_same_answers_and_take_the_same_steps) {
    const Setting setting = easy_setting();
    const model::Parameters teacher = setting.model(2);
    const auto run = [&](OnPolicyKind kind, int ranks) {
        Meeting meeting(ranks);
        std::vector<std::vector<StepRecord>> curves(static_cast<std::size_t>(ranks));
        std::vector<std::vector<float>> values(static_cast<std::size_t>(ranks));
        std::vector<std::thread> threads;
        for (int r = 0; r < ranks; ++r) {
            threads.emplace_back([&, r] {
                base::set_thread_count(1);
                ThreadRank world(meeting, r);
                OnPolicyOptions options = setting.options(kind);
                options.steps = 3;
                options.kl = 0.05;
                options.train.world = &world;
                model::Parameters student = setting.model(1);
                auto report = train_on_policy(student, setting.inputs(&teacher), options);
                ASSERT_TRUE(report) << report.error().message;
                curves[static_cast<std::size_t>(r)] = std::move(report->curve);
                values[static_cast<std::size_t>(r)] = {student.values.span().begin(),
                                                       student.values.span().end()};
            });
        }
        for (std::thread& thread : threads) thread.join();
        for (const auto& one : values) EXPECT_EQ(one, values[0]);
        for (const auto& curve : curves) {
            EXPECT_EQ(curve.size(), 3U);
            EXPECT_EQ(curve.back().loss, curves[0].back().loss);
        }
        return curves[0];
    };
    // Five are more than the step has prompts: one of them has nothing to answer.
    for (const OnPolicyKind kind : {OnPolicyKind::grpo, OnPolicyKind::opd, OnPolicyKind::gkd}) {
        const auto one = run(kind, 1);
        // Answers of a group that all earn the same have no gradient, and any number of processes agrees on
        // nothing.
        ASSERT_GT(one[0].gradient_norm, 1e-2) << on_policy_name(kind);
        for (const int ranks : {2, 3, 5}) {
            const auto several = run(kind, ranks);
            // The same weights give the same answers, so that what is counted of the first step is equal;
            // sums in f32 are taken in another order.
            EXPECT_EQ(several[0].sampled_tokens, one[0].sampled_tokens) << on_policy_name(kind) << ranks;
            EXPECT_EQ(several[0].trained_tokens, one[0].trained_tokens);
            EXPECT_EQ(several[0].tokens, one[0].tokens);
            EXPECT_DOUBLE_EQ(several[0].correct, one[0].correct);
            EXPECT_NEAR(several[0].flop / one[0].flop, 1, 1e-12);
            EXPECT_NEAR(several[0].loss, one[0].loss, 1e-5 * std::max(1.0, std::abs(one[0].loss)));
            EXPECT_NEAR(several[0].gradient_norm / one[0].gradient_norm, 1, 1e-5)
                << on_policy_name(kind) << ranks << " of " << one[0].gradient_norm;
        }
    }
}

TEST(OnPolicy, what_is_missing_is_named) {
    const Setting setting;
    model::Parameters student = setting.model(1);
    const auto fault = [&](OnPolicyInputs inputs, const OnPolicyOptions& options) {
        const auto report = train_on_policy(student, inputs, options);
        return report ? std::string() : report.error().message;
    };
    EXPECT_NE(fault(setting.inputs(nullptr), setting.options(OnPolicyKind::opd)).find("needs a teacher"),
              std::string::npos);
    OnPolicyInputs unverified = setting.inputs(nullptr);
    unverified.verifier = nullptr;
    EXPECT_NE(fault(unverified, setting.options(OnPolicyKind::grpo)).find("needs a verifier"),
              std::string::npos);
    OnPolicyOptions long_answers = setting.options(OnPolicyKind::grpo);
    long_answers.max_answer_tokens = 96;
    EXPECT_NE(fault(setting.inputs(nullptr), long_answers).find("rows have 96"), std::string::npos);
}

}  // namespace
}  // namespace retort::train
