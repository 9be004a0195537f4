#include "audit/corroborate.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <functional>
#include <set>

#include "audit/prompt_text.h"
#include "base/hash.h"
#include "stats/bootstrap.h"
#include "stats/summary.h"

namespace retort::audit {

namespace {

constexpr std::size_t passage_tokens = 50;

std::vector<QuestionAndAnswer> logged(const GatherInput& input) {
    std::vector<QuestionAndAnswer> out;
    for (const escrow::Record& record : input.records) {
        const bool served =
            record.kind == escrow::RecordKind::served || record.kind == escrow::RecordKind::twin;
        if (!served || static_cast<std::int64_t>(out.size()) >= input.settings.max_texts) continue;
        out.push_back({{record.messages, record.prompt}, record.served_answer()});
    }
    return out;
}

// Of each text one number; none where the suspect says nothing of it.
using Scores = std::vector<double>;

double mean_logprob(const AnswerView& view) {
    double sum = 0;
    for (const TokenView& token : view) sum += token.logprob;
    return view.empty() ? 0 : sum / static_cast<double>(view.size());
}

double mean_of_lowest_fifth(std::vector<double> scores) {
    if (scores.empty()) return 0;
    const std::size_t kept = std::max<std::size_t>(1, scores.size() / 5);
    std::partial_sort(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(kept), scores.end());
    scores.resize(kept);
    return stats::mean(scores);
}

double min_k(const AnswerView& view) {
    std::vector<double> scores;
    for (const TokenView& token : view) scores.push_back(token.logprob);
    return mean_of_lowest_fifth(std::move(scores));
}

// The same of (ln p − its mean) / its standard deviation; where nothing was in doubt nothing is odd.
double min_k_plus_plus(const AnswerView& view) {
    std::vector<double> scores;
    for (const TokenView& token : view) {
        scores.push_back(token.variance > 1e-9 ? (token.logprob - token.mean) / std::sqrt(token.variance)
                                               : 0);
    }
    return mean_of_lowest_fifth(std::move(scores));
}

// The share of first choices that are what the logged answer says there.
double agreement(const QuestionAndAnswer& text, const AnswerView& view) {
    std::int64_t agree = 0;
    std::int64_t places = 0;
    for (const TokenView& token : view) {
        if (token.first_choice.empty()) continue;
        ++places;
        agree += text.answer.compare(static_cast<std::size_t>(token.offset), token.first_choice.size(),
                                     token.first_choice) == 0;
    }
    return places > 0 ? static_cast<double>(agree) / static_cast<double>(places) : 0;
}

constexpr std::int64_t tokens_to_begin_with = 8;  // of the suspect's, which hold one of the teacher's

std::int32_t first_token(const GatherInput& input, std::string_view answer) {
    const std::size_t start = answer.find_first_not_of(" \t\r\n");
    if (start == std::string_view::npos) return -1;
    return encode_plain(input.teacher->tokenizer, answer.substr(start)).front();
}

Result<Scores> begins_alike(const GatherInput& input, Suspect& suspect,
                            std::span<const QuestionAndAnswer> texts) {
    std::vector<Question> questions;
    for (const QuestionAndAnswer& text : texts) questions.push_back(text.question);
    AnswerOptions options;
    options.max_tokens = tokens_to_begin_with;
    RETORT_TRY(const std::vector<std::string> answers, suspect.answer(questions, options, {}));
    Scores out;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        const std::int32_t own = first_token(input, answers[i]);
        out.push_back(own >= 0 && own == first_token(input, texts[i].answer) ? 1 : 0);
    }
    return out;
}

// What is measured of every model, by name.
using Measures = std::vector<std::pair<std::string, Scores>>;

Result<Measures> measure(const GatherInput& input, Suspect& suspect, std::span<const QuestionAndAnswer> texts,
                         Access access) {
    Measures out;
    RETORT_TRY(Scores begun, begins_alike(input, suspect, texts));
    out.emplace_back("answers that begin with the logged answer's first token", std::move(begun));
    if (access == Access::text) return out;
    RETORT_TRY(const std::vector<AnswerView> views, suspect.view(texts, {}));
    const auto add = [&](std::string name, const std::function<double(std::size_t)>& of) {
        Scores scores;
        for (std::size_t i = 0; i < texts.size(); ++i) scores.push_back(of(i));
        out.emplace_back(std::move(name), std::move(scores));
    };
    add("first choices that are the logged answer's",
        [&](std::size_t i) { return agreement(texts[i], views[i]); });
    add("mean log-likelihood of a token of the logged answers",
        [&](std::size_t i) { return mean_logprob(views[i]); });
    add("Min-K% (K = 20) of the logged answers", [&](std::size_t i) { return min_k(views[i]); });
    add(access == Access::weights
            ? "Min-K%++ (K = 20) of the logged answers"
            : "Min-K%++ (K = 20) of the logged answers, from the likeliest tokens of each place",
        [&](std::size_t i) { return min_k_plus_plus(views[i]); });
    return out;
}

constexpr std::array<std::string_view, 5> who_are_you{"Who are you?", "What is your name?",
                                                      "Which model are you?", "Who made you?",
                                                      "Tell me which language model I am talking to."};
constexpr std::size_t times_asked = 8;

std::string lower_case(std::string text) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

Result<std::string> self_identification(const GatherInput& input) {
    std::vector<Question> questions;
    for (std::size_t i = 0; i < times_asked * who_are_you.size(); ++i) {
        Question question;
        question.messages =
            Json::array({{{"role", "user"}, {"content", who_are_you[i % who_are_you.size()]}}});
        questions.push_back(std::move(question));
    }
    AnswerOptions options;
    options.temperature = input.settings.temperature;
    options.seed = input.settings.seed;
    RETORT_TRY(const std::vector<std::string> answers, input.suspect->answer(questions, options, {}));
    const std::string name = lower_case(input.teacher_name);
    const auto named = std::count_if(answers.begin(), answers.end(), [&](const std::string& answer) {
        return lower_case(answer).find(name) != std::string::npos;
    });
    return fmt::format("{} of {}", named, answers.size());
}

std::string beside_controls(const Scores& scores, const std::vector<Scores>& controls) {
    if (controls.empty()) return {};
    double least = HUGE_VAL;
    double most = -HUGE_VAL;
    for (const Scores& control : controls) {
        least = std::min(least, stats::mean(control));
        most = std::max(most, stats::mean(control));
    }
    std::string out =
        fmt::format("; {} control model{} {:.4f}{}", controls.size(), controls.size() == 1 ? "" : "s", least,
                    controls.size() == 1 ? "" : fmt::format(" to {:.4f}", most));
    const stats::Estimate difference = stats::difference_from_controls(scores, controls);
    out += fmt::format(", {:+.4f} from them", difference.value);
    if (std::isfinite(difference.low))
        out += fmt::format(" [{:+.4f}, {:+.4f}]", difference.low, difference.high);
    return out;
}

std::uint64_t hash_of(std::span<const std::int32_t> tokens) {
    return base::xxh3_64(std::as_bytes(tokens));
}

}  // namespace

