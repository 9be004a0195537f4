#include "curate/judge_drops.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "data/prompts.h"

namespace retort::curate {

using data::Record;
using formats::Json;

namespace {

// Answers that passed everything else: what the judge thinks of them decides.
std::vector<std::optional<Drop>> drops_by_score(const Judge& judge, const std::vector<Judgement>& judgements,
                                                std::vector<Record>& records, CurateReport& report) {
    std::vector<std::optional<Drop>> drops(records.size());
    std::map<std::string, std::vector<std::size_t>> answers;  // by prompt, those that the score lets pass
    for (std::size_t i = 0; i < records.size(); ++i) {
        const Judgement& judgement = judgements[i];
        Json verdict = {{"model", judge.model}, {"reason", judgement.reason}};
        if (!judgement.score) {
            drops[i] = Drop{"unjudged", judgement.reason};
        } else {
            ++report.judge_scores[*judgement.score];
            verdict["score"] = *judgement.score;
            if (*judgement.score < judge.least_score) {
                drops[i] = Drop{"judge", fmt::format("{} of {}: {}", *judgement.score, most_judge_score,
                                                     judgement.reason)};
            } else {
                answers[data::normalised_prompt(records[i].request.messages)].push_back(i);
            }
        }
        records[i].verdicts["judge"] = std::move(verdict);
    }
    if (judge.best <= 0) return drops;
    for (auto& [prompt, places] : answers) {
        // Of equals the earlier stays.
        std::stable_sort(places.begin(), places.end(), [&](std::size_t one, std::size_t other) {
            return *judgements[one].score > *judgements[other].score;
        });
        for (std::size_t k = static_cast<std::size_t>(judge.best); k < places.size(); ++k) {
            drops[places[k]] =
                Drop{"judge_not_best",
                     fmt::format("{} of {}, and {} to the same prompt got {} or more",
                                 *judgements[places[k]].score, most_judge_score, judge.best,
                                 *judgements[places[static_cast<std::size_t>(judge.best) - 1]].score)};
        }
    }
    return drops;
}

}  // namespace

Result<std::vector<std::optional<Drop>>> ask_judge(const Judge& judge, std::vector<Record>& records,
                                                   CurateReport& report) {
    std::vector<JudgeQuestion> questions;
    for (const Record& record : records)
        questions.push_back(judge_question(record, judge.prompt.empty() ? judge_prompt() : judge.prompt));
    report.judged = static_cast<std::int64_t>(questions.size());
    if (questions.empty()) return std::vector<std::optional<Drop>>();
    RETORT_TRY(const std::vector<Judgement> judgements, judge.ask(questions));
    std::vector<std::optional<Drop>> drops = drops_by_score(judge, judgements, records, report);
    if (report.judge_scores.empty()) {
        return fail(ErrorCode::refused, "the judge {} scored none of {} answers; the first: {}", judge.model,
                    report.judged, judgements.front().reason);
    }
    return drops;
}

}  // namespace retort::curate
