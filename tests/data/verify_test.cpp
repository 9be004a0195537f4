#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "base/sandbox.h"
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

TEST(Verify, json_schema_rule) {
    const Verifier rule = verifier(R"(
type = "json_schema"
[schema]
type = "object"
required = ["name", "age"]
additionalProperties = false
[schema.properties.name]
type = "string"
pattern = "^[A-Z]"
maxLength = 5
[schema.properties.age]
type = "integer"
minimum = 0
exclusiveMaximum = 150
[schema.properties.tags]
type = "array"
minItems = 1
items = { enum = ["a", "b"] }
[schema.properties.size]
anyOf = [ { type = "null" }, { type = "number", multipleOf = 0.5 } ]
)");
    EXPECT_EQ(reason(rule, R"( {"age": 7.0, "name": "Ada", "tags": ["a", "b"], "size": 1.5} )"), "");
    EXPECT_NE(reason(rule, "Ada is 7.").find("no JSON"), std::string::npos);
    EXPECT_EQ(reason(rule, R"({"name": "Ada"})"), "answer has no \"age\"");
    EXPECT_EQ(reason(rule, R"({"name": "Ada", "age": 7, "x": 1})"), "answer.x must not be there");
    EXPECT_EQ(reason(rule, R"({"name": "ada", "age": 7})"), "answer.name does not match \"^[A-Z]\"");
    EXPECT_EQ(reason(rule, R"({"name": "Adalbert", "age": 7})"), "answer.name has 8 characters");
    EXPECT_NE(reason(rule, R"({"name": "Ada", "age": 150})"), "");
    EXPECT_NE(reason(rule, R"({"name": "Ada", "age": 7.5})"), "");
    EXPECT_NE(reason(rule, R"({"name": "Ada", "age": "7"})"), "");
    EXPECT_EQ(reason(rule, R"({"name": "Ada", "age": 7, "tags": []})"), "answer.tags has 0 entries");
    EXPECT_NE(reason(rule, R"({"name": "Ada", "age": 7, "tags": ["c"]})").find("answer.tags[0]"),
              std::string::npos);
    EXPECT_NE(reason(rule, R"({"name": "Ada", "age": 7, "size": 0.3})"), "");
    EXPECT_NE(reason(rule, "```json\n{\"name\": \"Ada\", \"age\": 7}\n```"), "");
    const Verifier fenced = verifier("type = \"json_schema\"\nfenced = true\nschema = { type = \"object\" }");
    EXPECT_EQ(reason(fenced, "```json\n{\"name\": 1}\n```"), "");
    EXPECT_NE(fault("type = \"json_schema\"\nschema = { \"$ref\" = \"#\" }").find("$ref"), std::string::npos);
    EXPECT_NE(fault("type = \"json_schema\"\nschema = { type = \"text\" }").find("text"), std::string::npos);
    EXPECT_NE(fault("type = \"json_schema\""), "");
}

// Whether this machine lets a user make namespaces at all.
bool sandbox_allowed() {
    return base::run_in_sandbox({"true"}, "", {}).has_value();
}

std::string shell(std::string_view script, std::string_view more = "") {
    return fmt::format("type = \"command\"\ncommand = [\"sh\", \"-c\", '{}']\n{}", script, more);
}

TEST(Verify, command_rule_judges_by_exit_status) {
    if (!sandbox_allowed()) GTEST_SKIP() << "no user namespaces here";
    const Verifier kettle = verifier(shell("grep -q kettle || {{ echo no kettle; exit 1; }"));
    EXPECT_EQ(reason(kettle, "a kettle"), "");
    EXPECT_EQ(reason(kettle, "a pot"), "no kettle");
    EXPECT_NE(reason(verifier(shell("exit 3")), "x").find("exit status 3"), std::string::npos);
    const Verifier with =
        verifier("type = \"command\"\ncommand = [\"grep\", \"-q\", \"answer.*{thing}.*meta\"]");
    EXPECT_EQ(reason(with, "a pot", {{"thing", "pot"}}), "");
    EXPECT_NE(reason(with, "a kettle", {{"thing", "pot"}}), "");
    const auto missing =
        verifier("type = \"command\"\ncommand = [\"no-such-program\"]").check("x", Json::object());
    ASSERT_FALSE(missing);
    EXPECT_NE(missing.error().message.find("no-such-program"), std::string::npos);
    EXPECT_NE(fault("type = \"command\"\ncommand = \"true\""), "");
    EXPECT_NE(fault("type = \"command\"\ncommand = [\"true\"]\nseconds = 0"), "");
}

TEST(Verify, command_rule_is_held_in) {
    if (!sandbox_allowed()) GTEST_SKIP() << "no user namespaces here";
    const auto passes = [](std::string_view script, std::string_view more = "") {
        return reason(verifier(shell(script, more)), "x").empty();
    };
    // Nothing of the machine can be written; its own folder can, up to the limit.
    const std::string outside = std::filesystem::current_path() / "retort_sandbox_outside";
    EXPECT_FALSE(passes("echo x > " + outside));
    EXPECT_FALSE(std::filesystem::exists(outside));
    EXPECT_FALSE(passes("echo x > /dev/shm/retort_sandbox"));
    EXPECT_TRUE(passes("echo x > inside && test -s inside"));
    EXPECT_TRUE(passes("head -c 3000000 /dev/zero > big", "files_mb = 4"));
    EXPECT_FALSE(passes("head -c 3000000 /dev/zero > big", "files_mb = 1"));
    // No network but a loopback of its own, and no route.
    EXPECT_TRUE(passes("test $(tail -n +3 /proc/self/net/dev | wc -l) -eq 1"));
    EXPECT_TRUE(passes("test $(wc -l < /proc/self/net/route) -le 1"));
    EXPECT_TRUE(passes("head -c 20000000 /dev/zero | tail -c 20000000 > /dev/null", "memory_mb = 256"));
    EXPECT_FALSE(passes("head -c 200000000 /dev/zero | tail -c 200000000 > /dev/null", "memory_mb = 64"));
    const auto began = std::chrono::steady_clock::now();
    EXPECT_FALSE(passes("sleep 60 & sleep 60", "seconds = 0.3"));
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(20));
    // No environment of ours.
    EXPECT_TRUE(passes("test -z \"$USER$GTEST_FILTER$RETORT_BIN\" && test \"$HOME\" = /tmp"));
}

}  // namespace
}  // namespace retort::data
