// Problems whose answers a program can check, with worked reasoning: arithmetic in steps, small stories,
// comparisons, base conversion, sums of digits. Made here, so that a reasoning teacher and its students need
// no network and no one's data. A function of the seed alone. Knows no model and no tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/record.h"

namespace retort::data {

struct Problem {
    std::string kind;  // one of problem_kinds()
    std::string question;
    std::string reasoning;  // a line a step
    std::string answer;     // a whole number, in digits
    std::string key;        // the calculation, without its words: what the split is decided by
};

// Problems whose calculation hashes to the held-out tenth are never given for training, in whatever words and
// numbers of seed.
enum class ProblemSplit { train, held_out };

struct ProblemOptions {
    std::int64_t count = 1000;
    std::uint64_t seed = 1;
    ProblemSplit split = ProblemSplit::train;
    std::vector<std::string> kinds;  // empty: all
};

const std::vector<std::string>& problem_kinds();
ProblemSplit split_of_problem(std::string_view key);

// No question twice. An error when the kinds have fewer problems than are asked for.
Result<std::vector<Problem>> make_problems(const ProblemOptions& options);

// A line of a prompt file (data/prompts.h); metadata holds kind and answer.
std::string problem_prompt_line(const Problem& problem);
// The problem with its worked answer, as if a teacher named "worked" had been asked.
Record worked_record(const Problem& problem);

}  // namespace retort::data
