// What can be known before a run: plain findings, a page of them, and estimates of memory and time. Reads
// what the run would read, and takes two steps on a copy of the student; changes nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "train/distill.h"
#include "train/onpolicy_job.h"

namespace retort::train {

enum class Verdict : std::uint8_t { good, note, problem };

struct Finding {
    Verdict verdict = Verdict::good;
    std::string about;  // tokenizer, vocabulary, template, mask, BOS, prompts, answers, loss, memory, time
    std::string text;   // what was found; of a problem, with its mend
};

struct Preflight {
    std::vector<Finding> findings;
    std::int64_t memory_bytes = 0;  // at its peak, the whole process
    double seconds = 0;             // of all steps
    double seconds_per_step = 0;    // measured behind the first
    std::int64_t steps = 0;
    double first_loss = 0;
    double uniform_loss = 0;  // log of the vocabulary

    [[nodiscard]] bool passed() const;
};

Result<Preflight> preflight(const DistillOptions& options);
// The same for training on the student's own answers (preflight_onpolicy.cpp), of which it samples the first
// step's. `already`: what was found in reading the job's files; with a problem among it no step is taken.
Result<Preflight> preflight(const OnPolicyJob& job, std::vector<Finding> already = {});
std::string preflight_page(const Preflight& found);
std::string preflight_json(const Preflight& found);

}  // namespace retort::train
