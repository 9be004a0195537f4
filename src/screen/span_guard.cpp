#include "screen/span_guard.h"

#include <algorithm>

#include "screen/spans.h"

namespace retort::screen {

namespace {

// Whether nothing that may still come can belong to the word before this byte.
bool surely_separates(char c) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || c == '\'' || c == '`' || c == '-') return false;
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return !letter;
}

}  // namespace

std::string SpanGuard::push(std::string_view text) {
    if (blocked_) return {};
    held_ += text;
    return release(false);
}

std::string SpanGuard::finish() {
    if (blocked_) return {};
    return release(true);
}

std::string SpanGuard::release(bool at_end) {
    Words& words = words_;
    if (!split_words(held_, words)) {  // 4 GiB without a space
        blocked_ = true;
        return {};
    }
    std::size_t complete = words.size();
    if (complete > 0 && !at_end) {
        const std::size_t after = words.ends[complete - 1];
        if (after >= held_.size() || !surely_separates(held_[after])) --complete;
    }
    for (std::size_t i = 0; i < complete; ++i) {
        recent_.push_back(words.ids[i]);
        recent_letters_.push_back(static_cast<std::uint32_t>(span_characters(held_, words, i, i + 1)));
        if (!last_word_may_go()) {
            blocked_ = true;
            const std::size_t allowed = i == 0 ? 0 : words.ends[i - 1];
            std::string out = held_.substr(0, allowed);
            held_.clear();
            return out;
        }
    }
    std::size_t end = complete < words.size() ? words.begins[complete] : held_.size();
    // Half a character may become a letter.
    if (!at_end && complete == words.size()) {
        while (end > 0 && end + 4 > held_.size() && static_cast<unsigned char>(held_[end - 1]) >= 0x80) --end;
        // Never in the middle of one: what leaves may be put into a frame by itself.
        while (end > 0 && end < held_.size() && (static_cast<unsigned char>(held_[end]) & 0xC0U) == 0x80U)
            --end;
        if (complete > 0) end = std::max<std::size_t>(end, words.ends[complete - 1]);
    }
    std::string out = held_.substr(0, end);
    held_.erase(0, end);
    return out;
}

void SpanGuard::follow(const Part& part, Passage& passage, std::uint64_t& hash) {
    const std::size_t count = recent_.size();
    // One that goes on where it stands stays the longest: none can have begun earlier.
    if (passage.known) {
        const std::uint64_t next = passage.place + (count - 1 - passage.begin);
        if (next < part.words.size() && part.words[next] == recent_.back()) return;
    }
    if (hash == 0) hash = GramHash::of(recent_.data() + count - gram_words);
    passage.known = false;
    const std::size_t last = count - gram_words;
    if (!part.may_have(hash)) {
        passage.begin = last + 1;
        return;
    }
    LongestMatch found;
    const auto reaches_end = [&](std::size_t at) {
        const auto match = longest_match(part, recent_, at, GramHash::of(recent_.data() + at));
        if (match.length == 0 || at + match.length < count) return false;
        found = match;
        return true;
    };
    // It begins later than the one before it did, or at the same word.
    std::size_t low = std::min(passage.begin, last);
    std::size_t high = last + 1;
    while (low < high) {
        const std::size_t middle = (low + high) / 2;
        if (reaches_end(middle)) {
            high = middle;  // and `found` is of the smallest that reached
        } else {
            low = middle + 1;
        }
    }
    passage.begin = low;
    if (low > last) return;
    passage.known = true;
    passage.place = found.place;
}

bool SpanGuard::last_word_may_go() {
    const std::size_t count = recent_.size();
    if (count < gram_words) return true;
    std::uint64_t hash = 0;  // of the last gram, once it is asked for
    std::size_t begin = count;
    std::size_t needed = count;
    for (std::size_t i = 0; i < passages_.size(); ++i) {
        follow(index_->parts[i], passages_[i], hash);
        if (passages_[i].known) begin = std::min(begin, passages_[i].begin);
        needed = std::min(needed, passages_[i].begin);
    }
    if (begin < count) {
        const std::size_t words = count - begin;
        std::size_t characters = words - 1;
        for (std::size_t i = begin; i < count; ++i) characters += recent_letters_[i];
        if ((limits_.words > 0 && words > limits_.words) ||
            (limits_.characters > 0 && characters > limits_.characters)) {
            return false;
        }
    }
    // A passage without end cannot be: one of the limits ends it. What is before it is forgotten.
    constexpr std::size_t forget_from = 4096;
    if (needed > forget_from) {
        recent_.erase(recent_.begin(), recent_.begin() + static_cast<std::ptrdiff_t>(needed));
        recent_letters_.erase(recent_letters_.begin(),
                              recent_letters_.begin() + static_cast<std::ptrdiff_t>(needed));
        for (Passage& passage : passages_) passage.begin -= needed;
    }
    return true;
}

}  // namespace retort::screen
