#include "guard/sketch.h"

#include <algorithm>
#include <cstring>

#include "base/hash.h"

namespace retort::guard {

namespace {

constexpr std::uint8_t sketch_version = 1;
constexpr std::size_t longest_word = 24;
// Bytes looked at for one window: 48 words of ordinary text, whatever else stands there.
constexpr std::size_t window_bytes = 768;
constexpr std::uint64_t masked_word = 0x9e3779b97f4a7c15ULL;
constexpr std::uint8_t flag_follow_up = 1;
constexpr std::uint8_t flag_reasoning = 2;

// A finaliser of MurmurHash3: every bit of the sum reaches the upper ones.
std::uint64_t mixed(std::uint64_t h) {
    h ^= h >> 33U;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33U;
    h *= 0xc4ceb9fe1a85ec53ULL;
    return h ^ (h >> 33U);
}

bool is_word_byte(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80 ||
           c == '_';
}

// Chinese, Japanese and Korean have no spaces: each character is a word.
bool begins_ideograph(unsigned char c) {
    return c >= 0xe3 && c <= 0xed;
}

struct Words {
    std::vector<WordSpan> spans;
    std::vector<std::uint64_t> hashes;
    bool elicits = false;
};

bool is_elicitation(std::string_view word) {
    return word == "step" || word == "steps" || word == "reasoning" || word == "reason" ||
           word == "explain" || word == "explanation" || word == "think" || word == "rationale";
}

// The words of text[begin, end), at most `most`.
void split(const SketchKey& key, std::string_view text, std::size_t at, std::size_t end, std::size_t most,
           Words& out) {
    out.spans.clear();
    out.hashes.clear();
    out.elicits = false;
    while (at < end && out.spans.size() < most) {
        const auto first = static_cast<unsigned char>(text[at]);
        if (!is_word_byte(first)) {
            ++at;
            continue;
        }
        const std::size_t begin = at;
        std::array<char, longest_word> lower;
        std::size_t size = 0;
        bool digits = false;
        if (begins_ideograph(first)) {
            at = std::min(at + 3, end);
            size = at - begin;
            std::memcpy(lower.data(), text.data() + begin, size);
        } else {
            while (at < end) {
                const auto c = static_cast<unsigned char>(text[at]);
                if (!is_word_byte(c) || begins_ideograph(c)) break;
                digits = digits || (c >= '0' && c <= '9');
                if (size < longest_word) {
                    lower[size] = static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
                }
                ++size;
                ++at;
            }
        }
        const bool masked = digits || size > longest_word;
        const std::string_view word(lower.data(), std::min(size, longest_word));
        out.spans.push_back({begin, at - begin});
        out.hashes.push_back(masked ? masked_word : base::xxh3_64(word, key.words));
        out.elicits = out.elicits || is_elicitation(word);
    }
}

std::uint32_t gram_of(const SketchKey& key, const std::uint64_t* words, std::size_t count) {
    std::uint64_t sum = key.grams;
    for (std::size_t i = 0; i < count; ++i) sum = (sum ^ words[i]) * 0x2545f4914f6cdd1dULL + (sum >> 29U);
    const auto gram = static_cast<std::uint32_t>(mixed(sum) >> 32U);
    return gram == PromptSketch::no_gram ? 1 : gram;
}

// Calls on_gram for each gram; a window of fewer words than a gram has one of all its words, if two at least.
template <typename OnGram>
void each_gram(const SketchKey& key, const Words& words, const OnGram& on_gram) {
    const std::size_t count = words.hashes.size();
    if (count < 2) return;
    const std::size_t size = std::min(count, PromptSketch::gram_words);
    for (std::size_t i = 0; i + size <= count; ++i) {
        // A gram of nothing but masks says nothing.
        bool all_masked = true;
        for (std::size_t j = i; j < i + size; ++j) all_masked = all_masked && words.hashes[j] == masked_word;
        on_gram(all_masked ? PromptSketch::no_gram : gram_of(key, words.hashes.data() + i, size));
    }
}

void keep_smallest(const SketchKey& key, const Words& words, std::uint32_t* out) {
    std::size_t kept = 0;
    each_gram(key, words, [&](std::uint32_t gram) {
        if (gram == PromptSketch::no_gram) return;
        if (kept == PromptSketch::grams_each && gram >= out[kept - 1]) return;
        std::uint32_t* const place = std::lower_bound(out, out + kept, gram);
        if (place != out + kept && *place == gram) return;
        if (kept < PromptSketch::grams_each) ++kept;
        std::move_backward(place, out + kept - 1, out + kept);
        *place = gram;
    });
}

std::size_t tail_begin(std::string_view text) {
    if (text.size() <= window_bytes) return 0;
    std::size_t at = text.size() - window_bytes;
    // Not in the middle of a word, or windows of one ending would differ.
    while (at < text.size() && is_word_byte(static_cast<unsigned char>(text[at]))) ++at;
    return at;
}

void split_head(const SketchKey& key, std::string_view text, Words& out) {
    split(key, text, 0, std::min(text.size(), window_bytes), PromptSketch::window_words, out);
}

void split_tail(const SketchKey& key, std::string_view text, Words& out) {
    split(key, text, tail_begin(text), text.size(), window_bytes, out);
    if (out.spans.size() > PromptSketch::window_words) {
        const auto surplus = static_cast<std::ptrdiff_t>(out.spans.size() - PromptSketch::window_words);
        out.spans.erase(out.spans.begin(), out.spans.begin() + surplus);
        out.hashes.erase(out.hashes.begin(), out.hashes.begin() + surplus);
    }
}

WindowGrams grams_of(const SketchKey& key, Words words) {
    WindowGrams out;
    each_gram(key, words, [&](std::uint32_t gram) { out.grams.push_back(gram); });
    out.words = std::move(words.spans);
    return out;
}

template <typename T>
void append_raw(std::string& out, T value) {
    for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(value >> (8 * i));
}

template <typename T>
T take(std::string_view bytes, std::size_t& at) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof value; ++i)
        value |= static_cast<T>(static_cast<std::uint8_t>(bytes[at + i])) << (8 * i);
    at += sizeof value;
    return value;
}

