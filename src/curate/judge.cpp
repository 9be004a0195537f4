#include "curate/judge.h"

#include <array>
#include <utility>

#include "base/hash.h"
#include "base/strings.h"

namespace retort::curate {

using formats::Json;

namespace {

constexpr std::string_view prompt_that_ships =
#include "curate/judge_prompt.inc"
    ;

std::size_t count_of(std::string_view text, std::string_view what) {
    std::size_t count = 0;
    for (std::size_t at = text.find(what); at != std::string_view::npos;
         at = text.find(what, at + what.size()))
        ++count;
    return count;
}

// A user's words alone when they are all there is; the turns by name otherwise.
std::string conversation(const data::Record& record) {
    const auto& messages = record.request.messages;
    if (messages.size() == 1) return messages.front().content;
    std::string text;
    for (const data::Message& message : messages) {
        if (!text.empty()) text += "\n\n";
        text += fmt::format("[{}]\n{}", message.role, message.content);
    }
    return text;
}

}  // namespace

std::string_view judge_prompt() {
    return prompt_that_ships;
}

Status check_judge_prompt(std::string_view prompt, std::string_view name) {
    for (const std::string_view place : {"{{question}}", "{{answer}}"}) {
        if (const std::size_t count = count_of(prompt, place); count != 1) {
            return fail(ErrorCode::invalid_argument,
                        "{}: {} stands in the judge's prompt {} times; once is right", name, place, count);
        }
    }
    return {};
}

JudgeQuestion judge_question(const data::Record& record, std::string_view prompt) {
    const std::string question = conversation(record);
    const std::string mark = base::sha256_hex(question + "\x1e" + record.content).substr(0, 16);
    const std::array<std::pair<std::string_view, std::string_view>, 3> places = {
        {{"{{question}}", question}, {"{{answer}}", record.content}, {"{{mark}}", mark}}};
    JudgeQuestion out{record.id, {}};
    // One pass over the prompt: what is filled in is never searched for places itself.
    while (!prompt.empty()) {
        std::size_t at = prompt.size();
        const std::pair<std::string_view, std::string_view>* next = nullptr;
        for (const auto& place : places) {
            if (const std::size_t found = prompt.find(place.first); found < at) {
                at = found;
                next = &place;
            }
        }
        out.text += prompt.substr(0, at);
        if (next == nullptr) break;
        out.text += next->second;
        prompt.remove_prefix(at + next->first.size());
    }
    return out;
}

Result<Judgement> parse_judgement(std::string_view text) {
    const std::string said = base::one_line(base::trimmed(text), 120);
    const auto json = formats::parse_json(base::trimmed(text), "verdict");
    if (!json || !json->is_object())
        return fail(ErrorCode::format, "the judge did not answer with one JSON object: {}", said);
    const Json* score = formats::json_find(*json, "score");
    const Json* reason = formats::json_find(*json, "reason");
    if (score == nullptr || reason == nullptr || json->size() != 2 || !reason->is_string())
        return fail(ErrorCode::format, "the judge's object is not of a reason in words and a score: {}",
                    said);
    if (!score->is_number_integer() || *score < least_judge_score || *score > most_judge_score) {
        return fail(ErrorCode::format, "the judge's score is {}, no whole number from {} to {}",
                    base::one_line(formats::write_json(*score), 40), least_judge_score, most_judge_score);
    }
    return Judgement{score->get<std::int64_t>(), reason->get<std::string>()};
}

Json judgement_format() {
    Json scores = Json::array();
    for (std::int64_t score = least_judge_score; score <= most_judge_score; ++score) scores.push_back(score);
    const Json schema = {
        {"type", "object"},
        {"properties",
         {{"reason", {{"type", "string"}}}, {"score", {{"type", "integer"}, {"enum", scores}}}}},
        {"required", {"reason", "score"}},
        {"additionalProperties", false}};
    return {{"type", "json_schema"},
            {"json_schema", {{"name", "verdict"}, {"strict", true}, {"schema", schema}}}};
}

}  // namespace retort::curate
