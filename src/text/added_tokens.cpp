#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace retort::text {
namespace {

bool begins_with_word(std::string_view text) {
    return !text.empty() && CharacterTable::get().word(decode_valid(text, 0).point);
}

bool ends_with_word(std::string_view text) {
    return !text.empty() && CharacterTable::get().word(decode_valid_before(text, text.size()).point);
}

std::size_t trailing_space_begin(std::string_view text) {
    std::size_t end = text.size();
    while (end > 0) {
        const Decoded c = decode_valid_before(text, end);
        if (!is_white_space(c.point)) break;
        end -= c.length;
    }
    return end;
}

std::size_t leading_space_end(std::string_view text) {
    std::size_t at = 0;
    while (at < text.size()) {
        const Decoded c = decode_valid(text, at);
        if (!is_white_space(c.point)) break;
        at += c.length;
    }
    return at;
}

}  // namespace

void AddedTokenMatcher::build(std::span<const AddedToken> tokens, std::span<const std::string> patterns) {
    tokens_.clear();
    nodes_.assign(1, {});
    first_.fill(false);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        const std::string& pattern = patterns[i];
        if (pattern.empty()) continue;
        std::uint32_t node = 0;
        for (const char c : pattern) {
            const auto byte = static_cast<unsigned char>(c);
            auto& next = nodes_[node].next;
            const auto found = std::lower_bound(next.begin(), next.end(), std::pair{byte, std::uint32_t{0}});
            if (found != next.end() && found->first == byte) {
                node = found->second;
            } else {
                const auto made = static_cast<std::uint32_t>(nodes_.size());
                next.insert(found, {byte, made});
                nodes_.emplace_back();
                node = made;
            }
        }
        if (nodes_[node].token >= 0) continue;  // the first of two tokens with the same text
        nodes_[node].token = static_cast<std::int32_t>(tokens_.size());
        first_[static_cast<unsigned char>(pattern[0])] = true;
        const AddedToken& token = tokens[i];
        tokens_.push_back({token.id, token.special, token.single_word, token.lstrip, token.rstrip});
    }
}

std::pair<std::int32_t, std::size_t> AddedTokenMatcher::longest(std::string_view text, std::size_t at) const {
    std::pair<std::int32_t, std::size_t> best{-1, 0};
    std::uint32_t node = 0;
    for (std::size_t i = at; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const auto& next = nodes_[node].next;
        const auto found = std::lower_bound(next.begin(), next.end(), std::pair{byte, std::uint32_t{0}});
        if (found == next.end() || found->first != byte) break;
        node = found->second;
        if (nodes_[node].token >= 0) best = {nodes_[node].token, i + 1 - at};
    }
    return best;
}

void AddedTokenMatcher::split(std::string_view text, bool parse_special,
                              std::vector<AddedTokenPart>& parts) const {
    std::size_t done = 0;  // end of the last part
    std::size_t at = 0;
    while (!empty() && at < text.size()) {
        if (!first_[static_cast<unsigned char>(text[at])]) {
            ++at;
            continue;
        }
        const auto [index, length] = longest(text, at);
        if (index < 0) {
            ++at;
            continue;
        }
        std::size_t begin = at;
        std::size_t end = at + length;
        at = end;  // a match that is turned down below is still not searched again
        const Token& token = tokens_[static_cast<std::size_t>(index)];
        if (token.special && !parse_special) continue;
        if (token.single_word &&
            (ends_with_word(text.substr(0, begin)) || begins_with_word(text.substr(end))))
            continue;
        if (token.lstrip) begin = std::max(trailing_space_begin(text.substr(0, begin)), done);
        if (token.rstrip) end += leading_space_end(text.substr(end));
        if (done < begin) parts.push_back({-1, text.substr(done, begin - done)});
        parts.push_back({token.id, text.substr(begin, end - begin)});
        done = end;
    }
    if (done < text.size()) parts.push_back({-1, text.substr(done)});
}

}  // namespace retort::text
