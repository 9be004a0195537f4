// A judge: a language model that says how good an answer is. The words it is asked in, and the strict reading
// of what it says; docs/curate.md is the manual. Knows no network: who asks it is the caller's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/record.h"
#include "formats/json.h"

namespace retort::curate {

inline constexpr std::int64_t least_judge_score = 1;
inline constexpr std::int64_t most_judge_score = 10;

struct JudgeQuestion {
    std::string record_id;  // of the record that is judged
    std::string text;       // what the judge is asked
};

// What came of one question. No score: `reason` says why there is none.
struct Judgement {
    std::optional<std::int64_t> score;
    std::string reason;  // the judge's own otherwise
};

struct Judge {
    std::string model;   // noted with each verdict
    std::string prompt;  // as judge_question() fills it in; empty: the one that ships
    std::int64_t least_score = 7;
    std::int64_t best = 0;  // of the answers to one prompt, so many with the highest scores are kept; 0: all
    // One judgement a question, in order. A question that was answered before is not put again: that is the
    // asker's duty.
    std::function<Result<std::vector<Judgement>>(std::span<const JudgeQuestion>)> ask;
};

// The prompt that ships (src/curate/judge_prompt.inc).
std::string_view judge_prompt();
// {{question}} and {{answer}} must stand in it, each once.
Status check_judge_prompt(std::string_view prompt, std::string_view name);
// {{question}}: the conversation up to the answer; {{answer}}: the answer without its reasoning; {{mark}}: a
// word that neither holds, as it is made of their hash, so that nothing in an answer can pass for its end.
JudgeQuestion judge_question(const data::Record& record, std::string_view prompt);

// {"reason": text, "score": whole number from 1 to 10}: exactly that object, white space around it apart.
Result<Judgement> parse_judgement(std::string_view text);
// The same as a `response_format`, for servers that hold a model to a schema.
formats::Json judgement_format();

}  // namespace retort::curate