Result<Json> corroborate(const GatherInput& input, std::span<const std::string> controls) {
    const std::vector<QuestionAndAnswer> texts = logged(input);
    Json out = Json::object();
    if (!input.teacher_name.empty()) {
        RETORT_TRY(const std::string named, self_identification(input));
        out[fmt::format("answers to \"Who are you?\" and the like that name {}", input.teacher_name)] = named;
    }
    if (texts.empty()) return out;
    std::set<std::uint64_t> passages;
    for (const QuestionAndAnswer& text : texts) {
        const std::vector<std::int32_t> tokens = encode_plain(input.teacher->tokenizer, text.answer);
        for (std::size_t i = 0; i + passage_tokens <= tokens.size(); ++i) {
            passages.insert(hash_of(std::span(tokens).subspan(i, passage_tokens)));
        }
    }
    std::vector<Question> questions;
    for (std::size_t i = 0; i < std::min<std::size_t>(texts.size(), 200); ++i)
        questions.push_back(texts[i].question);
    AnswerOptions options;
    options.max_tokens = std::max<std::int64_t>(input.settings.answer_tokens, 2 * passage_tokens);
    RETORT_TRY(const std::vector<std::string> answers, input.suspect->answer(questions, options, {}));
    std::int64_t hits = 0;
    for (const std::string& answer : answers) {
        const std::vector<std::int32_t> tokens = encode_plain(input.teacher->tokenizer, answer);
        for (std::size_t i = 0; i + passage_tokens <= tokens.size(); ++i) {
            if (passages.contains(hash_of(std::span(tokens).subspan(i, passage_tokens)))) {
                ++hits;
                break;
            }
        }
    }
    out["own answers with 50 tokens of a logged one word for word"] =
        fmt::format("{} of {}", hits, answers.size());
    const Access access = input.suspect->access();
    RETORT_TRY(const Measures own, measure(input, *input.suspect, texts, access));
    Measures reference;
    if (input.reference != nullptr) {
        RETORT_TRY(reference, measure(input, *input.reference, texts, access));
    }
    std::vector<std::vector<Scores>> others(own.size());  // of a measure: of each control model
    for (const std::string& control : controls) {
        RETORT_TRY(const auto opened, open_local_suspect(control));
        RETORT_TRY(Measures measured, measure(input, *opened, texts, access));
        for (std::size_t m = 0; m < own.size(); ++m) others[m].push_back(std::move(measured[m].second));
    }
    for (std::size_t m = 0; m < own.size(); ++m) {
        const auto& [name, scores] = own[m];
        std::string said = fmt::format("{:.4f} over {} answers", stats::mean(scores), scores.size());
        if (!reference.empty())
            said += fmt::format("; the reference {:.4f}", stats::mean(reference[m].second));
        out[name] = said + beside_controls(scores, others[m]);
    }
    return out;
}

}  // namespace retort::audit
