// From records to tokens with a loss mask: the chat template is rendered with and without the answer, and
// what only the answer brought is trained. Knows no weights and no objective.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "data/packing.h"
#include "data/record.h"
#include "text/tokenizer.h"

namespace retort::data {

// The model's own template over messages; with the generation prompt, the text ends where the model would
// begin.
using Renderer =
    std::function<Result<std::string>(std::span<const Message> messages, bool add_generation_prompt)>;

struct ExampleOptions {
    std::int64_t max_tokens = 2048;  // of a whole conversation
    std::span<const std::int32_t> end_of_turn_tokens;
};

struct SkippedExample {
    std::string record_id;
    std::int64_t tokens = 0;
    std::string reason;
};

struct ExampleSet {
    std::vector<Example> examples;
    std::vector<SkippedExample> skipped;  // too long, or with the text of a special token: never cut silently
    std::int64_t tokens = 0;
    std::int64_t trained_tokens = 0;
};

// The answer's text and the end-of-turn token are trained; the template's own words, an empty <think></think>
// that it supplies, and what it writes after the end of the turn are not. An answer that was cut
// (finish_reason "length") does not train the end of the turn. Errors, for they mean a template or tokenizer
// that is not understood: a rendering without the answer in it, nothing or everything trained, two BOS.
Result<Example> make_example(const Record& record, const Renderer& render, const text::Tokenizer& tokenizer,
                             const ExampleOptions& options);

Result<ExampleSet> make_examples(std::span<const Record> records, const Renderer& render,
                                 const text::Tokenizer& tokenizer, const ExampleOptions& options);

}  // namespace retort::data
