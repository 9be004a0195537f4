#include "audit/corroborate.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <set>

#include "audit/prompt_text.h"
#include "base/hash.h"

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

double mean_logprob(const std::vector<AnswerView>& views) {
    double sum = 0;
    double count = 0;
    for (const AnswerView& view : views) {
        for (const TokenView& token : view) sum += token.logprob;
        count += static_cast<double>(view.size());
    }
    return count > 0 ? sum / count : 0;
}

// Zhang et al. 2024: the mean of the lowest fifth of (ln p − its mean) / its standard deviation.
double min_k_plus_plus(const std::vector<AnswerView>& views) {
    double total = 0;
    double texts = 0;
    for (const AnswerView& view : views) {
        std::vector<double> scores;
        for (const TokenView& token : view) {
            if (token.variance > 1e-9)
                scores.push_back((token.logprob - token.mean) / std::sqrt(token.variance));
        }
        const std::size_t kept = scores.size() / 5;
        if (kept == 0) continue;
        std::partial_sort(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(kept), scores.end());
        double sum = 0;
        for (std::size_t i = 0; i < kept; ++i) sum += scores[i];
        total += sum / static_cast<double>(kept);
        texts += 1;
    }
    return texts > 0 ? total / texts : 0;
}

// The share of first choices that are what the logged answer says there.
std::string agreement(std::span<const QuestionAndAnswer> texts, const std::vector<AnswerView>& views) {
    std::int64_t agree = 0;
    std::int64_t places = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        for (const TokenView& token : views[i]) {
            if (token.first_choice.empty()) continue;
            ++places;
            agree += texts[i].answer.compare(static_cast<std::size_t>(token.offset),
                                             token.first_choice.size(), token.first_choice) == 0;
        }
    }
    return fmt::format("{:.4f} of {}",
                       places > 0 ? static_cast<double>(agree) / static_cast<double>(places) : 0, places);
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

std::uint64_t hash_of(std::span<const std::int32_t> tokens) {
    return base::xxh3_64(std::as_bytes(tokens));
}

}  // namespace

Result<Json> corroborate(const GatherInput& input) {
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
    if (input.suspect->access() == Access::text) return out;
    RETORT_TRY(const std::vector<AnswerView> views, input.suspect->view(texts, {}));
    out["first choices that are the logged answer's"] = agreement(texts, views);
    out["mean log-likelihood of a token of the logged answers"] = fmt::format("{:.4f}", mean_logprob(views));
    if (input.suspect->access() == Access::weights) {
        out["Min-K%++ (K = 20) of the logged answers"] = fmt::format("{:.4f}", min_k_plus_plus(views));
    }
    if (input.reference != nullptr) {
        RETORT_TRY(const std::vector<AnswerView> other, input.reference->view(texts, {}));
        out["the same first choices of the reference"] = agreement(texts, other);
        out["the same likelihood by the reference"] = fmt::format("{:.4f}", mean_logprob(other));
        out["the same Min-K%++ of the reference"] = fmt::format("{:.4f}", min_k_plus_plus(other));
    }
    return out;
}

}  // namespace retort::audit
