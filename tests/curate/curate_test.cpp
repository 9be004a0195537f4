#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/file.h"
#include "base/random.h"
#include "curate/curate.h"
#include "curate/near_duplicates.h"
#include "data/prompts.h"
#include "data/spec_file.h"
#include "records_file.h"

namespace retort::curate {
namespace {

namespace fs = std::filesystem;
using data::Record;

fs::path scratch(const std::string& name) {
    return empty_folder("retort_curate_" + name);
}

Record record_of(std::string prompt, std::string answer, std::int64_t sample = 0) {
    Record record;
    record.request.messages = {{.role = "user", .content = std::move(prompt)}};
    record.request.model = "t";
    record.request.max_tokens = 50;
    record.request.sample = sample;
    record.content = std::move(answer);
    record.finish_reason = "stop";
    record.terms_id = "x";
    record.usage = {.prompt_tokens = 5, .completion_tokens = 6};
    data::seal(record);
    return record;
}

// A sentence of words that no other has.
std::string sentence(std::uint64_t seed, int words) {
    base::RandomStream random(seed, 77);
    std::string text;
    for (int i = 0; i < words; ++i) {
        text += text.empty() ? "" : " ";
        for (int k = 0; k < 6; ++k) text.push_back(static_cast<char>('a' + random.below(26)));
    }
    return text + ".";
}

CurateOptions options_for(const fs::path& folder, const std::vector<Record>& records) {
    CurateOptions options;
    options.inputs = {write_records(folder, records)};
    options.output = folder / "out";
    options.quiet = true;
    return options;
}

std::map<std::string, std::string> reasons(const fs::path& output) {
    std::map<std::string, std::string> found;
    const auto dropped = data::read_records(output / "dropped.jsonl");
    EXPECT_TRUE(dropped) << dropped.error().message;
    for (const Record& record : *dropped) {
        found[record.request.messages[0].content] = record.verdicts["dropped"]["reason"];
    }
    return found;
}

TEST(Filters, refusals) {
    EXPECT_TRUE(refusal_phrase("I\u2019m sorry, but I can\u2019t help."));
    EXPECT_TRUE(refusal_phrase("As an AI language model, I have no kettle."));
    // As SmolLM2-135M-Instruct put it.
    EXPECT_TRUE(refusal_phrase(
        "I'm sorry for any misunderstanding, but as a chatbot I don't have the capability to."));
    EXPECT_FALSE(refusal_phrase("He said that he was sorry."));
    EXPECT_FALSE(refusal_phrase(std::string(250, 'x') + " I cannot provide that."));
}

TEST(Filters, repetition) {
    const RepetitionLimits limits;
    EXPECT_FALSE(repetition("A kettle is a pot that is used for boiling water over a fire.", limits));
    EXPECT_TRUE(repetition("good good good good good good good good", limits));
    EXPECT_TRUE(repetition("it goes on and it goes on and it goes on and it goes on and", limits));
    EXPECT_FALSE(repetition("very, very, very big", limits));
    EXPECT_TRUE(repetition("a" + std::string(40, 'h'), limits));
    EXPECT_FALSE(repetition("heading\n" + std::string(60, '-') + "\ntext", limits));
    // Each sentence twice: half of the 4-grams were there before.
    const std::string once = sentence(1, 15) + " " + sentence(2, 15) + " ";
    EXPECT_FALSE(repetition(once, limits));
    EXPECT_TRUE(repetition(once + once, limits));
    std::string few;
    base::RandomStream random(4);
    for (int i = 0; i < 80; ++i) few += std::string(1, static_cast<char>('a' + random.below(9))) + " ";
    EXPECT_TRUE(repetition(few, {.repeated_ngrams = 1, .loop_repeats = 1000}));
}

TEST(Filters, scripts_and_languages) {
    EXPECT_FALSE(foreign_script("What is tea?", "Tea is a drink of leaves.", 0.1));
    EXPECT_EQ(foreign_script("What is tea?", "Tea \u8336\u53f6\u996e\u6599\u662f\u4e00 is a drink.", 0.1),
              Script::east_asian);
    EXPECT_FALSE(
        foreign_script("What is \u8336?", "Tea \u8336\u53f6\u996e\u6599\u662f\u4e00 is a drink.", 0.1));
    EXPECT_EQ(guess_language("The kettle is a pot for the boiling of water and it is hot."), "en");
    EXPECT_EQ(guess_language("Der Kessel ist ein Topf und die Kanne ist nicht auf dem Herd."), "de");
    EXPECT_EQ(guess_language("La bouilloire est un pot pour les amis qui sont dans une cuisine."), "fr");
    EXPECT_EQ(guess_language("short text"), "");
}

TEST(NearDuplicates, planted_likes_are_found_and_others_are_not) {
    // 40 texts of 60 words; of each a copy with k words changed in one place: a run of k changed words leaves
    // 56 − (k + 4) of 56 5-grams the same, so the similarity is (52 − k) / (60 + k).
    NearDuplicates near(0.8);
    std::vector<std::vector<std::string>> texts;
    for (std::uint64_t i = 0; i < 40; ++i) {
        texts.push_back(words_of(sentence(i, 60)));
        std::string text;
        for (const std::string& word : texts.back()) text += word + " ";
        EXPECT_EQ(near.add(text, static_cast<std::int64_t>(i)).index, -1) << i;
    }
    const auto changed = [&](std::uint64_t i, int count) {
        std::string text;
        for (std::size_t w = 0; w < 60; ++w) {
            const bool inside = w >= 20 && w < 20 + static_cast<std::size_t>(count);
            text += (inside ? "changed" + std::to_string(w) : texts[i][w]) + " ";
        }
        return text;
    };
    int found = 0;
    for (std::uint64_t i = 0; i < 40; ++i) {
        const auto match = near.add(changed(i, 1), 1000);
        found += match.index == static_cast<std::int64_t>(i) ? 1 : 0;
        EXPECT_NEAR(match.similarity, 51.0 / 61, 1e-9);
        // 40 of 72: below the threshold.
        EXPECT_EQ(near.add(changed(i, 12), 2000).index, -1);
    }
    // A pair at 0.836 is missed with probability (1 − 0.836⁴)³² = 2e-9: all must be found.
    EXPECT_EQ(found, 40);
    EXPECT_EQ(near.add("", 1).index, -1);
    EXPECT_EQ(jaccard(shingles("a b c"), shingles("A, b: c!")), 1);
}

TEST(Curate, each_fault_goes_by_its_own_name) {
    const fs::path folder = scratch("reasons");
    std::ofstream(folder / "eval.jsonl")
        << "{\"prompt\":\"the quick brown fox jumps over the lazy dog today\"}\n";
    std::vector<Record> records = {
        record_of("good", "A kettle boils water for the tea."),
        record_of("empty", "  "),
        record_of("short", "No."),
        record_of("long", sentence(1, 60)),
        record_of("cut", "A kettle is a thing for"),
        record_of("refusal", "I'm sorry, but I can't say."),
        record_of("loop", "round and round and round and round and round and round and"),
        record_of("script", "A kettle \u8336\u53f6\u996e\u6599\u662f\u4e00\u79cd boils."),
        record_of("german", "Der Kessel ist ein Topf und die Kanne ist nicht auf dem Herd."),
        record_of("rule", "A pan is used to fry eggs. It is hot."),
        record_of("leak", "They say the quick brown fox jumps over the lazy dog."),
        record_of("good", "A kettle boils water for the tea.", 1),
        record_of("other", "A kettle boils water for the tea!"),
        record_of("open", "<think>A kettle is a thing that"),
        record_of("code", "A lid keeps the steam inside."),
    };
    records[14].reasoning = "```python\nprint(1)\n```";
    data::seal(records[14]);
    records[4].finish_reason = "length";
    data::seal(records[4]);
    CurateOptions options = options_for(folder, records);
    options.min_characters = 5;
    options.max_characters = 200;
    options.language = "en";
    options.decontaminate = {folder / "eval.jsonl"};
    options.verifier = *data::Verifier::from_spec(*data::parse_spec("type = \"sentences\"\nmax = 1", "v"));
    const auto report = curate(options);
    ASSERT_TRUE(report) << report.error().message;
    const std::map<std::string, std::int64_t> expected = {
        {"empty", 1},        {"too_short", 1},      {"too_long", 1},       {"truncated", 1}, {"refusal", 1},
        {"repetitive", 1},   {"language", 1},       {"mixed_language", 1}, {"verifier", 1},  {"duplicate", 1},
        {"contaminated", 1}, {"near_duplicate", 1}, {"reasoning", 2}};
    EXPECT_EQ(report->dropped, expected);
    EXPECT_EQ(report->read, 15);
    EXPECT_EQ(report->kept, 1);
    auto found = reasons(options.output);
    EXPECT_EQ(found["other"], "near_duplicate");
    EXPECT_EQ(found["leak"], "contaminated");
    EXPECT_EQ(found["cut"], "truncated");
    EXPECT_EQ(found["script"], "mixed_language");
    EXPECT_EQ(report->verified_passed, report->verified - 1);
    EXPECT_EQ(report->parents.size(), 1U);
}

TEST(Curate, an_evaluation_set_may_be_records_and_its_questions_may_hide_in_reasoning) {
    const fs::path folder = scratch("leak");
    Record held_out = record_of("How many legs have two spiders?", "They have sixteen legs.");
    held_out.request.messages.insert(
        held_out.request.messages.begin(),
        {.role = "system", .content = "You are a kind teacher who always answers briefly."});
    data::seal(held_out);
    fs::create_directories(folder / "eval");
    const fs::path evaluation = write_records(folder / "eval", {held_out});
    std::vector<Record> records = {
        record_of("How many legs have two spiders?", "There are sixteen."),
        record_of("echo", "They have sixteen legs."),
        record_of("thought", "Eight."),
        record_of("You are a kind teacher who always answers briefly.", "I am."),
    };
    records[2].reasoning = "They asked me how many legs have two spiders, they have sixteen legs.";
    records[3].request.messages.insert(
        records[3].request.messages.begin(),
        {.role = "system", .content = "You are a kind teacher who always answers briefly."});
    for (Record& record : records) data::seal(record);
    CurateOptions options = options_for(folder, records);
    options.decontaminate = {evaluation};
    options.contamination_ngram = 6;
    const auto report = curate(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->dropped, (std::map<std::string, std::int64_t>{{"contaminated", 3}}));
    EXPECT_EQ(report->kept, 1);
}

TEST(Curate, another_way_to_the_same_answer_is_another_answer) {
    const fs::path folder = scratch("ways");
    std::vector<Record> records = {record_of("What is 2+2?", "4", 0), record_of("What is 2+2?", "4", 1),
                                   record_of("What is 2+2?", "4", 2)};
    records[0].reasoning = "Two and two more make four, as any child can count on its fingers.";
    records[1].reasoning = "Half of eight is what is asked for here, and that half has the name four.";
    records[2].reasoning = records[0].reasoning;
    for (Record& record : records) data::seal(record);
    const auto report = curate(options_for(folder, records));
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->kept, 2);
    EXPECT_EQ(report->dropped, (std::map<std::string, std::int64_t>{{"duplicate", 1}}));
}

std::vector<Record> many(int prompts, int samples) {
    std::vector<Record> records;
    for (int i = 0; i < prompts; ++i) {
        for (int s = 0; s < samples; ++s) {
            records.push_back(record_of("What is thing " + std::to_string(i) + "?",
                                        sentence(static_cast<std::uint64_t>(i * 100 + s), 12), s));
        }
    }
    return records;
}

TEST(Curate, splits_never_share_a_prompt_and_keep_their_shares) {
    const fs::path folder = scratch("splits");
    auto records = many(1000, 2);
    records.push_back(record_of("WHAT is thing 7", sentence(99'999, 12)));  // a trivial variant
    CurateOptions options = options_for(folder, records);
    const auto report = curate(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->kept, 2001);
    std::map<std::string, std::string> split_of_prompt;
    std::int64_t total = 0;
    for (const char* name : {"train", "validation", "test"}) {
        const fs::path path = options.output / (std::string(name) + ".jsonl");
        EXPECT_TRUE(data::check_records(path));
        const auto part = data::read_records(path);
        ASSERT_TRUE(part);
        total += static_cast<std::int64_t>(part->size());
        for (const Record& record : *part) {
            const auto [place, fresh] =
                split_of_prompt.emplace(data::normalised_prompt(record.request.messages), name);
            EXPECT_EQ(place->second, name);
        }
    }
    EXPECT_EQ(total, 2001);
    // Binomial(1000, 0.1): standard deviation 9.5; five of them.
    EXPECT_NEAR(static_cast<double>(report->prompts.at("test")), 100, 48);
    EXPECT_NEAR(static_cast<double>(report->prompts.at("validation")), 100, 48);
    options.split_salt = "another";
    EXPECT_NE(curate(options)->splits.at("test").merkle_root, report->splits.at("test").merkle_root);
}

TEST(Curate, the_same_inputs_give_the_same_bytes) {
    const fs::path folder = scratch("same");
    CurateOptions options = options_for(folder, many(200, 2));
    std::vector<std::string> first;
    for (int round = 0; round < 2; ++round) {
        options.output = folder / ("out" + std::to_string(round));
        ASSERT_TRUE(curate(options));
        std::vector<std::string> bytes;
        for (const char* file : {"train.jsonl", "validation.jsonl", "test.jsonl", "dropped.jsonl",
                                 "report.json", "train.manifest.json", "messages/train.jsonl"}) {
            bytes.push_back(*base::read_file(options.output / file));
        }
        if (round == 0) first = bytes;
        EXPECT_EQ(bytes, first);
    }
    EXPECT_NE(first[6].find("{\"messages\":[{\"content\":"), std::string::npos);
}

TEST(Curate, faults_of_the_job_are_errors) {
    const fs::path folder = scratch("faults");
    CurateOptions options = options_for(folder, many(3, 1));
    options.inputs.push_back(folder / "absent.jsonl");
    EXPECT_EQ(curate(options).error().code, ErrorCode::not_found);
    options.inputs.pop_back();
    options.verifier = *data::Verifier::from_spec(
        *data::parse_spec("type = \"sentences\"\nmust_mention = \"{thing}\"", "v"));
    const auto report = curate(options);
    ASSERT_FALSE(report);
    EXPECT_NE(report.error().message.find("metadata"), std::string::npos) << report.error().message;
    EXPECT_FALSE(fs::exists(options.output / "train.jsonl"));
    options.verifier.reset();
    options.test_share = 0.95;
    EXPECT_EQ(curate(options).error().code, ErrorCode::invalid_argument);
    options.test_share = 0.1;
    options.language = "xx";
    EXPECT_EQ(curate(options).error().code, ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace retort::curate
