// From a teacher's answers to data worth training on: filters, verifiers, duplicates, decontamination,
// splits. Every drop is counted by reason and kept with it. The same inputs and options give the same bytes
// (a judge's verdicts are inputs). Knows no network and no weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "curate/filters.h"
#include "curate/judge.h"
#include "data/manifest.h"
#include "data/verify.h"
#include "screen/screen.h"
#include "text/tokenizer.h"

namespace retort::curate {

struct CurateOptions {
    std::vector<std::filesystem::path> inputs;  // records.jsonl files, or folders that hold one
    std::filesystem::path output;               // a folder

    std::int64_t min_characters = 1;  // of the answer, without its reasoning; 0: no limit
    std::int64_t max_characters = 0;
    std::int64_t min_tokens = 0;  // by `tokenizer`, or else as the teacher's server counted; 0: no limit
    std::int64_t max_tokens = 0;
    const text::Tokenizer* tokenizer = nullptr;
    bool drop_truncated = true;      // finish_reason "length"
    bool drop_bad_reasoning = true;  // reasoning_fault() finds something
    bool drop_refusals = true;
    bool drop_repetitive = true;
    RepetitionLimits repetition;
    double foreign_script_share = 0.1;  // 1: not looked at
    std::string language;  // "en": drop what is clearly of another of those guess_language() knows
    bool drop_exact_duplicates = true;  // the same reasoning and answer to the same prompt
    double near_duplicate_similarity =
        0.8;  // of reasoning and answer to whatever prompt; above 1: not looked at
    std::optional<data::Verifier> verifier;
    std::vector<std::filesystem::path> decontaminate;  // prompt files or records of evaluation sets
    std::size_t contamination_ngram = 8;  // words in a row that prompt or answer shares with one of them

    const screen::Screen* protected_works = nullptr;  // answers that repeat them are dropped
    std::optional<Judge> judge;                       // asked about what all else has left

    // Answers with reasoning for each plain one in train.jsonl; what is too many of one kind goes, by hash.
    // 0: as they come.
    double reasoning_mix = 0;

    // Shares of prompts, by hash: the same prompt is always in the same split.
    double validation_share = 0.1;
    double test_share = 0.1;
    std::string split_salt;  // another salt, another split
    bool quiet = false;
};

struct CurateReport {
    std::int64_t read = 0;
    std::int64_t kept = 0;
    std::map<std::string, std::int64_t> dropped;    // by reason
    std::map<std::string, data::Manifest> splits;   // train, validation, test
    std::map<std::string, std::int64_t> prompts;    // distinct ones of each split
    std::map<std::string, std::int64_t> reasoning;  // records of each split that have reasoning
    std::int64_t verified = 0;                      // answers the verifier was asked about
    std::int64_t verified_passed = 0;
    std::int64_t judged = 0;                            // answers that were put to the judge
    std::map<std::int64_t, std::int64_t> judge_scores;  // score → answers
    std::vector<std::string> parents;
};

// Writes train.jsonl, validation.jsonl, test.jsonl with a manifest each, messages/*.jsonl for other trainers,
// dropped.jsonl and report.json.
Result<CurateReport> curate(const CurateOptions& options);

std::string report_json(const CurateReport& report);

// train, validation or test.
std::string split_of(std::string_view normalised_prompt, const CurateOptions& options);

}  // namespace retort::curate
