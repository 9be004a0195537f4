#include "train/onpolicy_batch.h"

#include <algorithm>

namespace retort::train {

Result<PolicyBatch> make_policy_batch(std::span<const SampledAnswer> answers,
                                      std::span<const std::vector<std::int32_t>> prompts,
                                      std::span<const float> advantages, bool skip_zero,
                                      std::int64_t row_length) {
    std::vector<data::Example> examples;
    std::vector<std::size_t> answer_of_example;
    for (std::size_t i = 0; i < answers.size(); ++i) {
        if (answers[i].tokens.empty() || (skip_zero && advantages[i] == 0.0F)) continue;
        data::Example example;
        const std::vector<std::int32_t>& prompt = prompts[answers[i].prompt];
        example.tokens = prompt;
        example.tokens.insert(example.tokens.end(), answers[i].tokens.begin(), answers[i].tokens.end());
        example.trained.assign(example.tokens.size(), 0);
        std::fill(example.trained.begin() + static_cast<std::ptrdiff_t>(prompt.size()), example.trained.end(),
                  std::uint8_t{1});
        example.record_id = fmt::format("answer {}", i);
        examples.push_back(std::move(example));
        answer_of_example.push_back(i);
    }
    PolicyBatch batch;
    if (examples.empty()) return batch;
    RETORT_TRY(batch.rows, data::pack(examples, row_length));
    for (const data::PackedBatch& row : batch.rows) {
        std::vector<tensor::PolicyToken> tokens;
        std::vector<std::size_t> owners;
        for (const std::int32_t example : row.example_indices) {
            const std::size_t index = answer_of_example[static_cast<std::size_t>(example)];
            for (const float logprob : answers[index].logprobs) {
                tokens.push_back({.advantage = advantages[index], .old_logprob = logprob});
                owners.push_back(index);
            }
        }
        batch.trained_tokens += row.trained_tokens;
        batch.tokens.push_back(std::move(tokens));
        batch.answers.push_back(std::move(owners));
    }
    return batch;
}

}  // namespace retort::train
