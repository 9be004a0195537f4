#include "guard/sketch.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/clock.h"
#include "base/random.h"

namespace retort::guard {
namespace {

const SketchKey key{12345, 67890};

PromptSketch sketch(std::string_view user, std::string_view system = {}) {
    PromptView view;
    view.system = system;
    view.user = user;
    return sketch_prompt(key, view);
}

std::size_t shared(const PromptSketch& a, const PromptSketch& b, std::size_t window) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < PromptSketch::grams_each; ++i) {
        const std::uint32_t gram = a.grams[window * PromptSketch::grams_each + i];
        const auto* begin = b.grams.data() + window * PromptSketch::grams_each;
        if (gram != PromptSketch::no_gram)
            count += static_cast<std::size_t>(std::count(begin, begin + PromptSketch::grams_each, gram));
    }
    return count;
}

TEST(Sketch, AScaffoldShowsThroughItsSlots) {
    const std::string head =
        "You will be given a question. Answer it with a full derivation, then give the result ";
    const std::string tail =
        " Write the final answer alone on the last line, in braces, without any other text.";
    const auto a = sketch(head + "How many apples has Ann after selling twelve of forty?" + tail);
    const auto b = sketch(head + "The train leaves Bern; when does it meet the other one near Thun" + tail);
    // Two are what links accounts.
    EXPECT_GE(shared(a, b, 1), 2U);
    EXPECT_GE(shared(a, b, 2), 2U);
    EXPECT_NE(a.content, b.content);
    const auto c =
        sketch("Who wrote the first book about the bees of the northern valleys and their keepers?");
    EXPECT_EQ(shared(a, c, 1), 0U);
}

TEST(Sketch, MasksNumbersAndCase) {
    const auto a = sketch("Translate line 17 of the FILE into German please, and keep x12 as is");
    const auto b = sketch("translate Line 4711 of the file into german please and keep y99 as is");
    EXPECT_EQ(a.grams, b.grams);
    EXPECT_NE(a.content, b.content);
    SketchKey other = key;
    other.words ^= 1U;
    PromptView view;
    view.user = "Translate line 17 of the FILE into German please, and keep x12 as is";
    EXPECT_NE(sketch_prompt(other, view).grams, a.grams);  // keyed
    EXPECT_EQ(sketch("17 18 19 20 21 22 23").grams, PromptSketch{}.grams);
}

TEST(Sketch, ReadsOnlyWindowsOfALongPrompt) {
    std::string middle;
    for (int i = 0; i < 20000; ++i) middle += "word" + std::string(1, static_cast<char>('a' + i % 26)) + " ";
    const auto a =
        sketch("One two three four five six seven eight. " + middle + " That was all of it my friend");
    const auto b = sketch("One two three four five six seven eight. " + middle + middle +
                          " That was all of it my friend");
    EXPECT_EQ(shared(a, b, 2), PromptSketch::grams_each);
    EXPECT_NE(a.content, b.content);
}

TEST(Sketch, ComesBackAsItWent) {
    PromptView view;
    view.system = "You are a careful assistant who answers in verse";
    view.user =
        "\xe8\xaf\xb7\xe7\xbf\xbb\xe8\xaf\x91\xe8\xbf\x99\xe5\x8f\xa5\xe8\xaf\x9d explain step by step";
    view.follow_up = true;
    view.logit_bias = "{\"5\":100}";
    add_message(view, "user", view.user);
    const PromptSketch made = sketch_prompt(key, view);
    EXPECT_TRUE(made.elicits_reasoning);
    EXPECT_NE(made.bias, 0U);
    EXPECT_NE(made.grams[PromptSketch::grams_each], PromptSketch::no_gram);
    const std::string bytes = write_sketch(made);
    const auto back = read_sketch(bytes);
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, made);
    for (std::size_t size = 0; size < bytes.size(); ++size) EXPECT_FALSE(read_sketch(bytes.substr(0, size)));
    EXPECT_FALSE(read_sketch(std::string(1, '\2') + bytes.substr(1)));
}

// The bound is 20 us a request; this fails at twice that, so that a busy machine does not.
TEST(Sketch, IsQuick) {
    base::RandomStream random(1);
    std::vector<std::string> prompts;
    for (int i = 0; i < 200; ++i) {
        std::string text;
        for (int j = 0; j < 700; ++j) {
            const std::uint64_t size = 2 + random.below(8);
            for (std::uint64_t k = 0; k < size; ++k) text += static_cast<char>('a' + random.below(26));
            text += ' ';
        }
        prompts.push_back(std::move(text));
    }
    double best = 1e9;
    for (int round = 0; round < 5; ++round) {
        const double start = base::monotonic_seconds();
        std::size_t bytes = 0;
        for (const std::string& prompt : prompts) {
            PromptView view;
            view.system = prompt;
            view.user = prompt;
            add_message(view, "system", prompt);
            add_message(view, "user", prompt);
            bytes += write_sketch(sketch_prompt(key, view)).size();
        }
        EXPECT_GT(bytes, 0U);
        best = std::min(best, (base::monotonic_seconds() - start) / static_cast<double>(prompts.size()));
    }
    printf("a sketch of 2 x 4 KB takes %.2f us\n", best * 1e6);
    EXPECT_LT(best, 40e-6);
}

}  // namespace
}  // namespace retort::guard
