#include <gtest/gtest.h>

#include <filesystem>

#include "data/prompts.h"
#include "data/spec_file.h"
#include "data/verify.h"

namespace retort::data {
namespace {

using formats::Json;

Verifier verifier(std::string_view toml) {
    const auto spec = parse_spec(toml, "spec");
    EXPECT_TRUE(spec) << spec.error().message;
    auto made = Verifier::from_spec(*spec);
    EXPECT_TRUE(made) << made.error().message;
    return *made;
}

std::string fault(std::string_view toml) {
    const auto spec = parse_spec(toml, "spec");
    if (!spec) return spec.error().message;
    const auto made = Verifier::from_spec(*spec);
    return made ? std::string() : made.error().message;
}

// Empty when it passes.
std::string reason(const Verifier& rule, std::string_view answer, const Json& metadata = Json::object()) {
    const auto verdict = rule.check(answer, metadata);
    EXPECT_TRUE(verdict) << verdict.error().message;
    return verdict->passed ? std::string() : verdict->reason;
}

TEST(Verify, sentences_are_counted) {
    EXPECT_EQ(count_sentences(""), 0);
    EXPECT_EQ(count_sentences("A kettle boils water."), 1);
    EXPECT_EQ(count_sentences("A kettle boils water"), 1);
    EXPECT_EQ(count_sentences("One. Two! Three?"), 3);
    EXPECT_EQ(count_sentences("It costs 3.50 at Mr. Smith's, e.g. on J. Street."), 1);
    EXPECT_EQ(count_sentences("Wait... what?! Yes."), 2);
    EXPECT_EQ(count_sentences("\"Stop!\" he said. She did."), 2);
    EXPECT_EQ(count_sentences("He said \u201cno.\u201d"), 1);
    EXPECT_EQ(count_sentences("First line.\nSecond line."), 2);
    EXPECT_EQ(count_sentences("..."), 0);
}

TEST(Verify, sentences_rule) {
    const Verifier rule =
        verifier("type = \"sentences\"\nmax = 1\nmin_words = 3\nmax_words = 12\nmust_mention = \"{thing}\"");
    const Json kettle = {{"thing", "kettle"}};
    EXPECT_EQ(reason(rule, " A kettle is a pot for boiling water. ", kettle), "");
    EXPECT_EQ(reason(rule, "Kettles are pots for boiling water.", kettle), "");
    EXPECT_NE(reason(rule, "A pot for boiling water.", kettle), "");
    EXPECT_NE(reason(rule, "A kettledrum is a drum.", kettle), "");
    EXPECT_NE(reason(rule, "A kettle boils water. It is hot.", kettle), "");
    EXPECT_NE(reason(rule, "A kettle is a pot for boiling water and", kettle), "");
    EXPECT_NE(reason(rule, "- A kettle boils water.", kettle), "");
    EXPECT_NE(reason(rule, "1. A kettle boils water.", kettle), "");
    EXPECT_NE(reason(rule, "A kettle.", kettle), "");
    EXPECT_NE(reason(rule, "", kettle), "");
    EXPECT_EQ(reason(verifier("type = \"sentences\"\nmust_mention = \"shelf\""), "Shelves hold many books."),
              "");
    // What the prompt does not say is a fault of the job, not of the answer.
    EXPECT_FALSE(rule.check("A kettle is hot.", Json::object()));
}

TEST(Verify, regex_rule) {
    EXPECT_EQ(reason(verifier("type = \"regex\"\npattern = '^\\d+$'"), "123"), "");
    EXPECT_NE(reason(verifier("type = \"regex\"\npattern = '^\\d+$'"), "12a"), "");
    EXPECT_NE(reason(verifier("type = \"regex\"\npattern = 'b'\nwhole = true"), "abc"), "");
    EXPECT_EQ(reason(verifier("type = \"regex\"\npattern = 'KETTLE'\nignore_case = true"), "a kettle"), "");
    EXPECT_NE(reason(verifier("type = \"regex\"\npattern = 'sorry'\ninvert = true"), "sorry"), "");
    // Exponential backtracking ends with an error, not with a hang.
    const Verifier slow = verifier("type = \"regex\"\npattern = '^(a+)+$'");
    const auto verdict = slow.check(std::string(40, 'a') + "b", Json::object());
    EXPECT_TRUE(!verdict || !verdict->passed);
    EXPECT_NE(fault("type = \"regex\"\npattern = '('"), "");
}

TEST(Verify, numbers) {
    EXPECT_EQ(parse_number("3/4").numerator, 3);
    EXPECT_EQ(parse_number("6/8").denominator, 4);
    EXPECT_EQ(parse_number("\\frac{-3}{4}").numerator, -3);
    EXPECT_EQ(parse_number("-\\frac{3}{4}").value, -0.75);
    EXPECT_EQ(parse_number("0.75").denominator, 4);
    EXPECT_EQ(parse_number("1,234.5").value, 1234.5);
    EXPECT_EQ(parse_number("$12").value, 12);
    EXPECT_EQ(parse_number("75%").value, 0.75);
    for (const std::string_view bad : {"", "x", "1,23", "3/0", "1/2/3", "--1", "1e999", "\\frac{1}2"}) {
        EXPECT_FALSE(parse_number(bad).valid) << bad;
    }
    EXPECT_EQ(final_number_text("So 3 and 4 make 7."), "7");
    EXPECT_EQ(final_number_text("= \\boxed{\\frac{1}{2}}, not 3"), "\\frac{1}{2}");
    EXPECT_EQ(final_number_text("steps\n#### 1,250"), "1,250");
    EXPECT_EQ(final_number_text("it falls to -3.5 degrees"), "-3.5");
    EXPECT_EQ(final_number_text("1/2 is 50%"), "50%");
    EXPECT_EQ(final_number_text("none"), "");
}

TEST(Verify, numeric_and_choice_rules) {
    const Verifier numeric = verifier("type = \"numeric\"\nexpected = \"{answer}\"");
    const Json half = {{"answer", "1/2"}};
    EXPECT_EQ(reason(numeric, "The share is 0.5", half), "");
    EXPECT_EQ(reason(numeric, "\\boxed{\\frac{2}{4}}", half), "");
    EXPECT_EQ(reason(numeric, "50%", half), "");
    EXPECT_NE(reason(numeric, "0.51", half), "");
    EXPECT_EQ(reason(verifier("type = \"numeric\"\nexpected = \"3.14159\"\ntolerance = 0.001"), "about 3.14"),
              "");
    const Verifier choice = verifier("type = \"choice\"\nexpected = \"{answer}\"");
    const Json b = {{"answer", "B"}};
    EXPECT_EQ(reason(choice, "The answer is (B).", b), "");
    EXPECT_EQ(reason(choice, "\\boxed{B}", b), "");
    EXPECT_EQ(reason(choice, "B. A kettle is hot.", b), "");
    EXPECT_NE(reason(choice, "Not B but C.", b), "");
    EXPECT_NE(reason(choice, "I am not sure", b), "");
}

TEST(Verify, combinations_and_faults) {
    const Verifier both = verifier(
        "type = \"all\"\n[[checks]]\ntype = \"sentences\"\nmax = 1\n[[checks]]\ntype = \"regex\"\npattern = "
        "'^A '");
    EXPECT_EQ(reason(both, "A kettle is hot."), "");
    EXPECT_NE(reason(both, "The kettle is hot."), "");
    const Verifier any = verifier(
        "type = \"any\"\n[[checks]]\ntype = \"equals\"\nexpected = \"yes\"\n[[checks]]\ntype = "
        "\"equals\"\nexpected = \"no\"");
    EXPECT_EQ(reason(any, "Yes."), "");
    EXPECT_NE(reason(any, "maybe"), "");
    EXPECT_NE(fault("type = \"sentence\"").find("unknown"), std::string::npos);
    EXPECT_NE(fault("type = \"sentences\"\nmaximum = 1").find("maximum"), std::string::npos);
    EXPECT_NE(fault("type = \"sentences\"\nmin = 3\nmax = 2").find("below"), std::string::npos);
    EXPECT_NE(fault("type = \"all\"").find("checks"), std::string::npos);
    EXPECT_NE(fault("type = ").find("spec:1"), std::string::npos);
}

TEST(Verify, the_demonstrations_own_rule_is_sound) {
    const std::filesystem::path folder = std::filesystem::path(RETORT_SOURCE_DIR) / "recipes/prompts";
    const auto rule = Verifier::from_file(folder / "everyday-things.verify.toml");
    ASSERT_TRUE(rule) << rule.error().message;
    const auto prompts = read_prompts(folder / "everyday-things.jsonl");
    ASSERT_TRUE(prompts);
    for (const Prompt& prompt : *prompts) {
        const std::string thing = prompt.metadata["thing"];
        EXPECT_EQ(reason(*rule, "One may say that a " + thing + " is a thing.", prompt.metadata), "");
        EXPECT_NE(reason(*rule, "One may say that this is a thing of its own.", prompt.metadata), "")
            << thing;
    }
}

}  // namespace
}  // namespace retort::data
