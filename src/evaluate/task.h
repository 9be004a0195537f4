// The task itself: a model answers prompts, a check says which answers pass, and the share has an interval.
// Knows nothing of what the check is: the caller brings it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "generate/engine.h"
#include "stats/bootstrap.h"

namespace retort::evaluate {

// Whether the answer to prompt `index` passes.
using AnswerCheck = std::function<bool(std::string_view answer, std::size_t index)>;

struct TaskScore {
    std::vector<std::uint8_t> passed;  // by prompt
    stats::Estimate wilson;            // what reports show
    stats::Estimate exact;             // Clopper–Pearson: never covers less than it says
};
TaskScore score_answers(std::span<const std::string> answers, const AnswerCheck& check,
                        double confidence = 0.95);

// Share passed by a − share passed by b on the same prompts, paired by prompt.
Result<stats::Estimate> task_difference(const TaskScore& a, const TaskScore& b,
                                        const stats::BootstrapOptions& options = {});

struct GeneratedAnswers {
    std::vector<std::string> texts;
    std::vector<std::int64_t> tokens;  // generated, by prompt
    std::vector<std::vector<std::int32_t>> ids;
    std::vector<std::uint8_t> complete;  // ended by itself, not at max_tokens
};
struct AnswerOptions {
    generate::SamplingParameters sampling;
    std::int64_t max_tokens = 256;
    std::vector<std::int32_t> stop_tokens;
    std::function<generate::SamplingHook()> hook;  // one for each answer; empty: none
};
using DecodeTokens = std::function<std::string(std::span<const std::int32_t>)>;

// Answers every prompt (token ids, rendered by the caller), as many at once as the engine batches; answers
// are in the prompts' order. With a seed, prompt i is answered with seed + i. Ctrl-C cancels.
Result<GeneratedAnswers> answer_prompts(generate::Engine& engine,
                                        std::span<const std::vector<std::int32_t>> prompts,
                                        const AnswerOptions& options, const DecodeTokens& decode,
                                        const std::function<void(std::int64_t done)>& on_progress = {});

}  // namespace retort::evaluate
