#include "audit/gather.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <set>

#include "audit/prompt_text.h"

namespace retort::audit {

namespace {

Question question_of(const escrow::Record& record) {
    return {record.messages, record.prompt};
}

Json keyed(std::string_view test, const GatherInput& input) {
    return {{"test", test},
            {"scheme", write_scheme(*input.scheme)},
            {"subkey", watermark::subkey_hex(input.subkey)},
            {"channel", input.channel},
            {"tokenizer", input.teacher->tokenizer.hash()}};
}

struct Twins {
    std::vector<std::size_t> records;
    std::vector<QuestionAndAnswer> texts;  // served, withheld, served, …
};
Twins twins_of(const GatherInput& input) {
    Twins out;
    for (std::size_t i = 0; i < input.records.size(); ++i) {
        const escrow::Record& record = input.records[i];
        if (record.kind != escrow::RecordKind::twin) continue;
        if (record.served_answer().empty() || record.withheld_answer().empty()) continue;
        if (static_cast<std::int64_t>(out.records.size()) == input.settings.max_twins) break;
        out.records.push_back(i);
        out.texts.push_back({question_of(record), record.served_answer()});
        out.texts.push_back({question_of(record), record.withheld_answer()});
    }
    return out;
}

// What was served under this key, twins included.
std::vector<QuestionAndAnswer> marked_texts(const GatherInput& input) {
    std::vector<QuestionAndAnswer> out;
    for (const escrow::Record& record : input.records) {
        const bool served =
            record.kind == escrow::RecordKind::served || record.kind == escrow::RecordKind::twin;
        if (!served || record.scheme.empty() || record.channel != input.channel) continue;
        out.push_back({question_of(record), record.served_answer()});
    }
    return out;
}

double total(const AnswerView& view) {
    double sum = 0;
    for (const TokenView& token : view) sum += token.logprob;
    return sum;
}

Result<Json> gather_twin_likelihood(const GatherInput& input) {
    const Twins twins = twins_of(input);
    RETORT_TRY(const std::vector<AnswerView> seen, input.suspect->view(twins.texts, input.progress));
    std::vector<AnswerView> reference;
    if (input.reference != nullptr) {
        RETORT_TRY(reference, input.reference->view(twins.texts, input.progress));
    }
    Json pairs = Json::array();
    for (std::size_t i = 0; i < twins.records.size(); ++i) {
        if (seen[2 * i].empty() || seen[2 * i + 1].empty()) continue;
        Json pair{{"record", twins.records[i]},
                  {"served", total(seen[2 * i])},
                  {"withheld", total(seen[2 * i + 1])},
                  {"served_bytes", twins.texts[2 * i].answer.size()},
                  {"withheld_bytes", twins.texts[2 * i + 1].answer.size()}};
        if (input.reference != nullptr) {
            pair["served_reference"] = total(reference[2 * i]);
            pair["withheld_reference"] = total(reference[2 * i + 1]);
        }
        pairs.push_back(std::move(pair));
    }
    return Json{{"test", "twin-likelihood"},
                {"score", input.reference != nullptr ? "log-likelihood a byte, less a reference model's"
                                                     : "log-likelihood a byte"},
                {"pairs", std::move(pairs)}};
}

// Distinct word trigrams (one word or two where there are no three), lower case.
std::set<std::string> word_grams(std::string_view text) {
    std::vector<std::string> words(1);
    for (const char c : text) {
        const bool part =
            std::isalnum(static_cast<unsigned char>(c)) != 0 || static_cast<unsigned char>(c) >= 0x80;
        if (part) {
            words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        } else if (!words.back().empty()) {
            words.emplace_back();
        }
    }
    if (words.back().empty()) words.pop_back();
    const std::size_t size = std::min<std::size_t>(3, words.size());
    std::set<std::string> out;
    for (std::size_t i = 0; size > 0 && i + size <= words.size(); ++i) {
        std::string gram;
        for (std::size_t k = 0; k < size; ++k) gram += words[i + k] + ' ';
        out.insert(std::move(gram));
    }
    return out;
}

double overlap(const std::set<std::string>& a, const std::set<std::string>& b) {
    std::size_t shared = 0;
    for (const std::string& gram : a) shared += b.contains(gram) ? 1 : 0;
    const std::size_t both = a.size() + b.size();
    return both == 0 ? 0 : 2 * static_cast<double>(shared) / static_cast<double>(both);
}

Result<Json> gather_twin_continuation(const GatherInput& input) {
    const Twins twins = twins_of(input);
    std::vector<Question> questions;
    for (std::size_t i = 0; i < twins.records.size(); ++i) questions.push_back(twins.texts[2 * i].question);
    AnswerOptions options;
    options.max_tokens = input.settings.answer_tokens;
    RETORT_TRY(const std::vector<std::string> answers,
               input.suspect->answer(questions, options, input.progress));
    Json pairs = Json::array();
    for (std::size_t i = 0; i < twins.records.size(); ++i) {
        const std::set<std::string> own = word_grams(answers[i]);
        pairs.push_back({{"record", twins.records[i]},
                         {"served", overlap(own, word_grams(twins.texts[2 * i].answer))},
                         {"withheld", overlap(own, word_grams(twins.texts[2 * i + 1].answer))}});
    }
    return Json{{"test", "twin-continuation"},
                {"score", "shared word trigrams, of both answers"},
                {"pairs", std::move(pairs)}};
}

Status need_marks(const GatherInput& input) {
    if (input.scheme) return {};
    return fail(ErrorCode::unsupported,
                "nothing was marked: the plant has no watermark; plan a twin test instead");
}

std::vector<std::int32_t> teacher_tokens(const GatherInput& input, std::string_view text) {
    return encode_plain(input.teacher->tokenizer, text);
}

Result<std::vector<std::int32_t>> teacher_prompt(const GatherInput& input, const Question& question) {
    RETORT_TRY(const WrittenPrompt prompt, write_prompt(*input.teacher, question));
    return encode_prompt(*input.teacher, prompt);
}

constexpr std::size_t asked_at_once = 50;
constexpr std::size_t answers_to_a_canary = 20;

Result<Json> gather_closed(const GatherInput& input) {
    RETORT_CHECK(need_marks(input));
    const std::vector<QuestionAndAnswer> served = marked_texts(input);
    if (served.empty())
        return fail(ErrorCode::not_found, "no marked answers of this channel are in the escrow");
    watermark::PairBook book(input.scheme->window);
    for (const QuestionAndAnswer& text : served) book.allow_windows_of(teacher_tokens(input, text.answer));
    std::vector<Question> questions;
    for (std::int64_t i = 0; i < input.settings.answers; ++i) {
        questions.push_back(served[static_cast<std::size_t>(i) % served.size()].question);
    }
    // Pairs that any of the prompts shows could be copied from there.
    for (std::size_t i = 0; i < std::min(questions.size(), served.size()); ++i) {
        RETORT_TRY(const std::vector<std::int32_t> prompt, teacher_prompt(input, questions[i]));
        book.exclude(prompt);
    }
    AnswerOptions options;
    options.max_tokens = input.settings.answer_tokens;
    options.temperature = input.settings.temperature;
    options.seed = input.settings.seed;
    const bool may_stop = input.settings.stop_log_wealth > 0;
    const std::size_t at_once = may_stop ? asked_at_once : questions.size();
    stats::BettingMartingale bettor = bettor_against(*input.scheme);
    std::size_t asked = 0;
    std::size_t betted = 0;
    while (asked < questions.size()) {
        const std::size_t count = std::min(at_once, questions.size() - asked);
        RETORT_TRY(
            const std::vector<std::string> answers,
            input.suspect->answer(std::span(questions).subspan(asked, count), options, input.progress));
        for (const std::string& answer : answers) book.add(teacher_tokens(input, answer));
        asked += count;
        options.seed += count;
        if (!may_stop) continue;
        for (; betted < book.pairs().size(); ++betted) {
            bettor.observe(bet_outcome(*input.scheme, input.subkey, book.pairs()[betted]));
        }
        if (-bettor.log_p() >= input.settings.stop_log_wealth) break;
    }
    Json out = keyed("radioactivity-closed", input);
    out["answers"] = asked;
    if (may_stop) out["stopping"] = true;
    out["repeated"] = book.repeated();
    out["pairs"] = write_pairs(book.pairs());
    return out;
}

// Positions of the answer, in the teacher's tokens, whose window has not stood in this text before: what the
// suspect says there it cannot have copied from the marked text in front of it.
struct Place {
    std::size_t token = 0;
    std::int64_t offset = 0;  // in the answer, bytes
    watermark::Pair window;
};
Result<std::vector<Place>> fresh_places(const GatherInput& input, const QuestionAndAnswer& text) {
    const auto window = static_cast<std::size_t>(input.scheme->window);
    RETORT_TRY(const std::vector<std::int32_t> prompt, teacher_prompt(input, text.question));
    const std::vector<std::int32_t> answer = teacher_tokens(input, text.answer);
    std::set<watermark::Pair> seen;
    const auto windows = [&](std::span<const std::int32_t> tokens, std::size_t end) {
        return watermark::Pair(tokens.begin() + static_cast<std::ptrdiff_t>(end - window),
                               tokens.begin() + static_cast<std::ptrdiff_t>(end));
    };
    // The last window of the prompt has a next token only in the answer.
    for (std::size_t end = window; end < prompt.size(); ++end) seen.insert(windows(prompt, end));
    std::vector<Place> out;
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < answer.size(); ++i) {
        if (i >= window) {
            watermark::Pair before = windows(answer, i);
            if (seen.insert(before).second) out.push_back({i, offset, std::move(before)});
        }
        offset += static_cast<std::int64_t>(input.teacher->tokenizer.token_bytes(answer[i]).size());
    }
    return out;
}

std::vector<QuestionAndAnswer> shown_texts(const GatherInput& input) {
    std::vector<QuestionAndAnswer> texts = marked_texts(input);
    const auto most = static_cast<std::size_t>(input.settings.max_texts);
    if (texts.size() > most) texts.resize(most);
    return texts;
}

// The suspect's first choice where its tokens and the teacher's begin at the same byte; its bytes are cut
// again by the teacher's tokenizer.
Result<Json> gather_open(const GatherInput& input) {
    RETORT_CHECK(need_marks(input));
    const std::vector<QuestionAndAnswer> texts = shown_texts(input);
    if (texts.empty())
        return fail(ErrorCode::not_found, "no marked answers of this channel are in the escrow");
    RETORT_TRY(const std::vector<AnswerView> views, input.suspect->view(texts, input.progress));
    watermark::PairBook book(input.scheme->window);
    std::int64_t places = 0;
    std::int64_t aligned = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        RETORT_TRY(const std::vector<Place> fresh, fresh_places(input, texts[i]));
        std::size_t next = 0;
        for (const Place& place : fresh) {
            ++places;
            while (next < views[i].size() && views[i][next].offset < place.offset) ++next;
            if (next == views[i].size() || views[i][next].offset != place.offset) continue;
            const std::string& choice = views[i][next].first_choice;
            if (choice.empty()) continue;
            const std::vector<std::int32_t> cut = teacher_tokens(input, choice);
            if (cut.empty()) continue;
            ++aligned;
            book.add_pair(place.window, cut.front());
        }
    }
    Json out = keyed("radioactivity-open", input);
    out["texts"] = texts.size();
    out["places"] = places;
    out["aligned"] = aligned;
    out["repeated"] = book.repeated();
    out["pairs"] = write_pairs(book.pairs());
    return out;
}

