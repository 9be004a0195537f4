#include "data/align_logprobs.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

namespace retort::data {

using formats::Json;

namespace {

struct Listed {
    std::string bytes;
    double probability = 0;
};

// One of the teacher's tokens, and where it begins in its text.
struct TeacherToken {
    Listed written;
    std::vector<Listed> alternatives;
    std::size_t begin = 0;
};

Result<Listed> listed_from(const Json& json) {
    Listed listed;
    RETORT_TRY(const double logprob, formats::json_number(json, "logprob"));
    if (!(logprob <= 1e-3)) return fail(ErrorCode::format, "a logprob of {} is above 0", logprob);
    listed.probability = std::exp(std::min(0.0, logprob));
    const Json* bytes = formats::json_find(json, "bytes");
    if (bytes == nullptr || !bytes->is_array()) {
        RETORT_TRY(listed.bytes, formats::json_string(json, "token"));
        return listed;
    }
    for (const Json& byte : *bytes) {
        if (!byte.is_number_integer()) return fail(ErrorCode::format, "a token's byte is no number");
        const auto value = byte.get<std::int64_t>();
        if (value < 0 || value > 255) return fail(ErrorCode::format, "a token's byte is {}", value);
        listed.bytes.push_back(static_cast<char>(value));
    }
    return listed;
}

Result<std::vector<TeacherToken>> teacher_tokens(const Record& record) {
    if (!record.logprobs.is_array() || record.logprobs.empty())
        return fail(ErrorCode::not_found, "it has no logprobs; collect with --logprobs 20");
    std::vector<TeacherToken> tokens;
    std::size_t at = 0;
    for (const Json& json : record.logprobs) {
        if (!json.is_object()) return fail(ErrorCode::format, "an entry of its logprobs is no object");
        TeacherToken token;
        RETORT_TRY(token.written, listed_from(json));
        token.begin = at;
        at += token.written.bytes.size();
        if (const Json* top = formats::json_find(json, "top_logprobs"); top != nullptr && top->is_array()) {
            for (const Json& other : *top) {
                if (!other.is_object()) return fail(ErrorCode::format, "a top logprob is no object");
                RETORT_TRY(Listed one, listed_from(other));
                if (one.bytes != token.written.bytes) token.alternatives.push_back(std::move(one));
            }
        }
        tokens.push_back(std::move(token));
    }
    return tokens;
}

// The first of the teacher's tokens that begins at or behind `byte`.
std::size_t token_at(const std::vector<TeacherToken>& tokens, std::size_t byte) {
    const auto found =
        std::lower_bound(tokens.begin(), tokens.end(), byte,
                         [](const TeacherToken& token, std::size_t value) { return token.begin < value; });
    return static_cast<std::size_t>(found - tokens.begin());
}

// Probability of all of the teacher's tokens from `first` that begin before `end`.
double path_probability(const std::vector<TeacherToken>& tokens, std::size_t first, std::size_t end) {
    double probability = 1;
    for (std::size_t i = first; i < tokens.size() && (i == first || tokens[i].begin < end); ++i) {
        probability *= tokens[i].written.probability;
    }
    return probability;
}

using SpecialTargets = std::map<std::string, std::int32_t, std::less<>>;

// The token that ended the answer, if it is listed behind the text, taken out of the list.
std::optional<TeacherToken> take_end(const Record& record, const SpecialTargets& specials,
                                     std::vector<TeacherToken>& tokens) {
    const TeacherToken& last = tokens.back();
    if (record.finish_reason != "stop" || tokens.size() < 2) return std::nullopt;
    std::string text;
    for (const TeacherToken& token : tokens) text += token.written.bytes;
    const std::string& name = last.written.bytes;
    const bool behind =
        text != record.content && std::string_view(text).substr(0, last.begin) == record.content;
    if (!name.empty() && !behind && (text == record.content || !specials.contains(name))) return std::nullopt;
    TeacherToken end = last;
    tokens.pop_back();
    return end;
}

// The teacher's name of the end stands for the first special token that is trained behind `text` bytes of the
// example's.
void learn_end(const TeacherToken& end, const Example& example, const text::Tokenizer& tokenizer,
               std::int64_t text, SpecialTargets& specials) {
    if (end.written.bytes.empty()) return;
    for (std::size_t i = 1; i < example.tokens.size(); ++i) {
        if (example.trained[i] == 0) continue;
        if (!tokenizer.is_special(example.tokens[i])) {
            text -= static_cast<std::int64_t>(tokenizer.token_bytes(example.tokens[i]).size());
        } else if (text <= 0) {
            specials.insert_or_assign(end.written.bytes, example.tokens[i]);
            return;
        }
    }
}

// A token spelt as a special one is text where the student has a plain token of these bytes.
std::int32_t id_of(const std::string& bytes, const TokenBytes& student, const SpecialTargets& specials) {
    const std::int32_t id = student.find(bytes);
    if (id >= 0) return id;
    const auto found = specials.find(bytes);
    return found == specials.end() ? -1 : found->second;
}

void add_token(std::vector<std::pair<double, std::int32_t>>& ids, std::int64_t count, TokenEntries& entries) {
    std::sort(ids.begin(), ids.end(), [](const auto& a, const auto& b) {
        return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    if (static_cast<std::int64_t>(ids.size()) > count) ids.resize(static_cast<std::size_t>(count));
    double kept = 0;
    for (const auto& [probability, id] : ids) kept += probability;
    // APIs round: what adds up to more than 1 by that is scaled to 1, with no tail.
    const double scale = kept > 1 ? 1 / kept : 1.0;
    for (const auto& [probability, id] : ids) {
        entries.ids.push_back(id);
        entries.values.push_back(static_cast<float>(probability * scale));
    }
    entries.tails.push_back(static_cast<float>(std::max(0.0, 1 - kept)));
    entries.entropies.push_back(0.0F);
    entries.starts.push_back(static_cast<std::int64_t>(entries.ids.size()));
}

}  // namespace

TokenBytes::TokenBytes(const text::Tokenizer& tokenizer) : tokenizer_(&tokenizer) {
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
        if (tokenizer.is_special(id)) continue;
        const std::string_view bytes = tokenizer.token_bytes(id);
        if (!bytes.empty()) ids_.emplace(std::string(bytes), id);  // the first stays
    }
}

std::int32_t TokenBytes::find(const std::string& bytes) const {
    const auto found = ids_.find(bytes);
    return found == ids_.end() ? -1 : found->second;
}

Result<TokenEntries> align_logprobs(const Record& record, const Example& example, const TokenBytes& student,
                                    std::int64_t count, AlignmentSums& sums) {
    auto read = teacher_tokens(record);
    if (!read) return fail_from(read.error(), fmt::format("record {}", record.id));
    std::vector<TeacherToken>& teacher = *read;
    const text::Tokenizer& tokenizer = student.tokenizer();
    std::string ours;         // the trained text, without special tokens
    SpecialTargets specials;  // by their bytes
    for (std::size_t i = 1; i < example.tokens.size(); ++i) {
        if (example.trained[i] == 0) continue;
        const std::string_view bytes = tokenizer.token_bytes(example.tokens[i]);
        if (tokenizer.is_special(example.tokens[i])) {
            specials.emplace(bytes, example.tokens[i]);
        } else {
            ours += bytes;
        }
    }
    const std::optional<TeacherToken> end = take_end(record, specials, teacher);
    std::string theirs;
    for (const TeacherToken& token : teacher) theirs += token.written.bytes;
    // A template may trim the answer, or put a space or its own words before it: one text holds the other.
    const std::size_t inside = ours.find(theirs);
    const std::size_t around = theirs.find(ours);
    if (theirs.empty() || ours.empty() || (inside == std::string::npos && around == std::string::npos)) {
        return fail(ErrorCode::unsupported,
                    "record {}: the tokens of its logprobs do not spell its answer as it is trained",
                    record.id);
    }
    const std::int64_t shift =
        inside != std::string::npos ? -static_cast<std::int64_t>(inside) : static_cast<std::int64_t>(around);
    const auto spelt = static_cast<std::int64_t>(theirs.size());
    if (end) learn_end(*end, example, tokenizer, spelt - shift, specials);
    TokenEntries entries;
    bool ended = !end;
    std::int64_t at = shift;  // in the teacher's text
    for (std::size_t i = 1; i < example.tokens.size(); ++i) {
        if (example.trained[i] == 0) continue;
        ++sums.tokens;
        const std::int32_t target = example.tokens[i];
        std::vector<std::pair<double, std::int32_t>> ids;
        const auto take = [&](const TeacherToken& token, double written) {
            ++sums.aligned;
            ids.emplace_back(written, target);
            sums.listed += token.written.probability;
            for (const Listed& other : token.alternatives) {
                sums.listed += other.probability;
                const std::int32_t id = id_of(other.bytes, student, specials);
                if (id < 0) continue;
                // The target may be one of the teacher's tokens too: other ways to write the same bytes.
                const auto same =
                    std::find_if(ids.begin(), ids.end(), [&](const auto& one) { return one.second == id; });
                if (same != ids.end()) {
                    same->first += other.probability;
                } else {
                    ids.emplace_back(other.probability, id);
                }
            }
            for (const auto& [probability, id] : ids) sums.mapped += probability;
        };
        if (tokenizer.is_special(target)) {
            if (!ended && at >= spelt) {
                take(*end, end->written.probability);
                ended = true;
            }
            add_token(ids, count, entries);
            continue;
        }
        const std::size_t size = tokenizer.token_bytes(target).size();
        const std::size_t first = at < 0 ? teacher.size() : token_at(teacher, static_cast<std::size_t>(at));
        if (size > 0 && first < teacher.size() && teacher[first].begin == static_cast<std::size_t>(at))
            take(teacher[first], path_probability(teacher, first, static_cast<std::size_t>(at) + size));
        add_token(ids, count, entries);
        at += static_cast<std::int64_t>(size);
    }
    return entries;
}

TokenEntries unknown_entries(std::int64_t tokens) {
    TokenEntries entries;
    entries.starts.assign(static_cast<std::size_t>(tokens) + 1, 0);
    entries.tails.assign(static_cast<std::size_t>(tokens), 1.0F);
    entries.entropies.assign(static_cast<std::size_t>(tokens), 0.0F);
    return entries;
}

}  // namespace retort::data
