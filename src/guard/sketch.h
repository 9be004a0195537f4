// What a request leaves behind of its prompt: keyed hashes of a few long n-grams, of the whole, and of the
// bias map; never its text. Made inline with each request, so it reads a bounded number of words however long
// the prompt is. Format: docs/formats/guard_sketch.md. Knows no JSON, no account and no detector.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/identity.h"

namespace retort::guard {

// Of the store's secret: servers of one store make comparable sketches, and who has the log alone cannot test
// a guess of a prompt.
struct SketchKey {
    std::uint64_t words = 0;
    std::uint64_t grams = 0;
};
SketchKey sketch_key(const store::Secret& secret);

// The parts of a request that are sketched; views into whatever was parsed.
struct PromptView {
    std::string_view system;         // the first message, if it is the system's or developer's
    std::string_view user;           // the last message of the user, or the prompt of a completion
    std::uint64_t conversation = 0;  // add_message() of every message
    bool follow_up = false;          // an earlier answer is part of it
    std::string_view logit_bias;     // the map's JSON as written; empty: none
};
void add_message(PromptView& view, std::string_view role, std::string_view content);

// Words are lower case; numbers, and words that hold digits or are longer than 24 bytes, are masked, and a
// gram is gram_words of them in a row. Each window keeps its smallest grams (bottom-k MinHash): two prompts
// that share a share s of a window's grams share about s of its sketch.
struct PromptSketch {
    static constexpr std::size_t windows = 3;  // head of the system's, head of the user's, tail of the user's
    static constexpr std::size_t grams_each = 6;
    static constexpr std::size_t gram_words = 5;
    static constexpr std::size_t window_words = 48;
    static constexpr std::uint32_t no_gram = 0;
    static constexpr std::size_t topic_words = 2;

    std::array<std::uint32_t, windows * grams_each> grams{};  // ascending in each window, then no_gram
    std::array<std::uint32_t, topic_words> topic{};  // the smallest words of the user's tail: its subject
    std::uint64_t content = 0;                       // of the user's text
    std::uint64_t conversation = 0;                  // of all messages
    std::uint64_t bias = 0;                          // of the bias map; 0: none
    bool follow_up = false;
    bool elicits_reasoning = false;  // asks in English for steps, reasoning or an explanation

    friend bool operator==(const PromptSketch&, const PromptSketch&) = default;
};

PromptSketch sketch_prompt(const SketchKey& key, const PromptView& view);

// The bytes that an event carries, and back; std::nullopt: not a sketch of this version.
std::string write_sketch(const PromptSketch& sketch);
std::optional<PromptSketch> read_sketch(std::string_view bytes);

// What a person is shown of how a prompt was read: one entry a word of a window, with its gram hashes, so
// that `guard explain` can mark which words were the scaffold and which the slots.
struct WordSpan {
    std::size_t begin = 0;
    std::size_t size = 0;
};
struct WindowGrams {
    std::vector<WordSpan> words;
    std::vector<std::uint32_t> grams;  // gram i covers words i … i + gram_words − 1
};
WindowGrams head_grams(const SketchKey& key, std::string_view text);
WindowGrams tail_grams(const SketchKey& key, std::string_view text);

}  // namespace retort::guard