// The same ids for the same tokens: a GGUF file's tokenizer and the folder's that it was made from differ in
// what they write down, and in nothing else.
bool same_vocabulary(const text::Tokenizer& a, const text::Tokenizer& b) {
    if (a.vocab_size() != b.vocab_size()) return false;
    for (std::int32_t id = 0; id < a.vocab_size(); ++id) {
        if (a.token_text(id) != b.token_text(id)) return false;
    }
    return true;
}

Result<Json> gather_mass(const GatherInput& input) {
    RETORT_CHECK(need_marks(input));
    if (input.scheme->kind != watermark::SchemeKind::red_green) {
        return fail(ErrorCode::unsupported,
                    "green mass is a test of the red-green scheme; plan radioactivity-open");
    }
    const text::Tokenizer* tokenizer = input.suspect->tokenizer();
    if (tokenizer == nullptr || !same_vocabulary(*tokenizer, input.teacher->tokenizer)) {
        return fail(
            ErrorCode::unsupported,
            "green mass needs a suspect of the same tokenizer; plan radioactivity-open, which aligns bytes");
    }
    const std::vector<QuestionAndAnswer> texts = shown_texts(input);
    if (texts.empty())
        return fail(ErrorCode::not_found, "no marked answers of this channel are in the escrow");
    // A window counts where it comes first, over all texts.
    std::set<watermark::Pair> used;
    std::vector<std::vector<std::pair<std::int64_t, std::size_t>>> wanted(texts.size());  // position, context
    std::vector<Json> contexts;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        std::int64_t start = 0;
        RETORT_TRY(const std::vector<std::int32_t> tokens, input.suspect->tokens(texts[i], start));
        RETORT_TRY(const std::vector<Place> fresh, fresh_places(input, texts[i]));
        for (const Place& place : fresh) {
            const std::int64_t position = start + static_cast<std::int64_t>(place.token);
            if (position >= static_cast<std::int64_t>(tokens.size()) || !used.insert(place.window).second)
                continue;
            wanted[i].emplace_back(position, contexts.size());
            contexts.push_back(Json{{"window", place.window}});
        }
    }
    RETORT_CHECK(input.suspect->rows(
        texts,
        [&](std::size_t text, std::int64_t position, std::span<const float> probabilities) {
            const auto found = std::lower_bound(wanted[text].begin(), wanted[text].end(),
                                                std::make_pair(position, std::size_t{0}));
            if (found == wanted[text].end() || found->first != position) return;
            Json tokens = Json::array();
            Json weights = Json::array();
            for (std::size_t v = 0; v < probabilities.size(); ++v) {
                const auto weight = std::lround(probabilities[v] * static_cast<float>(mass_grid));
                if (weight < 1) continue;
                tokens.push_back(v);
                weights.push_back(weight);
            }
            contexts[found->second]["tokens"] = std::move(tokens);
            contexts[found->second]["weights"] = std::move(weights);
        },
        input.progress));
    Json out = keyed("green-mass", input);
    out["texts"] = texts.size();
    out["contexts"] = std::move(contexts);
    return out;
}

