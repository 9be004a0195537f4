#include "serve/reasoning_filter.h"

#include <algorithm>

#include "base/strings.h"

namespace retort::serve {

namespace {

constexpr std::size_t part_bytes = 160;
constexpr std::size_t held_bytes = std::size_t{1} << 20U;

bool is_continuation(char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

bool ends_sentence(std::string_view text, std::size_t at) {
    if (text[at] == '\n') return true;
    return (text[at] == '.' || text[at] == '!' || text[at] == '?') &&
           (at + 1 == text.size() || text[at + 1] == ' ' || text[at + 1] == '\n');
}

}  // namespace

std::string summarise_reasoning(std::string_view reasoning) {
    const std::string_view text = base::trimmed(reasoning);
    std::size_t first = 0;
    while (first < text.size() && !ends_sentence(text, first)) ++first;
    first = std::min(first + 1, text.size());
    std::size_t last = text.size();
    while (last > first && (last == text.size() || !ends_sentence(text, last - 1))) --last;
    std::string_view head = base::trimmed(text.substr(0, first));
    std::string_view tail = base::trimmed(text.substr(last));
    bool cut = last > first;
    if (head.size() > part_bytes) {
        std::size_t end = part_bytes;
        while (end > 0 && is_continuation(head[end])) --end;
        head = head.substr(0, end);
        cut = true;
    }
    if (tail.size() > part_bytes) {
        std::size_t begin = tail.size() - part_bytes;
        while (begin < tail.size() && is_continuation(tail[begin])) ++begin;
        tail = tail.substr(begin);
        cut = true;
    }
    std::string out(head);
    if (!tail.empty()) (out += cut ? " … " : " ") += tail;
    return out;
}

std::string ReasoningFilter::pass(std::string_view piece, bool ended) {
    if (access_ == ReasoningAccess::full) return std::string(piece);
    if (access_ == ReasoningAccess::withheld || summarised_) return {};
    if (held_.size() < held_bytes) held_ += piece;
    if (!ended || held_.empty()) return {};
    summarised_ = true;
    return summarise_reasoning(held_);
}

}  // namespace retort::serve
