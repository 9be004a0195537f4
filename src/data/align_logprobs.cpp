#include "data/align_logprobs.h"

#include <algorithm>
#include <cmath>
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
    const auto teacher = teacher_tokens(record);
    if (!teacher) return fail_from(teacher.error(), fmt::format("record {}", record.id));
    std::string theirs;
    for (const TeacherToken& token : *teacher) theirs += token.written.bytes;
    std::string ours;  // the trained text, without special tokens
    for (std::size_t i = 1; i < example.tokens.size(); ++i) {
        if (example.trained[i] != 0 && !student.tokenizer().is_special(example.tokens[i]))
            ours += student.tokenizer().token_bytes(example.tokens[i]);
    }
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
    TokenEntries entries;
    std::int64_t at = shift;  // in the teacher's text
    for (std::size_t i = 1; i < example.tokens.size(); ++i) {
        if (example.trained[i] == 0) continue;
        ++sums.tokens;
        const std::int32_t target = example.tokens[i];
        std::vector<std::pair<double, std::int32_t>> ids;
        if (student.tokenizer().is_special(target)) {
            add_token(ids, count, entries);
            continue;
        }
        const std::size_t size = student.tokenizer().token_bytes(target).size();
        const std::size_t first = at < 0 ? teacher->size() : token_at(*teacher, static_cast<std::size_t>(at));
        if (size > 0 && first < teacher->size() && (*teacher)[first].begin == static_cast<std::size_t>(at)) {
            const TeacherToken& token = (*teacher)[first];
            ++sums.aligned;
            ids.emplace_back(path_probability(*teacher, first, static_cast<std::size_t>(at) + size), target);
            sums.listed += token.written.probability;
            for (const Listed& other : token.alternatives) {
                sums.listed += other.probability;
                const std::int32_t id = student.find(other.bytes);
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
        }
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