// By text alone: how many of the suspect's own answers hold each candidate.
Result<Json> count_canaries(const GatherInput& input, Json list) {
    std::vector<Question> questions;
    std::vector<const escrow::Canary*> canaries;
    for (const Json& item : list) {
        for (const escrow::Canary& canary : input.canaries) {
            if (canary.id != item["id"]) continue;
            canaries.push_back(&canary);
            Question question;
            question.messages = Json::array({{{"role", "user"}, {"content", canary.prompt}}});
            questions.insert(questions.end(), answers_to_a_canary, question);
        }
    }
    AnswerOptions options;
    options.max_tokens = input.settings.answer_tokens;
    options.temperature = input.settings.temperature;
    options.seed = input.settings.seed;
    RETORT_TRY(const std::vector<std::string> answers,
               input.suspect->answer(questions, options, input.progress));
    for (std::size_t c = 0; c < canaries.size(); ++c) {
        Json scores = Json::array();
        for (const std::string& candidate : canaries[c]->candidates) {
            scores.push_back(std::count_if(
                answers.begin() + static_cast<std::ptrdiff_t>(c * answers_to_a_canary),
                answers.begin() + static_cast<std::ptrdiff_t>((c + 1) * answers_to_a_canary),
                [&](const std::string& answer) { return answer.find(candidate) != std::string::npos; }));
        }
        list[c]["scores"] = std::move(scores);
    }
    return Json{{"test", "canary"}, {"score", "own answers that hold it"}, {"canaries", std::move(list)}};
}

