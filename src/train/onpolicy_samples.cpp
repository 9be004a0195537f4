#include "train/onpolicy_samples.h"

#include <algorithm>
#include <cmath>

#include "base/interrupt.h"
#include "base/random.h"
#include "generate/scheduler.h"
#include "generate/text_generation.h"
#include "train/text_examples.h"

namespace retort::train {

Result<std::vector<SampledAnswer>> sample_answers(const model::Weights& weights,
                                                  std::span<const std::vector<std::int32_t>> prompts,
                                                  const SamplingOptions& options) {
    if (prompts.empty()) return std::vector<SampledAnswer>();
    std::size_t longest = 0;
    for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
    generate::EngineOptions engine;
    engine.context_length = static_cast<std::int64_t>(longest) + options.max_tokens;
    engine.max_sequences = std::min<std::int64_t>(
        options.max_sequences, static_cast<std::int64_t>(prompts.size()) * options.samples);
    engine.prefill_chunk = 512;
    engine.cache_type = tensor::DType::f32;  // log q(y) is what training computes, not nearly so
    RETORT_TRY(const generate::SchedulerPlan plan, generate::plan_scheduler(weights.config, engine));
    // A new one for each call: keys and values kept from other weights would be wrong.
    generate::Scheduler scheduler(weights, plan, options.seed);

    std::vector<std::pair<std::int32_t, float>> no_padding;
    if (options.vocab_size > 0) {
        for (std::int64_t id = options.vocab_size; id < weights.config.vocab_size; ++id)
            no_padding.emplace_back(static_cast<std::int32_t>(id), -1e9F);
    }
    std::vector<SampledAnswer> answers(prompts.size() * static_cast<std::size_t>(options.samples));
    std::optional<base::Error> problem;
    for (std::size_t i = 0; i < answers.size(); ++i) {
        SampledAnswer& answer = answers[i];
        answer.prompt = i / static_cast<std::size_t>(options.samples);
        generate::ScheduledRequest scheduled;
        scheduled.id = i + 1;
        scheduled.request.prompt = prompts[answer.prompt];
        scheduled.request.max_tokens = options.max_tokens;
        scheduled.request.top_logprobs = 0;
        const auto samples = static_cast<std::size_t>(options.samples);
        const std::size_t place = (options.first + answer.prompt * options.every) * samples + i % samples;
        scheduled.request.sampling.seed = base::RandomStream(options.seed, place).next_u64();
        RETORT_CHECK(generate::check_request(scheduled.request, weights.config, plan.context_length));
        // The end of the turn is a token that is drawn and learnt like any other: the engine is not told of
        // it, for it would not report it.
        scheduled.on_token = [&answer, &options](const generate::TokenEvent& event) {
            answer.tokens.push_back(event.token);
            answer.logprobs.push_back(event.logprob);
            answer.ended = std::find(options.end_tokens.begin(), options.end_tokens.end(), event.token) !=
                           options.end_tokens.end();
            return !answer.ended;
        };
        scheduled.on_done = [&problem](const Result<generate::Completion>& done) {
            if (!done && !problem) problem = done.error();
        };
        scheduler.add(std::move(scheduled));
    }
    while (!scheduler.idle()) {
        if (base::interrupted()) {
            scheduler.cancel_all();
            return fail(ErrorCode::cancelled, "interrupted while the student answered");
        }
        scheduler.step();
    }
    if (problem) return fail_from(*problem, "the student's own answers");
    return answers;
}

Result<std::vector<TokenisedPrompt>> tokenise_prompts(std::span<const data::Prompt> prompts,
                                                      const text::TextModel& text) {
    const data::Renderer render = chat_renderer(text);
    std::vector<TokenisedPrompt> tokenised;
    tokenised.reserve(prompts.size());
    for (const data::Prompt& prompt : prompts) {
        RETORT_TRY(std::string rendered, render(prompt.messages, true));
        TokenisedPrompt one;
        one.prompt = prompt;
        one.tokens = text.tokenizer.encode(rendered, {.add_special_tokens = false, .parse_special = true});
        if (one.tokens.empty()) return fail(ErrorCode::invalid_argument, "prompt {}: no tokens", prompt.id);
        rendered.erase(rendered.find_last_not_of(" \t\r\n") + 1);
        one.starts_in_reasoning = rendered.ends_with("<think>");
        tokenised.push_back(std::move(one));
    }
    return tokenised;
}

Result<Reward> reward_of(const SampledAnswer& answer, const TokenisedPrompt& prompt,
                         const text::TextModel& text, const RewardRule& rule) {
    if (!answer.ended) return Reward{};
    const std::span<const std::int32_t> said(answer.tokens.data(), answer.tokens.size() - 1);
    generate::ReasoningSplitter splitter(prompt.starts_in_reasoning);
    const auto first = splitter.push(text.tokenizer.decode(said));
    const bool closed = !splitter.in_reasoning();
    const auto rest = splitter.finish();
    const std::string content = first.content + rest.content;
    const std::string reasoning = first.reasoning + rest.reasoning;
    RETORT_TRY(const data::Verdict verdict, rule.verifier.check(content, prompt.prompt.metadata));
    Reward reward;
    reward.correct = verdict.passed;
    const bool formatted = closed && !content.empty() && !reasoning.empty();
    reward.value = (verdict.passed ? 1.0 : 0.0) + (formatted ? rule.format : 0.0);
    return reward;
}

std::vector<float> group_advantages(std::span<const double> rewards, std::int64_t samples) {
    std::vector<float> advantages(rewards.size(), 0.0F);
    const auto size = static_cast<std::size_t>(samples);
    for (std::size_t begin = 0; begin + size <= rewards.size(); begin += size) {
        const std::span<const double> group = rewards.subspan(begin, size);
        double mean = 0;
        for (const double reward : group) mean += reward;
        mean /= static_cast<double>(size);
        double variance = 0;
        for (const double reward : group) variance += (reward - mean) * (reward - mean);
        const double deviation = std::sqrt(variance / static_cast<double>(size));
        if (deviation < 1e-12) continue;
        for (std::size_t i = 0; i < size; ++i)
            advantages[begin + i] = static_cast<float>((group[i] - mean) / (deviation + 1e-4));
    }
    return advantages;
}

}  // namespace retort::train
