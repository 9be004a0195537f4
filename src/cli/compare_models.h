// Several models beside their teacher on held-out answers: likelihood, divergence, agreement, calibration,
// the task's score on answers they give themselves, size and speed. What `retort eval` prints and `retort
// run` ends with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "data/verify.h"
#include "evaluate/report.h"

namespace retort::cli {

struct ComparedModel {
    std::string key;
    std::string name;
    evaluate::Role role = evaluate::Role::other;
    std::filesystem::path path;     // whose logits and answers are measured
    std::filesystem::path shipped;  // the file whose size and speed count; empty: path
    std::string note;
    std::filesystem::path metrics;               // metrics.jsonl of its training; may be empty
    std::string objective;                       // of that training
    std::vector<std::filesystem::path> history;  // metrics.jsonl of all trainings it went through: its cost
    bool is_rival = false;  // another way to train the same student: the distilled one is held against it
};

struct CompareOptions {
    std::filesystem::path teacher;
    std::filesystem::path records;      // held out: never trained on
    std::vector<ComparedModel> models;  // without the teacher
    std::int64_t row_length = 512;
    std::optional<data::Verifier> verifier;  // of the task's score; without, none is given
    std::int64_t task_prompts = 60;          // of the held-out ones, at most
    std::int64_t max_answer_tokens = 128;
    std::int64_t speed_tokens = 128;  // decoded one after another to measure speed
    std::string title = "Comparison";
    std::string command;
    std::string recipe;
    std::vector<evaluate::Fact> facts;  // of the report, beside how it was measured
    std::filesystem::path by_prompt;    // a JSON line a model and held-out prompt; empty: not written
    bool quiet = false;
};

Result<evaluate::ComparisonReport> compare_models(const CompareOptions& options);

}  // namespace retort::cli