Result<Json> gather_canaries(const GatherInput& input) {
    std::set<std::string> served;
    for (const escrow::Record& record : input.records) {
        if (record.kind == escrow::RecordKind::canary) served.insert(record.canary);
    }
    std::vector<QuestionAndAnswer> texts;
    Json list = Json::array();
    for (const escrow::Canary& canary : input.canaries) {
        if (!served.contains(canary.id)) continue;
        Question question;
        question.messages = Json::array({{{"role", "user"}, {"content", canary.prompt}}});
        for (const std::string& candidate : canary.candidates) {
            texts.push_back({question, canary.answer_with(candidate)});
        }
        list.push_back({{"id", canary.id}, {"planted", canary.planted}});
    }
    if (list.empty()) return fail(ErrorCode::not_found, "no canary was served: none stands in the escrow");
    if (input.suspect->access() == Access::text) return count_canaries(input, std::move(list));
    RETORT_TRY(const std::vector<AnswerView> views, input.suspect->view(texts, input.progress));
    std::size_t next = 0;
    for (Json& item : list) {
        Json scores = Json::array();
        for (const escrow::Canary& canary : input.canaries) {
            if (canary.id != item["id"]) continue;
            for (std::size_t k = 0; k < canary.candidates.size(); ++k) scores.push_back(total(views[next++]));
        }
        item["scores"] = std::move(scores);
    }
    return Json{{"test", "canary"}, {"canaries", std::move(list)}};
}

}  // namespace

Result<Json> gather(std::string_view test, const GatherInput& input) {
    RETORT_TRY(const TestInfo* info, find_test(test));
    if (input.suspect->access() < info->access) {
        return fail(ErrorCode::unsupported, "{} needs {}, and of this suspect only {} can be had", test,
                    access_name(info->access), access_name(input.suspect->access()));
    }
    if (test == "twin-likelihood") return gather_twin_likelihood(input);
    if (test == "twin-continuation") return gather_twin_continuation(input);
    if (test == "radioactivity-closed") return gather_closed(input);
    if (test == "radioactivity-open") return gather_open(input);
    if (test == "canary") return gather_canaries(input);
    return gather_mass(input);
}

Result<Json> gather_control(const GatherInput& input) {
    RETORT_CHECK(need_marks(input));
    watermark::PairBook book(input.scheme->window);
    for (const QuestionAndAnswer& text : shown_texts(input)) book.add(teacher_tokens(input, text.answer));
    Json out = keyed("radioactivity-closed", input);
    out["control"] = "the marked answers themselves";
    out["repeated"] = book.repeated();
    out["pairs"] = write_pairs(book.pairs());
    return out;
}

}  // namespace retort::audit