constexpr std::size_t sketch_bytes =
    2 + 4 * (PromptSketch::windows * PromptSketch::grams_each + PromptSketch::topic_words) + 3 * 8;

}  // namespace

SketchKey sketch_key(const store::Secret& secret) {
    const store::IdentityHash hash = secret.hash("guard sketch", "");
    SketchKey key;
    std::memcpy(&key.words, hash.data(), sizeof key.words);
    std::memcpy(&key.grams, hash.data() + sizeof key.words, sizeof key.grams);
    return key;
}

void add_message(PromptView& view, std::string_view role, std::string_view content) {
    view.conversation = mixed(view.conversation + base::xxh3_64(content, base::xxh3_64(role)));
}

PromptSketch sketch_prompt(const SketchKey& key, const PromptView& view) {
    thread_local Words words;
    PromptSketch out;
    split_head(key, view.system, words);
    keep_smallest(key, words, out.grams.data());
    bool elicits = words.elicits;
    split_head(key, view.user, words);
    keep_smallest(key, words, out.grams.data() + PromptSketch::grams_each);
    elicits = elicits || words.elicits;
    split_tail(key, view.user, words);
    keep_smallest(key, words, out.grams.data() + 2 * PromptSketch::grams_each);
    out.elicits_reasoning = elicits || words.elicits;
    // Long words carry the subject; short ones are of every subject.
    constexpr std::size_t shortest = 6;
    for (std::size_t i = 0; i < words.hashes.size(); ++i) {
        if (words.spans[i].size < shortest) continue;
        const auto word = static_cast<std::uint32_t>(mixed(words.hashes[i] ^ key.grams));
        if (out.topic[0] == 0 || word < out.topic[0]) {
            out.topic[1] = out.topic[0];
            out.topic[0] = word;
        } else if (word != out.topic[0] && (out.topic[1] == 0 || word < out.topic[1])) {
            out.topic[1] = word;
        }
    }
    out.content = base::xxh3_64(view.user, key.words);
    out.conversation = mixed(view.conversation ^ key.grams);
    if (!view.logit_bias.empty()) out.bias = base::xxh3_64(view.logit_bias, key.words) | 1U;
    out.follow_up = view.follow_up;
    return out;
}

std::string write_sketch(const PromptSketch& sketch) {
    std::string out;
    out.reserve(sketch_bytes);
    out += static_cast<char>(sketch_version);
    out += static_cast<char>((sketch.follow_up ? flag_follow_up : 0) |
                             (sketch.elicits_reasoning ? flag_reasoning : 0));
    for (const std::uint32_t gram : sketch.grams) append_raw(out, gram);
    for (const std::uint32_t word : sketch.topic) append_raw(out, word);
    for (const std::uint64_t hash : {sketch.content, sketch.conversation, sketch.bias}) append_raw(out, hash);
    return out;
}

std::optional<PromptSketch> read_sketch(std::string_view bytes) {
    if (bytes.size() != sketch_bytes || static_cast<std::uint8_t>(bytes[0]) != sketch_version) return {};
    const auto flags = static_cast<std::uint8_t>(bytes[1]);
    if ((flags & ~(flag_follow_up | flag_reasoning)) != 0) return {};
    PromptSketch sketch;
    sketch.follow_up = (flags & flag_follow_up) != 0;
    sketch.elicits_reasoning = (flags & flag_reasoning) != 0;
    std::size_t at = 2;
    for (std::uint32_t& gram : sketch.grams) gram = take<std::uint32_t>(bytes, at);
    for (std::uint32_t& word : sketch.topic) word = take<std::uint32_t>(bytes, at);
    sketch.content = take<std::uint64_t>(bytes, at);
    sketch.conversation = take<std::uint64_t>(bytes, at);
    sketch.bias = take<std::uint64_t>(bytes, at);
    return sketch;
}

WindowGrams head_grams(const SketchKey& key, std::string_view text) {
    Words words;
    split_head(key, text, words);
    return grams_of(key, std::move(words));
}

WindowGrams tail_grams(const SketchKey& key, std::string_view text) {
    Words words;
    split_tail(key, text, words);
    return grams_of(key, std::move(words));
}

}  // namespace retort::guard
