// The page before a training on the student's own answers: what its prompts, its first answers and their
// rewards look like, and what two of its steps cost.
#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/log.h"
#include "train/preflight_page.h"
#include "train/text_examples.h"

namespace retort::train {

namespace {

void check_vocabulary(const PreparedOnPolicy& run, Page& page) {
    const std::int64_t ids = run.text.tokenizer.vocab_size();
    page.vocabulary("student", run.student.layout.config.vocab_size, ids);
    if (run.teacher) {
        page.vocabulary("teacher", run.teacher->layout.config.vocab_size, ids);
        page.good("tokenizer", "teacher and student have the same, by its hash");
    } else if (run.options.kind == OnPolicyKind::grpo) {
        page.note("tokenizer", "no teacher's distribution is used; rewards alone are learnt from");
    } else {
        page.problem("tokenizer", fmt::format("{} needs a teacher's weights: give --teacher",
                                              on_policy_name(run.options.kind)));
    }
}

Status check_template(const PreparedOnPolicy& run, Page& page) {
    const data::Renderer render = chat_renderer(run.text);
    const std::int32_t bos = run.text.tokenizer.bos_id();
    const std::size_t tried = std::min(run.prompts.size(), most_round_trips);
    std::size_t doubled = 0;
    std::string first_wrong;
    for (const TokenisedPrompt& one : std::span(run.prompts).first(tried)) {
        RETORT_TRY(const std::string text, render(one.prompt.messages, true));
        const std::string back = run.text.tokenizer.decode(one.tokens);
        const bool said = back.find(without_blanks(one.prompt.messages.back().content)) != std::string::npos;
        if ((without_blanks(back) != without_blanks(text) || !said) && first_wrong.empty())
            first_wrong = one.prompt.id;
        doubled += bos >= 0 && bos != run.text.tokenizer.eos_id() && one.tokens.size() > 1 &&
                           one.tokens[0] == bos && one.tokens[1] == bos
                       ? 1
                       : 0;
    }
    if (first_wrong.empty()) {
        page.good("template",
                  fmt::format("{} prompts come back from their tokens as they were written", tried));
    } else {
        page.problem("template", fmt::format("prompt {}: its tokens do not read back as it was written; the "
                                             "template or tokenizer is not understood",
                                             first_wrong));
    }
    if (doubled > 0) {
        page.problem(
            "BOS",
            fmt::format("{} prompts begin with it twice; template and tokenizer both write it", doubled));
    } else {
        page.good("BOS", bos < 0 ? "the tokenizer has none" : "no prompt begins with it twice");
    }
    return {};
}

void check_lengths(const PreparedOnPolicy& run, Page& page) {
    const OnPolicyOptions& options = run.options;
    const std::int64_t context = run.student.layout.config.context_length;
    const std::int64_t room = std::min(options.row_length, context) - options.max_answer_tokens;
    std::int64_t too_long = 0;
    const TokenisedPrompt* longest = nullptr;
    for (const TokenisedPrompt& one : run.prompts) {
        too_long += static_cast<std::int64_t>(one.tokens.size()) > room ? 1 : 0;
        if (longest == nullptr || one.tokens.size() > longest->tokens.size()) longest = &one;
    }
    if (longest == nullptr) {
        page.problem("prompts", "there are none to answer");
        return;
    }
    const std::int64_t needed = static_cast<std::int64_t>(longest->tokens.size()) + options.max_answer_tokens;
    if (too_long == 0) {
        page.good("prompts", fmt::format("{} of at most {} tokens; with answers of {} they fit a row of {}",
                                         run.prompts.size(), longest->tokens.size(),
                                         options.max_answer_tokens, options.row_length));
    } else {
        page.problem(
            "prompts",
            fmt::format("{} of {} are too long: with an answer of {} tokens the longest, {}, has {}, "
                        "rows have {} and the student's context {}; {}",
                        too_long, run.prompts.size(), options.max_answer_tokens, longest->prompt.id, needed,
                        options.row_length, context,
                        needed <= context ? fmt::format("give --row-length {}", needed)
                                          : "leave them out, or lower --max-answer-tokens"));
    }
}

// A member that the rule asks for and a prompt does not have would end the run at the step that draws it.
void check_verifier(const PreparedOnPolicy& run, const data::Verifier& verifier, Page& page) {
    constexpr double most_seconds = 5;  // a command may be slow
    const double start = base::monotonic_seconds();
    std::size_t read = 0;
    for (const TokenisedPrompt& one : run.prompts) {
        if (base::monotonic_seconds() - start > most_seconds) break;
        const auto verdict = verifier.check("0", one.prompt.metadata);
        if (!verdict) {
            page.problem("verifier", fmt::format("prompt {}: {}; its answers cannot be judged", one.prompt.id,
                                                 verdict.error().message));
            return;
        }
        ++read;
    }
    page.good("verifier",
              fmt::format("type {}; it can judge answers to {} of {} prompts{}", verifier.type(), read,
                          run.prompts.size(), read < run.prompts.size() ? ", as many as were tried" : ""));
}

// What the student says in the first step, and what it earns.
Status check_answers(const PreparedOnPolicy& run, const OnPolicyJob& job, Page& page) {
    const OnPolicyInputs inputs = inputs_of(run, job);
    const OnPolicyOptions& options = run.options;
    const std::vector<std::int64_t> chosen = prompts_of_step(inputs, options, 0);
    std::vector<std::vector<std::int32_t>> prompts;
    prompts.reserve(chosen.size());
    for (const std::int64_t prompt : chosen)
        prompts.push_back(run.prompts[static_cast<std::size_t>(prompt)].tokens);
    RETORT_TRY(
        const std::vector<SampledAnswer> answers,
        sample_answers(model::weights_view(run.student), prompts, sampling_of_step(inputs, options, 0)));
    std::int64_t tokens = 0;
    std::int64_t ended = 0;
    std::int64_t accepted = 0;
    std::vector<double> earned;
    for (const SampledAnswer& answer : answers) {
        tokens += static_cast<std::int64_t>(answer.tokens.size());
        ended += answer.ended ? 1 : 0;
        if (!job.verifier) continue;
        const TokenisedPrompt& prompt = run.prompts[static_cast<std::size_t>(chosen[answer.prompt])];
        const RewardRule rule{*job.verifier, options.format_reward};
        RETORT_TRY(const Reward reward, reward_of(answer, prompt, run.text, rule));
        accepted += reward.correct ? 1 : 0;
        earned.push_back(reward.value);
    }
    const std::string said =
        fmt::format("{} of the first {} end by themselves, of {:.0f} tokens on average", ended,
                    answers.size(), static_cast<double>(tokens) / static_cast<double>(answers.size()));
    if (ended > 0) {
        page.good("answers", said);
    } else {
        page.note("answers", said +
                                 "; what is cut earns nothing and never learns to end: train with ce first, "
                                 "or raise --max-answer-tokens");
    }
    if (!job.verifier) return {};
    const std::vector<float> advantages = group_advantages(earned, options.samples);
    std::int64_t telling = 0;
    const auto size = static_cast<std::size_t>(options.samples);
    for (std::size_t begin = 0; begin + size <= advantages.size(); begin += size) {
        const auto group = std::span(advantages).subspan(begin, size);
        telling += std::any_of(group.begin(), group.end(), [](float one) { return one != 0; }) ? 1 : 0;
    }
    std::string rewards =
        fmt::format("the verifier accepts {} of the first {} answers", accepted, answers.size());
    if (options.kind != OnPolicyKind::grpo) {
        page.good("reward", rewards + "; it only shows in the curve");
        return {};
    }
    rewards += fmt::format("; rewards differ within the answers to {} of {} prompts", telling, chosen.size());
    if (telling > 0) {
        page.good("reward", rewards);
    } else {
        page.note("reward", rewards +
                                ": grpo learns nothing from equal ones; train with ce or opd first, give "
                                "easier prompts, or raise --samples");
    }
    return {};
}

// So many steps on a copy, of own answers or of the data as `lambda` says.
Result<TrainReport> probe(const PreparedOnPolicy& run, const OnPolicyJob& job, std::int64_t steps,
                          double lambda) {
    model::Parameters copy = model::make_parameters(run.student.layout.config);
    std::copy_n(run.student.values.data(), run.student.layout.total, copy.values.data());
    OnPolicyOptions options = run.options;
    options.steps = steps;
    options.lambda = lambda;
    options.train.folder.clear();
    options.train.quiet = true;
    return train_on_policy(copy, inputs_of(run, job), options);
}

struct StepCost {
    double seconds = 0;
    double sampled_tokens = 0;
};

// Two steps, of which the first touches memory for the first time; where they are short, more, since one
// alone is as long as its answers happen to be.
Result<StepCost> measure(const PreparedOnPolicy& run, const OnPolicyJob& job, double lambda,
                         std::optional<StepRecord>& first) {
    constexpr double enough_seconds = 4;
    constexpr std::int64_t most_steps = 16;
    RETORT_TRY(TrainReport report, probe(run, job, 2, lambda));
    if (!first) first = report.curve.front();
    const auto steps =
        static_cast<std::int64_t>(enough_seconds / std::max(1e-3, report.curve.back().seconds)) + 1;
    if (steps > 2) {
        RETORT_TRY(report, probe(run, job, std::min(steps, most_steps), lambda));
    }
    StepCost cost;
    const double measured = static_cast<double>(report.curve.size() - 1);
    for (const StepRecord& step : std::span(report.curve).subspan(1)) {
        cost.seconds += step.seconds / measured;
        cost.sampled_tokens += static_cast<double>(step.sampled_tokens) / measured;
    }
    return cost;
}

void check_loss(const PreparedOnPolicy& run, const StepRecord& first, Preflight& found, Page& page) {
    found.first_loss = first.loss;
    found.uniform_loss = std::log(static_cast<double>(run.text.tokenizer.vocab_size()));
    const std::string text =
        fmt::format("{} begins at {:.3f}, gradient norm {:.2f}{}", on_policy_name(run.options.kind),
                    first.loss, first.gradient_norm,
                    run.options.train.optimiser.clip_norm > 0
                        ? fmt::format(", clipped at {:g}", run.options.train.optimiser.clip_norm)
                        : std::string());
    if (std::isfinite(first.loss) && std::isfinite(first.gradient_norm)) {
        page.good("loss", text);
    } else {
        page.problem("loss", text + "; not a number: weights or objective do not fit");
    }
}

Status check_cost(const PreparedOnPolicy& run, const OnPolicyJob& job, Preflight& found, Page& page) {
    const std::int64_t loaded = resident_bytes();
    const std::int64_t peak_before = peak_resident_bytes();
    const OnPolicyOptions& options = run.options;
    const double own = options.kind == OnPolicyKind::gkd ? options.lambda : 1;
    std::optional<StepRecord> first;
    StepCost cost;
    for (const bool answers : {true, false}) {
        const double share = answers ? own : 1 - own;
        if (share <= 0) continue;
        const auto measured = measure(run, job, answers ? 1 : 0, first);
        if (!measured) {
            page.problem("step", measured.error().message);
            return {};
        }
        cost.seconds += share * measured->seconds;
        cost.sampled_tokens += share * measured->sampled_tokens;
    }
    check_loss(run, *first, found, page);
    // The copy stands beside what it is of, which the run trains in place.
    found.memory_bytes = std::max(peak_before, peak_resident_bytes() - 4 * run.student.layout.total);
    page.memory(found.memory_bytes, loaded, "lower --rows-per-micro-batch or --samples, or give --recompute");
    found.steps = options.steps;
    found.seconds_per_step = cost.seconds;
    found.seconds = cost.seconds * static_cast<double>(options.steps);
    page.good("time",
              fmt::format("{} for {} steps that sample {:.0f} tokens each, as measured just now; longer "
                          "answers take longer",
                          base::duration_text(found.seconds), found.steps, cost.sampled_tokens));
    return {};
}

}  // namespace

Result<Preflight> preflight(const OnPolicyJob& job, std::vector<Finding> already) {
    Preflight found;
    found.findings = std::move(already);
    Page page(found);
    const auto prepared = prepare_on_policy(job);
    if (!prepared) {
        page.problem("start", prepared.error().message);
        return found;
    }
    const PreparedOnPolicy& run = **prepared;
    check_vocabulary(run, page);
    RETORT_CHECK(check_template(run, page));
    check_lengths(run, page);
    if (job.verifier) check_verifier(run, *job.verifier, page);
    if (!found.passed()) return found;
    RETORT_CHECK(check_answers(run, job, page));
    RETORT_CHECK(check_cost(run, job, found, page));
    return found;
}

}  // namespace retort::train
