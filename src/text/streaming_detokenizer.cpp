#include "text/streaming_detokenizer.h"

#include <utility>

#include "text/unicode.h"

namespace retort::text {

StreamingDetokenizer::StreamingDetokenizer(Tokenizer tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

std::string StreamingDetokenizer::push(std::int32_t id) {
    if (skip_special_ && tokenizer_.is_special(id)) return {};
    std::string_view bytes = tokenizer_.token_bytes(id);
    if (at_start_ && !bytes.empty()) {
        at_start_ = false;
        if (tokenizer_.strips_leading_space() && bytes.starts_with(' ')) bytes.remove_prefix(1);
    }
    pending_.append(bytes);
    std::string out;
    while (!pending_.empty()) {
        bool incomplete = false;
        const std::size_t good = valid_utf8_prefix(pending_, &incomplete);
        out.append(pending_, 0, good);
        pending_.erase(0, good);
        if (pending_.empty() || incomplete) break;
        const std::size_t broken = ill_formed_length(pending_);
        out.append(tokenizer_.broken_text(broken));
        pending_.erase(0, broken);
    }
    return out;
}

std::string StreamingDetokenizer::finish() {
    at_start_ = true;
    if (pending_.empty()) return {};
    std::string out = tokenizer_.broken_text(pending_.size());
    pending_.clear();
    return out;
}

}  // namespace retort::text
